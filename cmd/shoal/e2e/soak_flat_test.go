//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sample is what the whole ring took at a time when nothing was wrong with it.
type sample struct {
	at   time.Time
	what map[string]float64
}

// flatness is how much a figure, of all five machines together, may grow by: so much however short the run is, as between two looks
// at a ring with another spread of pods, substitutes that stay for minutes, and agents that were just started or are warm; and
// so much an hour. A process leaks where something is lost at every fault, of which there are several hundred an hour: one
// descriptor, mount, link, rule or cgroup each would be ten times the bounds.
var flatness = []struct {
	name         string
	once, hourly float64
	unit         string
	why          string
}{
	{name: "agents' memory", once: 120, hourly: 50, unit: "MiB", why: "a warm agent takes up to 24 MiB more than a new one"},
	{name: "containerds' memory", once: 75, hourly: 25, unit: "MiB", why: "15 MiB each between one just started and one that has unpacked images"},
	{name: "agents' descriptors", once: 100, hourly: 60, why: "connections to four others, of which those to lost machines last for 30 s; three for a pod"},
	{name: "files of git packs", once: 260, hourly: 0, why: "two of one more with each push, until more than 24 are merged: 50 on each of five machines"},
	{name: "containerds' descriptors", once: 60, hourly: 30, why: "its clients' connections"},
	{name: "agents' threads", once: 60, hourly: 20, why: "as many as ever blocked at once"},
	{name: "rules", once: 120, hourly: 60, why: "lines of nft, a dozen for an endpoint"},
	{name: "links", once: 12, hourly: 6, why: "one for a pod on a machine's side"},
	{name: "mounts", once: 100, hourly: 40, why: "about eight for a pod"},
	{name: "cgroups", once: 60, hourly: 30, why: "three a pod and controller"},
	{name: "processes", once: 24, hourly: 8, why: "two for a pod"},
	{name: "run files", once: 250, hourly: 120, why: "about twenty for a pod"},
	{name: "data", once: 250, hourly: 400, unit: "MiB", why: "commits, logs and entries; the ledger keeps 8 MiB segments"},
}

// measure counts what the ring takes.
func (s *soak) measure() sample {
	sum := map[string]float64{}
	for _, n := range s.r.nodes {
		n.hangUp()
	}
	time.Sleep(300 * time.Millisecond) // until the agents have noticed
	for _, n := range s.r.nodes {
		roles := n.processes()
		for role, name := range map[string]string{"agent": "agents'", "containerd": "containerds'"} {
			for _, pid := range roles[role] {
				sum[name+" memory"] += memory(pid, "Pss")
				for what, n := range descriptors(pid) {
					if strings.HasSuffix(what, "/git/objects/pack") {
						sum["files of git packs"] += float64(n)
						continue
					}
					sum[name+" descriptors"] += float64(n)
				}
				if role == "agent" {
					sum[name+" threads"] += entries(fmt.Sprintf("/proc/%d/task", pid))
				}
			}
		}
		sum["rules"] += float64(strings.Count(n.must("nft", "list", "ruleset"), "\n"))
		sum["links"] += float64(strings.Count(n.must("ip", "-o", "link"), "\n"))
		mounts, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", n.holder.Process.Pid))
		sum["mounts"] += float64(strings.Count(string(mounts), "\n"))
		for _, left := range n.left(n.mark) {
			if strings.HasPrefix(left, "/proc") {
				sum["processes"]++
			} else {
				sum["cgroups"]++
			}
		}
		sum["run files"] += files(filepath.Join(n.root(), n.Run))
		var kib float64
		_, _ = fmt.Sscan(n.must("du", "-sk", filepath.Dir(n.Data)), &kib)
		sum["data"] += kib / 1024
	}
	return sample{time.Now(), sum}
}

// root is where a machine's files are seen from outside.
func (n *Node) root() string { return fmt.Sprintf("/proc/%d/root", n.holder.Process.Pid) }

func entries(dir string) float64 { all, _ := os.ReadDir(dir); return float64(len(all)) }

// files counts what lies below a directory; what cannot be read, as a pod's root that has just gone, counts once.
func files(dir string) (n float64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		n++
		if err == nil && d.IsDir() && d.Name() == "rootfs" {
			return filepath.SkipDir
		}
		return nil
	})
	return n
}

// flat fits a line to each figure and fails the test where it rises by more than it may.
func (s *soak) flat() {
	s.t.Helper()
	all := s.samples
	if len(all) > 3 {
		all = all[1:] // the first is of agents that were just started
	}
	span := all[len(all)-1].at.Sub(all[0].at)
	for _, f := range flatness {
		var x, y []float64
		for _, one := range all {
			x, y = append(x, one.at.Sub(all[0].at).Hours()), append(y, one.what[f.name])
		}
		slope := slopeOf(x, y)
		grew, may := slope*span.Hours(), f.once+f.hourly*span.Hours()
		s.t.Logf("%-24s %6.0f to %6.0f %-3s fits %+8.1f over %s; up to %.0f are allowed (%s)", f.name, slices.Min(y), slices.Max(y), f.unit, grew, span.Round(time.Second), may, f.why)
		s.checks++
		if grew > may && strings.Contains(f.name, "descriptors") {
			for _, n := range s.r.nodes {
				for _, pid := range n.processes()[strings.TrimSuffix(strings.Fields(f.name)[0], "s'")] {
					s.t.Logf("%s: %v", n.name, descriptors(pid))
				}
			}
		}
		if grew > may {
			s.t.Errorf("%s grows: %+.1f %s over %s, where %.0f are allowed: %.0f", f.name, grew, f.unit, span.Round(time.Second), may, y)
		}
	}
}

// slopeOf is that of the line with the least squares.
func slopeOf(x, y []float64) float64 {
	var mx, my, xy, xx float64
	for i := range x {
		mx, my = mx+x[i]/float64(len(x)), my+y[i]/float64(len(x))
	}
	for i := range x {
		xy, xx = xy+(x[i]-mx)*(y[i]-my), xx+(x[i]-mx)*(x[i]-mx)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}

// descriptors tells what a process has open, by kind, as "unix:/run/shoal/agent.sock 12", to find what is lost.
func descriptors(pid int) map[string]int {
	sockets := map[string]string{}
	for _, kind := range []string{"unix", "tcp", "tcp6", "udp", "udp6", "netlink", "packet"} {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, kind))
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			switch {
			case kind == "unix" && len(f) > 6:
				sockets[f[6]] = "unix:" + strings.Join(f[7:], " ")
			case kind == "netlink" && len(f) > 9:
				sockets[f[9]] = "netlink"
			case len(f) > 9:
				sockets[f[9]] = kind + " " + f[1][strings.LastIndexByte(f[1], ':')+1:] + " state " + f[3]
			}
		}
	}
	open := map[string]int{}
	all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, fd := range all {
		what, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		if inode, ok := strings.CutPrefix(what, "socket:["); ok {
			what = sockets[strings.TrimSuffix(inode, "]")]
		} else if strings.HasPrefix(what, "/") && filepath.Base(what) != "null" {
			what = filepath.Dir(what)
		}
		open[what]++
	}
	return open
}
