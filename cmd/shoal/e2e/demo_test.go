//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// freshMachine gives a node the places that Shoal uses unless told otherwise, empty and its own.
func (n *Node) freshMachine() {
	n.t.Helper()
	n.must("sh", "-e", "-c", `mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir /var/log/upper /var/log/work
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/var/log/upper,workdir=/var/log/work /var/lib
mkdir -p /var/lib/shoal
mount -t tmpfs tmpfs /var/lib/shoal
mount -t tmpfs tmpfs /var/log`)
}

// checkout is a copy of this checkout with its tools built, to work in.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("sh", "-e", "-c", `root=$(cd ../../.. && pwd -P)
tar -C "$root" --exclude=./.git --exclude=./bin --exclude=./.tools -cf - . | tar -C "$0" -xf -
mkdir "$0/.tools" "$0/bin"
cp "$root/.tools/runc" "$0/.tools/runc" # newer than what it is built from: it is not built again`, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("copy the checkout: %v\n%s", err, out)
	}
	return dir
}

// demo is a `make demo` that runs in the foreground of some terminal.
type demo struct {
	cmd    *exec.Cmd
	output *output
	exited chan struct{}
}

func (n *Node) makeDemo(dir string) *demo {
	n.t.Helper()
	d := &demo{cmd: n.command(context.Background(), "make", "--no-print-directory", "-C", dir, "demo"), output: &output{}, exited: make(chan struct{})}
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); name != "MAKEFLAGS" && name != "MFLAGS" && name != "MAKELEVEL" {
			d.cmd.Env = append(d.cmd.Env, e)
		}
	}
	d.cmd.Stdout, d.cmd.Stderr = d.output, d.output
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell gives each line a group of its own
	if err := d.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() { _ = d.cmd.Wait(); close(d.exited) }()
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.t.Logf("--- make demo ---\n%s", d.output)
		}
		select {
		case <-d.exited:
		default:
			_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
			<-d.exited
		}
	})
	return d
}

// says waits until the demo has printed something n times.
func (d *demo) says(t *testing.T, text string, times int, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); strings.Count(d.output.String(), text) < times; time.Sleep(20 * time.Millisecond) {
		select {
		case <-d.exited:
			t.Fatalf("make demo ended without saying %q", text)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("make demo does not say %q within %s", text, limit)
		}
	}
}

var counted = regexp.MustCompile(`<strong id="count">(\d+)</strong>`)

// visit loads the guestbook's page; it tells the greeting and which visitor we are.
func (n *Node) visit(url string) (greeting string, count int, err error) {
	text, err := n.Get(url)
	if err != nil {
		return "", 0, err
	}
	m := counted.FindStringSubmatch(text)
	if m == nil {
		return "", 0, fmt.Errorf("%s counts nobody: %s", url, text)
	}
	_, rest, _ := strings.Cut(text, "<h1>")
	greeting, _, _ = strings.Cut(rest, "</h1>")
	count, err = strconv.Atoi(m[1])
	return greeting, count, err
}

// counts visits a guestbook three times: each visitor is counted, and in Redis, for pods that know nothing of each
// other agree.
func (n *Node) counts(url string) error {
	_, before, err := n.visit(url)
	if err != nil {
		return err
	}
	for i := 1; i <= 3; i++ {
		_, now, err := n.visit(url)
		if err != nil {
			return err
		}
		if now != before+i {
			return fmt.Errorf("visitor %d follows %d", now, before+i-1)
		}
	}
	return nil
}

// make demo on a fresh machine: it sets up, builds, says where the guestbook is, and that answers; a change of a file
// rolls out; its end takes away all but the data, by SIGTERM as by Ctrl-C, and it can be run again. Another node on
// the machine is not touched.
func TestFeature_K27_Demo(t *testing.T) {
	other := NewNode(t).Start()
	other.Image("probe:v1")
	other.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "other")}).Push("other")
	other.Eventually(soon, func() error { return other.podsReady(1) })

	imageLayout(t, "redis:v1") // has Debian's packages fetched: the new machine has no way out
	dir := checkout(t)
	n := NewNode(t)
	n.freshMachine()
	before := n.look("/run", "/var/log")
	socket := api.NewClient(fmt.Sprintf("/proc/%d/root/run/shoal/agent.sock", n.holder.Process.Pid))
	for _, end := range []struct {
		name     string
		greeting string
		signal   func(pid int) error
	}{
		{"SIGTERM", "Hello, one", func(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) }},
		{"Ctrl-C", "Hello, two", func(pid int) error { return syscall.Kill(-pid, syscall.SIGINT) }},
	} {
		d := n.makeDemo(dir)
		d.says(t, "ready: "+page+"\n", 1, 10*time.Minute)
		if err := n.counts(page); err != nil {
			t.Error(err)
		}
		if strings.Contains(d.output.String(), "push it first") {
			t.Errorf("an image was not there: the second time all that was pushed before is")
		}
		values := filepath.Join(dir, "examples/guestbook/values/dev.cue")
		text, err := os.ReadFile(values)
		if err != nil {
			t.Fatal(err)
		}
		changed := regexp.MustCompile(`greeting: ".*"`).ReplaceAllString(string(text), "greeting: "+strconv.Quote(end.greeting))
		if err := os.WriteFile(values, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		n.Eventually(soon, func() error {
			greeting, _, err := n.visit(page)
			if err == nil && greeting != end.greeting {
				err = fmt.Errorf("the page says %q", greeting)
			}
			return err
		})
		status, err := socket.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := end.signal(d.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		select {
		case <-d.exited:
		case <-time.After(90 * time.Second):
			t.Fatalf("make demo does not end on %s", end.name)
		}
		n.Eventually(10*time.Second, func() error { // make may be gone before the last of its children
			if left := n.left(status.NodeID[:6]); len(left) > 0 {
				return fmt.Errorf("left behind after %s:\n%s", end.name, strings.Join(left, "\n"))
			}
			return nil
		})
		if after := n.look("/run", "/var/log"); after != before {
			t.Errorf("%s: before:\n%s\nafter:\n%s", end.name, before, after)
		}
		if _, err := n.command(context.Background(), "test", "-e", "/var/lib/shoal/VERSION").CombinedOutput(); err != nil {
			t.Errorf("%s: the data is gone: %v", end.name, err)
		}
	}
	if err := other.answers(page+"/env", "GREETING=other"); err != nil {
		t.Error(err)
	}
	if s := other.Status(); s.Pods[0].Restarts != 0 || len(s.Pods) != 1 {
		t.Errorf("the other node's pod was touched: %+v", s.Pods)
	}
}
