package containers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// TestFault_C1 cuts the agent off at every stage of a start and looks at what its successor makes of it.
func TestFault_C1(t *testing.T) {
	n := newNode(t)
	before := n.traces()
	p := n.podOf("print", "up", "then", "sleep", "1000")
	l := n.launch(p, 0)
	h := n.pod(p.ID)
	again := func() {
		t.Helper()
		n.Close()
		n.open()
		h = n.pod(p.ID)
	}
	finish := func(stage string) {
		t.Helper()
		again()
		if c := n.see(p, "main"); c != nil && c.State == plan.Running {
			t.Errorf("%s: List says it runs", stage)
		}
		n.run(p)
		if c := n.see(p, "main"); c == nil || c.State != plan.Running {
			t.Errorf("%s: afterwards it is %+v", stage, c)
		}
		if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
			t.Errorf("%s: %v", stage, err)
		}
	}

	mustNot(t, os.MkdirAll(filepath.Join(h.dir, record.Instances), 0o711))
	finish("an empty directory")

	mustNot(t, os.MkdirAll(filepath.Join(h.dir, "ns"), 0o711))
	mustNot(t, os.WriteFile(filepath.Join(h.dir, "ns", "net"), nil, 0o600)) // made, not yet mounted over
	finish("half of the namespaces")

	n.sandbox(p)
	finish("a sandbox alone")

	n.sandbox(p)
	h = n.pod(p.ID)
	in := n.newInstance(h, l, &image{})
	mustNot(t, os.MkdirAll(filepath.Join(in.dir, "rootfs"), 0o711))
	finish("a bundle without its record")

	n.sandbox(p)
	h = n.pod(p.ID)
	im, err := n.store.get(ctx(t), n.imageDigest())
	mustNot(t, err)
	spec, err := n.spec(h, l, im)
	mustNot(t, err)
	in = n.newInstance(h, l, im)
	_, err = n.writeBundle(h, in, spec, im)
	mustNot(t, err)
	finish("a bundle that runc does not know")

	n.sandbox(p)
	h = n.pod(p.ID)
	in = n.newInstance(h, l, im)
	mount, err := n.writeBundle(h, in, spec, im)
	mustNot(t, err)
	mustNot(t, h.ready(ctx(t), n.Runtime))
	mustNot(t, n.createTask(h, in, mount))
	finish("made in runc and not started")

	n.run(p)
	pid := n.pod(p.ID).newest("main").state.Pid
	again()
	if got := n.see(p, "main"); got.State != plan.Running || n.pod(p.ID).newest("main").state.Pid != pid {
		t.Errorf("what ran was touched: %+v", got)
	}
	mustNot(t, n.RemoveSandbox(ctx(t), p.ID))
	if after := n.traces(); !slices.Equal(after, before) {
		t.Errorf("left behind:\n%s", strings.Join(after, "\n"))
	}
}

// TestExitsWhileNobodyLooks ends a container while neither agent nor containerd is there.
func TestExitsWhileNobodyLooks(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("trap", "USR1", "21", "then", "print", "up", "then", "sleep", "1000"))
	n.wait("the first line", func() bool { return strings.Contains(n.log(p, "main", 0), "up") })
	pid := n.pod(p.ID).newest("main").state.Pid
	if err := n.Shutdown(ctx(t)); err != nil {
		t.Fatal(err)
	}
	mustNot(t, unix.Kill(pid, unix.SIGUSR1))
	time.Sleep(300 * time.Millisecond)
	n.open()
	if c := n.see(p, "main"); c.State != plan.Exited || c.ExitCode != 21 || c.Finished == 0 {
		t.Errorf("got %+v", c)
	}
	if got := n.log(p, "main", 0); !strings.HasSuffix(got, "stdout F got USR1\n") {
		t.Errorf("log %q", got)
	}
}

