//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/images"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// imageArchive writes an archive of images as `shoal image build` makes it.
func imageArchive(t *testing.T, names ...string) string {
	t.Helper()
	var all []images.Named
	for _, name := range names {
		base, tag, _ := strings.Cut(name, ":")
		img, err := (&images.Builder{}).Image(context.Background(), base, tag)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, images.Named{Ref: name, Image: img})
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "images.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(images.WriteArchive(f, all...), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// devRing is a `shoal dev --nodes` in a terminal of a machine.
type devRing struct {
	n      *Node
	cmd    *exec.Cmd
	exited chan error
}

func (n *Node) devNodes(count int, args ...string) *devRing {
	n.t.Helper()
	all := append([]string{"dev", "--nodes", fmt.Sprint(count), "--data-dir", n.Data, "--run-dir", n.Run, "--log-dir", n.Logs}, args...)
	n.output = &output{}
	d := &devRing{n: n, cmd: n.command(context.Background(), binary(n.t), all...), exited: make(chan error, 1)}
	d.cmd.Stdout, d.cmd.Stderr = n.output, n.output
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() { d.exited <- d.cmd.Wait() }()
	n.t.Cleanup(func() {
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		for i := range count { // what is left when the test failed
			name := fmt.Sprintf("node%d", i+1)
			_ = n.command(context.Background(), binary(n.t), "reset", "--yes", "--data-dir", filepath.Join(n.Data, "nodes", name),
				"--run-dir", filepath.Join(n.Run, name), "--log-dir", filepath.Join(n.Logs, name)).Run()
		}
	})
	return d
}

// says waits until something was printed.
func (d *devRing) says(pattern string) []string {
	d.n.t.Helper()
	want := regexp.MustCompile(pattern)
	d.n.Eventually(2*time.Minute, func() error {
		select {
		case err := <-d.exited:
			d.n.t.Fatalf("shoal dev ended: %v\n%s", err, d.n.output)
		default:
		}
		if !want.MatchString(d.n.output.String()) {
			return fmt.Errorf("%q is not said", pattern)
		}
		return nil
	})
	return want.FindStringSubmatch(d.n.output.String())
}

// addresses are those of the nodes, as they were said.
func (d *devRing) addresses() (all []netip.Addr) {
	d.n.t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^node\d +(\S+)$`).FindAllStringSubmatch(d.n.output.String(), -1) {
		a, err := netip.ParseAddr(m[1])
		if err != nil {
			d.n.t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// end has it end by a signal, and waits for that.
func (d *devRing) end(signal syscall.Signal) error {
	d.n.t.Helper()
	if err := syscall.Kill(-d.cmd.Process.Pid, signal); err != nil {
		d.n.t.Fatal(err)
	}
	select {
	case err := <-d.exited:
		return err
	case <-time.After(90 * time.Second):
		d.n.t.Fatalf("shoal dev does not end\n%s", d.n.output)
		return nil
	}
}

// gone tells what of the instances is still on the machine.
func (d *devRing) gone(instances []string) error {
	var left []string
	for _, instance := range instances {
		left = append(left, d.n.left(instance)...)
	}
	if names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/root/run/netns/*", d.n.holder.Process.Pid)); len(names) > 0 {
		left = append(left, names...)
	}
	if len(left) > 0 {
		slices.Sort(left)
		return fmt.Errorf("left behind:\n%s", strings.Join(slices.Compact(left), "\n"))
	}
	return nil
}

// One command makes a ring of three on one machine and runs the guestbook on it: its pages are on several nodes and
// answer on each, a change is rolled out, and the end leaves nothing, whether it came by Ctrl-C or, with the next start, by
// SIGKILL. The data is there the next time.
func TestFeature_K27_DevNodes(t *testing.T) {
	archive := imageArchive(t, "guestbook:v1", "redis:v1", "report:v1")
	n := NewNode(t)
	n.freshMachine()
	n.must("mkdir", "-p", n.Run) // the machine's /run is another now
	repo := n.Example("guestbook")
	before := n.look("/run", "/var/log")
	var marks []string
	for i, end := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL, syscall.SIGINT} {
		begun := time.Now()
		d := n.devNodes(3, "--images", archive, repo.Dir)
		d.says(`(?m)^watching `)
		t.Logf("run %d: three nodes are ready after %s", i+1, time.Since(begun).Round(time.Millisecond))
		at := d.addresses()
		if len(at) != 3 {
			t.Fatalf("addresses: %v", at)
		}
		socket := api.NewClient(fmt.Sprintf("/proc/%d/root%s", n.holder.Process.Pid, n.Socket()))
		var list api.Ring
		n.Eventually(soon, func() (err error) {
			if list, err = socket.Ring(context.Background(), true); err != nil {
				return err
			}
			for _, node := range list.Nodes {
				if node.State != "Ready" || !node.Voter || node.Now == nil {
					return fmt.Errorf("%+v", node)
				}
			}
			return nil
		})
		if marks == nil {
			for _, node := range list.Nodes {
				marks = append(marks, node.ID[:6])
			}
		}
		for _, a := range at {
			d.says(regexp.QuoteMeta(fmt.Sprintf("ready: http://%s:30080\n", a)))
		}
		t.Logf("run %d: the guestbook answers on each after %s", i+1, time.Since(begun).Round(time.Millisecond))
		n.Eventually(soon, func() error {
			status, err := socket.Status(context.Background())
			if err != nil {
				return err
			}
			on := map[string]int{}
			for _, p := range status.Pods {
				if strings.HasPrefix(p.Name, "web-") && p.Ready == p.Containers {
					on[p.Node]++
				}
			}
			if len(on) != 3 {
				return fmt.Errorf("web is ready on %v", on)
			}
			return nil
		})
		last := 0
		for _, a := range at { // each counts on: it is one guestbook
			_, count, err := n.visit(fmt.Sprintf("http://%s:30080", a))
			if err != nil || count != last+1 && last != 0 {
				t.Errorf("visitor %d by way of %s: %v", count, a, err)
			}
			last = count
		}
		out, errs, code := n.Shoal("plan", "--without", "any", "--exit-code")
		if code != 0 || strings.Count(out, "yes (2 of 3)") != 3 || !strings.Contains(out, "dev/redis") {
			t.Errorf("plan without any: exit %d\n%s%s", code, out, errs)
		}
		if out, errs, code := n.Shoal("plan", "--without", "node1,node2", "--exit-code"); code != 1 || !strings.Contains(out, "no majority is left, 1 of 3 voters") {
			t.Errorf("plan without two: exit %d\n%s%s", code, out, errs)
		}
		greeting := fmt.Sprintf("Hello, run %d", i+1)
		text, err := os.ReadFile(filepath.Join(repo.Dir, "values/dev.cue"))
		if err != nil {
			t.Fatal(err)
		}
		repo.Write("values/dev.cue", regexp.MustCompile(`greeting: ".*"`).ReplaceAllString(string(text), fmt.Sprintf("greeting: %q", greeting)))
		n.Eventually(soon, func() error {
			got, _, err := n.visit(fmt.Sprintf("http://%s:30080", at[2]))
			if err == nil && got != greeting {
				err = fmt.Errorf("the page says %q", got)
			}
			return err
		})
		begun = time.Now()
		err = d.end(end)
		if end == syscall.SIGKILL {
			continue // the next start removes what it left
		}
		if err != nil {
			t.Errorf("run %d: %v", i+1, err)
		}
		took := time.Since(begun)
		t.Logf("run %d: ended within %s", i+1, took.Round(time.Millisecond))
		if took > 3*time.Second { // which is how long one waits that is not told
			t.Errorf("run %d: it took %s to end: nodes that all end wait for each other", i+1, took)
		}
		n.Eventually(10*time.Second, func() error { return d.gone(marks) })
		if after := n.look("/run", "/var/log"); after != before {
			t.Errorf("run %d: before:\n%s\nafter:\n%s", i+1, before, after)
		}
	}
}
