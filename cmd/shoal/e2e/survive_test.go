//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// load sends requests, each over a connection of its own, until stopped, and counts what failed.
type load struct {
	sent, failed atomic.Int64
	first        atomic.Value // the first failure
	stop         context.CancelFunc
	done         sync.WaitGroup
}

func (n *Node) load(url string, clients int) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop}
	for range clients {
		l.done.Go(func() {
			client := n.HTTP()
			for ctx.Err() == nil {
				l.sent.Add(1)
				resp, err := client.Get(url)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err == nil && resp.StatusCode != http.StatusOK {
						err = fmt.Errorf("%s", resp.Status)
					}
				}
				if err != nil {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, err.Error())
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return l
}

// end stops the load and fails the test if any request failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.done.Wait()
	t.Logf("%d requests, %d failed", l.sent.Load(), l.failed.Load())
	if l.failed.Load() > 0 {
		t.Errorf("%d of %d requests failed, the first with %v", l.failed.Load(), l.sent.Load(), l.first.Load())
	}
	if l.sent.Load() < 20 {
		t.Errorf("only %d requests were sent", l.sent.Load())
	}
}

// replicated is webApp with three pods that linger for those who have not heard that they leave.
func replicated(greeting string) string {
	return strings.Replace(webApp("probe:v1", greeting), `args: ["serve"]`, "args: [\"serve\", \"-linger\", \"1s\"]\n\treplicas: 3", 1)
}

func (n *Node) podsReady(want int) error {
	ready := 0
	s := n.Status()
	for _, p := range s.Pods {
		if p.Containers > 0 && p.Ready == p.Containers && p.Status == "Running" {
			ready++
		}
	}
	if ready != want || len(s.Pods) != want {
		return fmt.Errorf("%d pods, %d ready, want %d", len(s.Pods), ready, want)
	}
	return nil
}

// A rolling update of three pods under constant requests loses none of them.
func TestFeature_K3_RollingUpdateLosesNothing(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": replicated("one")})
	repo.Push("one")
	n.Eventually(soon, func() error { return n.podsReady(3) })
	l := n.load(page+"/", 4)
	for _, greeting := range []string{"two", "three"} {
		repo.Write("apps/web/web.cue", replicated(greeting))
		repo.Push(greeting)
		n.Eventually(60*time.Second, func() error { return n.podsReady(3) })
		n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING="+greeting) })
	}
	l.end(t)
}

// containerPIDs are the processes of the node's containers, by container name and command.
func (n *Node) containerPIDs(name string) []int {
	n.t.Helper()
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(dir + "/cmdline")
		if err != nil || !strings.HasPrefix(string(cmdline), name) {
			continue
		}
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		if strings.Contains(string(cgroup), "shoal-"+n.instance()) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// instance is the mark of all that the node makes.
func (n *Node) instance() string { return n.Status().NodeID[:6] }

// kill9 ends a process of the node.
func kill9(t *testing.T, pid int) {
	t.Helper()
	if out, err := exec.Command("kill", "-9", strconv.Itoa(pid)).CombinedOutput(); err != nil {
		t.Fatalf("kill: %v: %s", err, out)
	}
}

// kill -9 of the agent, then of containerd, under load: no request fails, no container is restarted, no line of a log and
// no exit code is lost.
func TestFeature_K17_AgentAndContainerdMayDie(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{
		"apps/web/web.cue": replicated("one"),
		"apps/lines/lines.yaml": `apiVersion: v1
kind: Pod
metadata: {name: lines}
spec:
  containers:
  - {name: lines, image: shoal.local/probe:v1, args: [lines, -rate, "200"]}
`,
		"apps/late/late.yaml": `apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  restartPolicy: Never
  containers:
  - {name: late, image: shoal.local/probe:v1, args: [exit, -after, "4s", "7"]}
`,
	})
	repo.Push("one")
	n.Eventually(soon, func() error { return n.podsRunning("web", 3) })
	before := n.Status()
	l := n.load(page+"/", 4)
	time.Sleep(300 * time.Millisecond)
	n.Kill()
	time.Sleep(500 * time.Millisecond)
	n.Start()
	time.Sleep(300 * time.Millisecond)
	containerd := n.containerd()
	kill9(t, containerd)
	n.Eventually(soon, func() error {
		if now := n.containerd(); now == 0 || now == containerd {
			return fmt.Errorf("containerd has not come back")
		}
		return nil
	})
	n.Kill()
	kill9(t, n.containerd())
	time.Sleep(3 * time.Second) // the pod "late" ends while nobody looks
	n.Start()
	n.Eventually(soon, func() error { return n.podsRunning("web", 3) })
	l.end(t)

	after := n.Status()
	for _, p := range before.Pods {
		for _, q := range after.Pods {
			if p.UID == q.UID && q.Restarts != 0 {
				t.Errorf("%s was restarted", q.Name)
			}
		}
	}
	n.Eventually(soon, func() error {
		for _, p := range n.Status().Pods {
			if p.Name == "late" && p.Status == "Error" {
				return nil
			}
		}
		return fmt.Errorf("the pod that ended is not known to have failed")
	})
	stdout, _, _ := n.Shoal("logs", "lines")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if len(lines) < 500 {
		t.Errorf("only %d lines", len(lines))
	}
	last := -1
	for _, line := range lines {
		num := strings.TrimFunc(line, func(r rune) bool { return r < '0' || r > '9' })
		got, err := strconv.Atoi(num)
		if err != nil || last >= 0 && got != last+1 {
			t.Fatalf("line %q does not follow %d", line, last)
		}
		last = got
	}
}

func (n *Node) podsRunning(prefix string, want int) error {
	got := 0
	var pods []api.Pod
	for _, p := range n.Status().Pods {
		if strings.HasPrefix(p.Name, prefix) {
			pods = append(pods, p)
			if p.Ready == p.Containers && p.Status == "Running" {
				got++
			}
		}
	}
	if got != want {
		return fmt.Errorf("%d of %d pods run: %+v", got, want, pods)
	}
	return nil
}

// containerd is the pid of the node's containerd child, 0 if there is none.
func (n *Node) containerd() int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(dir + "/cmdline")
		if err == nil && strings.Contains(string(cmdline), "containerd-child") && strings.Contains(string(cmdline), n.Data) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			return pid
		}
	}
	return 0
}