// TestFault_C2 kills containerd under output, during a start and during a stop.
func TestFault_C2(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("lines", "3000", "1", "then", "exit", "17"))
	for range 3 {
		time.Sleep(200 * time.Millisecond)
		n.killDaemon()
	}
	q := n.podOf("sleep", "1000") // started and stopped while containerd is on its way back
	n.killDaemon()
	n.run(q)
	n.killDaemon()
	mustNot(t, n.Stop(ctx(t), q.ID, "main", 0))
	if c := n.exit(p, "main"); c.ExitCode != 17 {
		t.Errorf("got %+v", c)
	}
	var want strings.Builder
	for i := range 3000 {
		fmt.Fprintln(&want, "stdout F line", i)
	}
	if got := n.log(p, "main", 0); got != want.String() {
		t.Errorf("the log has %d bytes, want %d", len(got), want.Len())
	}
	// It is back, and of use.
	if _, err := n.Images().List(ctx(t)); err != nil {
		t.Error(err)
	}
}

// TestFault_C3 stops containerd's clock: what runs and restarts does not need it, and what needs it is told so in time.
func TestFault_C3(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	pid := n.daemon.proc.PID
	mustNot(t, unix.Kill(pid, unix.SIGSTOP))
	defer unix.Kill(pid, unix.SIGCONT)
	mustNot(t, n.Stop(ctx(t), p.ID, "main", 0))
	mustNot(t, n.Start(ctx(t), n.launch(p, 1)))
	if code, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "exit", "3"}}); code != 3 || err != nil {
		t.Errorf("exec: %d, %v", code, err)
	}
	short, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	at := time.Now()
	if _, err := n.Resolve(short, "shoal.local/x:1", nil); err == nil || time.Since(at) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(at), err)
	}
}

// shimOf is the pid of a pod's shim.
func shimOf(p *pod) int {
	p.shimMu.Lock()
	defer p.shimMu.Unlock()
	return p.shim.PID
}

// TestFault_C4 kills a pod's shim, and the first process of a container.
func TestFault_C4(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	h := n.pod(p.ID)
	netns, pid := inode(t, n.Netns(p.ID)), h.newest("main").state.Pid
	mustNot(t, unix.Kill(shimOf(h), unix.SIGKILL))
	at := time.Now()
	if c := n.exit(p, "main"); c.ExitCode != 137 {
		t.Errorf("got %+v", c)
	}
	if took := time.Since(at); took > 5*time.Second {
		t.Errorf("seen after %v", took)
	}
	if alive(pid) {
		t.Error("the process without a shim runs")
	}
	mustNot(t, n.Remove(ctx(t), p.ID, "main", 0))
	mustNot(t, n.Start(ctx(t), n.launch(p, 1)))
	if inode(t, n.Netns(p.ID)) != netns {
		t.Error("the pod has another network namespace")
	}
	at = time.Now()
	mustNot(t, killMain(n.Runtime, p.ID))
	if c := n.exit(p, "main"); c.ExitCode != 137 || c.Signal != 9 || c.OOM {
		t.Errorf("got %+v", c)
	}
	if took := time.Since(at); took > 5*time.Second {
		t.Errorf("seen after %v", took)
	}

	// Killed while nobody looks.
	mustNot(t, n.Start(ctx(t), n.launch(p, 2)))
	shim := shimOf(h)
	n.Close()
	mustNot(t, unix.Kill(shim, unix.SIGKILL))
	n.wait("the shim's end", func() bool {
		unix.Wait4(shim, nil, unix.WNOHANG, nil)
		return unix.Kill(shim, 0) != nil
	})
	n.open()
	if c := n.see(p, "main"); c.State != plan.Exited || c.ExitCode != 137 {
		t.Errorf("got %+v", c)
	}
}

// TestFault_C5 has a runc that fails, and one that hangs.
func TestFault_C5(t *testing.T) {
	n := newNode(t)
	script := filepath.Join(n.o.DataDir, "runc-bad")
	good := n.Runtime.o.Runc
	for name, c := range map[string]struct{ script, want string }{
		"fails": {"#!/bin/sh\ncase \"$*\" in *create*) for a; do [ \"$p\" = --log ] && log=$a; p=$a; done; echo '{\"level\":\"error\",\"msg\":\"no luck today\"}' >$log; exit 1;; esac\nexec " + good + " \"$@\"\n", "luck"},
		"hangs": {"#!/bin/sh\ncase \"$*\" in *create*) exec sleep 1000;; esac\nexec " + good + " \"$@\"\n", "deadline"},
	} {
		mustNot(t, os.WriteFile(script, []byte(c.script), 0o755))
		n.Runtime.o.Runc = script
		p := n.sandbox(n.podOf("sleep", "1000"))
		short, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := n.Start(short, n.launch(p, 0))
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want something with %q", name, err, c.want)
		}
		n.Runtime.o.Runc = good
		mustNot(t, n.Start(ctx(t), n.launch(p, 1)))
		mustNot(t, n.RemoveSandbox(ctx(t), p.ID))
	}
}