// A killed container runs again, with its log's previous instance kept.
func TestFeature_K17_KilledContainerRunsAgain(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")}).Push("one")
	n.Eventually(soon, func() error { return n.podsReady(1) })
	old := n.containerPIDs("/probe")
	if len(old) != 1 {
		t.Fatalf("%d processes", len(old))
	}
	begun := time.Now()
	kill9(t, old[0])
	n.Eventually(1500*time.Millisecond*10, func() error {
		if now := n.containerPIDs("/probe"); len(now) == 1 && now[0] != old[0] {
			return nil
		}
		return fmt.Errorf("not running again")
	})
	t.Logf("running again after %s", time.Since(begun))
	n.Eventually(soon, func() error { // it runs before its restart is reported
		if s := n.Status(); s.Pods[0].Restarts != 1 {
			return fmt.Errorf("%d restarts", s.Pods[0].Restarts)
		}
		return n.podsReady(1)
	})
	if stdout, stderr, code := n.Shoal("logs", "-p", "web"); code != 0 || !strings.Contains(stdout, "listening") {
		t.Errorf("previous log: %d %q %q", code, stdout, stderr)
	}
}

// What others take away of the network is put back within a resync; without that nothing is reported as drift.
func TestFeature_G5_DriftIsRepaired(t *testing.T) {
	n := NewNode(t, "--resync", "100ms").Start()
	n.Image("probe:v1")
	n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")}).Push("one")
	n.Eventually(soon, func() error { return n.podsReady(1) })
	time.Sleep(3 * time.Second)
	if events := n.drift(); events != "" {
		t.Errorf("false drift: %s", events)
	}
	table := "shoal-" + n.instance()
	link := n.podLink()
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"the table", []string{"nft", "delete", "table", "ip", table}},
		{"all rules", []string{"nft", "flush", "ruleset"}},
		{"the veth", []string{"ip", "link", "del", link}},
		{"the route", []string{"ip", "route", "del", n.Status().Pods[0].IP}},
		{"the address", []string{"nsenter", "--net=" + filepath.Join(n.Run, "c/pods", n.Status().Pods[0].UID, "ns/net"), "ip", "addr", "flush", "dev", "eth0"}},
	} {
		if tt.name == "the veth" {
			tt.args[3] = n.podLink()
		}
		before := n.Status().Drifts
		n.must(tt.args[0], tt.args[1:]...)
		n.Eventually(soon, func() error {
			if n.Status().Drifts == before {
				return fmt.Errorf("%s: no drift was reported", tt.name)
			}
			return n.answers(page+"/", "probe")
		})
	}
	if s := n.Status(); s.Pods[0].Restarts != 0 {
		t.Errorf("%d restarts", s.Pods[0].Restarts)
	}
}

func (n *Node) drift() string {
	lines, err := n.Client().Events(context.Background(), "")
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, l := range lines {
		if strings.Contains(l, ": Drift: ") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

// podLink is the host end of the only pod's link.
func (n *Node) podLink() string {
	for l := range strings.SplitSeq(n.must("ip", "-o", "link"), "\n") {
		if f := strings.Fields(l); len(f) > 1 && strings.HasPrefix(f[1], "sh-") && !strings.Contains(f[1], "-node") && !strings.Contains(f[1], "-peer") {
			name, _, _ := strings.Cut(strings.TrimSuffix(f[1], ":"), "@")
			return name
		}
	}
	n.t.Fatal("no link")
	return ""
}

// After a reboot everything comes back from the disk.
func TestFault_U7_Reboot(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")}).Push("one")
	n.Eventually(soon, func() error { return n.podsReady(1) })
	n.Reboot()
	n.Start()
	n.Eventually(60*time.Second, func() error { return n.podsReady(1) })
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=one") })
}