// TestFault_C19 lets one child of a container take more memory than there is.
func TestFault_C19(t *testing.T) {
	n := newNode(t)
	for name, steps := range map[string][]string{
		"the first process": {"eat", "200", "then", "sleep", "1000"},
		"a child":           {"child", "eat", "200", "then", "sleep", "1000"},
	} {
		p := n.podOf(steps...)
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("32Mi")}
		n.run(p)
		if c := n.exit(p, "main"); c.ExitCode != 137 || !c.OOM {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}

// TestReboot takes away what a reboot takes away.
func TestReboot(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	shim, pid := shimOf(n.pod(p.ID)), n.pod(p.ID).newest("main").state.Pid
	mustNot(t, n.Shutdown(ctx(t)))
	for _, k := range []int{shim, pid} {
		unix.Kill(k, unix.SIGKILL)
	}
	n.wait("all processes to end", func() bool {
		unix.Wait4(shim, nil, unix.WNOHANG, nil)
		return unix.Kill(shim, 0) != nil && unix.Kill(pid, 0) != nil
	})
	mustNot(t, unmountBelow(n.o.RunDir))
	mustNot(t, removeCgroup(n.o.CgroupRoot))
	mustNot(t, os.RemoveAll(n.o.RunDir))
	n.open()
	if have, err := n.List(ctx(t)); err != nil || len(have) != 0 {
		t.Errorf("have %v, %v", have, err)
	}
	if left, _ := os.ReadDir(filepath.Join(n.o.DataDir, "scratch")); len(left) != 0 {
		t.Errorf("writable layers are left: %v", left)
	}
	n.run(p) // from the image that is still there
	if c := n.see(p, "main"); c.State != plan.Running {
		t.Errorf("got %+v", c)
	}
}

// The logs of a pod outlive its machine's restart, and tell how often its containers were begun: of one that was set aside
// as it was full, too. A container that never started does not count.
func TestPast(t *testing.T) {
	n := newNode(t)
	p := n.sandbox(n.podOf("sleep", "1000"))
	if past := n.Past(p); past != nil {
		t.Errorf("a pod that never ran has %v", past)
	}
	launch := n.launch(p, 0)
	launch.Command = []string{"/nothing"}
	if err := n.Start(ctx(t), launch); err == nil {
		t.Fatal("a command that is not there was started")
	}
	if past := n.Past(p); past != nil {
		t.Errorf("a container that never ran has %v", past)
	}
	mustNot(t, n.Start(ctx(t), n.launch(p, 0)))
	mustNot(t, killMain(n.Runtime, p.ID))
	n.exit(p, "main")
	mustNot(t, n.Start(ctx(t), n.launch(p, 1)))
	mustNot(t, os.Rename(n.LogFile(p, "main", 1), n.LogFile(p, "main", 1)+".20260102-030405.000000000"))
	mustNot(t, n.Dismiss(ctx(t), p.ID)) // what a restart of the machine would
	if past := n.Past(p); len(past) != 1 || past["main"] != 2 {
		t.Errorf("got %v, want two instances of main", past)
	}
	n.sandbox(p)
	mustNot(t, n.Remove(ctx(t), p.ID, "main", 0)) // comes before attempt 2
	mustNot(t, n.Start(ctx(t), n.launch(p, 2)))
	mustNot(t, n.Remove(ctx(t), p.ID, "main", 1))
	mustNot(t, n.Start(ctx(t), n.launch(p, 3)))
	var left []string
	for _, e := range mustReadDir(t, filepath.Dir(n.LogFile(p, "main", 0))) {
		left = append(left, e.Name())
	}
	if !slices.Equal(left, []string{"1.log.20260102-030405.000000000", "2.log", "3.log"}) {
		t.Errorf("logs left: %v", left)
	}
}

// TestFault_U9 resets one of two instances on a machine; the other one does not notice, and nothing is left.
func TestFault_U9(t *testing.T) {
	a := newNode(t)
	q := a.run(a.podOf("sleep", "1000"))
	before := a.traces()
	b := newNode(t)
	for range 3 {
		b.run(b.podOf("sleep", "1000"))
	}
	mustNot(t, b.Purge(ctx(t)))
	mustNot(t, b.Purge(ctx(t)))
	if left := mustReadDir(t, b.o.RunDir); len(left) > 2 { // the directories of logs and of what is private, which is the caller's
		t.Errorf("left in the run directory: %v", left)
	}
	if left := mustReadDir(t, b.o.DataDir); len(left) != 0 {
		t.Errorf("left in the data directory: %v", left)
	}
	if left := b.traces(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if after := a.traces(); !slices.Equal(after, before) {
		t.Errorf("the other instance had\n%v\nand has\n%v", before, after)
	}
	if c := a.see(q, "main"); c.State != plan.Running {
		t.Errorf("the other's pod: %+v", c)
	}
}

// TestEventsComeSoon measures how long an exit takes to be seen.
func TestEventsComeSoon(t *testing.T) {
	n := newNode(t)
	p := n.sandbox(n.podOf("sleep", "1000"))
	var took []time.Duration
	for attempt := range 9 {
		mustNot(t, n.Start(ctx(t), n.launch(p, attempt)))
		for len(n.Events()) > 0 {
			<-n.Events()
		}
		at := time.Now()
		mustNot(t, killMain(n.Runtime, p.ID))
		for n.see(p, "main").State != plan.Exited {
			select {
			case <-n.Events():
			case <-time.After(10 * time.Second):
				t.Fatal("no event")
			}
		}
		took = append(took, time.Since(at))
		mustNot(t, n.Remove(ctx(t), p.ID, "main", attempt))
	}
	slices.Sort(took)
	t.Logf("kill to exit seen: %v", took)
	if median := took[len(took)/2]; median > 200*time.Millisecond {
		t.Errorf("the median is %v", median)
	}
}

// TestFault_F18 has a client that never reads.
func TestFault_C18(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	before := fds(t)
	for range 20 {
		short, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		r, w, err := os.Pipe()
		mustNot(t, err)
		begun := time.Now()
		if _, err := n.Exec(short, p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "lines", "0", "0"}, Stdout: w}); err == nil {
			t.Error("an endless command ended")
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %s to give up on a client that does not read", took)
		}
		cancel()
		w.Close()
		r.Close()
	}
	n.wait("the file descriptors to be given back", func() bool { return fds(t) <= before+4 })
	var out bytes.Buffer
	if _, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "print", "ok"}, Stdout: &out}); err != nil || out.String() != "ok\n" {
		t.Errorf("afterwards: %q, %v", &out, err)
	}
}

func mustNot(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	mustNot(t, unix.Stat(path, &st))
	return st.Ino
}

func fds(t *testing.T) int {
	t.Helper()
	return len(mustReadDir(t, "/proc/self/fd"))
}

// alive tells whether a process is there and not merely waiting to be reaped.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}
