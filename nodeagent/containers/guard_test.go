package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/internal/pidlock"
)

// guarded is a node with a deadline that the test sets.
type guarded struct {
	*node
	file *os.File
}

func newGuarded(t *testing.T) *guarded {
	n := newNode(t)
	mustNot(t, n.Close())
	n.o.Deadline = filepath.Join(n.o.RunDir, "lease")
	f, err := os.Create(n.o.Deadline)
	mustNot(t, err)
	t.Cleanup(func() { f.Close() })
	g := &guarded{n, f}
	g.due(0)
	n.open()
	return g
}

// due sets the deadline so far from now, or none, and says when it is.
func (g *guarded) due(in time.Duration) (at int64) {
	g.t.Helper()
	if in != 0 {
		at = deadline.Now() + in.Milliseconds()
	}
	mustNot(g.t, deadline.Write(g.file, deadline.Time(at)))
	return at
}

func (g *guarded) guard() <-chan struct{} {
	g.t.Helper()
	ended, err := g.Guard(ctx(g.t))
	mustNot(g.t, err)
	return ended
}

func (g *guarded) holder() int {
	g.t.Helper()
	pid, err := pidlock.Holder(filepath.Join(g.guardLocks(), filepath.Base(g.o.Shim)))
	mustNot(g.t, err)
	return pid
}

// fencedPod is a pod that may run once only.
func (g *guarded) fencedPod(steps ...string) *plan.Pod {
	p := g.podOf(steps...)
	p.Fenced = true
	return p
}

// living are the processes in a pod's cgroup.
func (g *guarded) living(p *plan.Pod) (pids []int) {
	for _, dir := range cgroupDirs(g.podCgroup(p.ID)) {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil
			}
			b, _ := os.ReadFile(path)
			for field := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(field); err == nil && alive(pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// late is how long after the deadline nothing of a pod was alive any more.
func (g *guarded) late(p *plan.Pod, at int64) time.Duration {
	g.t.Helper()
	g.wait("the pod's end", func() bool { return len(g.living(p)) == 0 })
	return time.Duration(deadline.Now()-at) * time.Millisecond
}

// The agent is gone. At the deadline what may run once is dead, and what is stateless goes on; the next agent sees how it
// ended, and starts it again only under a new deadline.
func TestGuardKillsWithoutTheAgent(t *testing.T) {
	g := newGuarded(t)
	fenced, other := g.run(g.fencedPod("ignore", "TERM", "then", "child", "sleep", "1000")), g.run(g.podOf("sleep", "1000"))
	g.guard()
	g.wait("its child", func() bool { return len(g.living(fenced)) >= 2 })
	mustNot(t, g.Close())
	at := g.due(600 * time.Millisecond)
	// The guard slept until it looks for a first deadline: a real one lies seconds ahead.
	if late := g.late(fenced, at); late > 6*time.Second {
		t.Errorf("it was dead %s after the deadline", late)
	}
	if len(g.living(other)) == 0 {
		t.Error("what is stateless died too")
	}
	g.open()
	if c := g.exit(fenced, "main"); c.ExitCode != 137 || !c.Lapsed {
		t.Errorf("it ended as %+v", c)
	}
	if c := g.see(other, "main"); c.State != plan.Running {
		t.Errorf("what is stateless: %+v", c)
	}
	if err := g.Start(ctx(t), g.launch(fenced, 1)); err == nil || !strings.Contains(err.Error(), "this node's lease is over") {
		t.Errorf("started past the deadline: %v", err)
	}
	g.due(time.Minute - time.Second)
	mustNot(t, g.Start(ctx(t), g.launch(fenced, 1)))
	if c := g.see(fenced, "main"); c.State != plan.Running || c.Attempt != 1 {
		t.Errorf("under a new deadline: %+v", c)
	}
}

// A guard that knows the deadline kills at it, and no container's end is late for all that forks, or was frozen.
func TestGuardKillsInTime(t *testing.T) {
	g := newGuarded(t)
	p := g.fencedPod("hop", "3", "then", "child", "sleep", "1000")
	p.Spec.HostPID = true // else the end of the first process is that of all
	g.run(p)
	frozen := g.run(g.fencedPod("sleep", "1000"))
	for _, dir := range cgroupDirs(g.podCgroup(frozen.ID)) {
		_ = os.WriteFile(filepath.Join(dir, "main.0", "freezer.state"), []byte("FROZEN"), 0)
		_ = os.WriteFile(filepath.Join(dir, "main.0", "cgroup.freeze"), []byte("1"), 0)
	}
	at := g.due(2 * time.Second)
	g.guard()
	if deadline.Now() >= at {
		t.Fatal("this machine is too slow for the test")
	}
	for _, pod := range []*plan.Pod{p, frozen} {
		if len(g.living(pod)) == 0 {
			t.Error("dead before the deadline")
		}
	}
	late := max(g.late(p, at), g.late(frozen, at))
	t.Logf("dead %s after the deadline", late)
	if late < 0 || late > time.Second { // ten times the goal
		t.Errorf("all was dead %s after the deadline", late)
	}
	g.exit(p, "main")
	g.exit(frozen, "main")
}

// As long as the lease is renewed nobody dies.
func TestGuardWaitsForTheLease(t *testing.T) {
	g := newGuarded(t)
	p := g.run(g.fencedPod("sleep", "1000"))
	g.due(300 * time.Millisecond)
	g.guard()
	for begun := time.Now(); time.Since(begun) < 2*time.Second; time.Sleep(25 * time.Millisecond) {
		g.due(300 * time.Millisecond)
	}
	if c := g.see(p, "main"); c.State != plan.Running {
		t.Errorf("the lease was renewed: %+v", c)
	}
	g.due(0)
	time.Sleep(500 * time.Millisecond)
	if c := g.see(p, "main"); c.State != plan.Running {
		t.Errorf("no lease is needed any more: %+v", c)
	}
}

// A start that was halted between its decision and its last step is not made past the deadline.
func TestGuardHaltedStart(t *testing.T) {
	g := newGuarded(t)
	p := g.sandbox(g.fencedPod("sleep", "1000"))
	if b, err := os.ReadFile(filepath.Join(g.fencedDir(), string(p.ID))); err != nil || strings.TrimSpace(string(b)) != g.podCgroup(p.ID) {
		t.Errorf("before anything runs the guard is told %q, %v", b, err)
	}
	h := g.pod(p.ID)
	im, err := g.store.get(ctx(t), g.imageDigest())
	mustNot(t, err)
	l := g.launch(p, 0)
	spec, err := g.spec(h, l, im)
	mustNot(t, err)
	in := g.newInstance(h, l, im)
	mount, err := g.writeBundle(h, in, spec, im)
	mustNot(t, err)
	mustNot(t, h.ready(ctx(t), g.Runtime))
	mustNot(t, g.createTask(h, in, mount))
	g.due(-time.Second)
	if err := g.Start(ctx(t), l); err == nil || !strings.Contains(err.Error(), "this node's lease is over") {
		t.Errorf("started past the deadline: %v", err)
	}
	mustNot(t, g.RemoveSandbox(ctx(t), p.ID))
	if _, err := os.Stat(filepath.Join(g.fencedDir(), string(p.ID))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pod is gone, and the guard is told of it: %v", err)
	}
}

// One guard, whichever agent: it is adopted, started again, replaced with another version, and taken away.
func TestGuardsLife(t *testing.T) {
	g := newGuarded(t)
	g.guard()
	first := g.holder()
	if first == 0 {
		t.Fatal("nobody holds the lock")
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", first))
	if !strings.Contains(string(b), g.guardCgroup()) {
		t.Errorf("the guard is in\n%s", b)
	}
	mustNot(t, g.Close())
	g.open()
	ended := g.guard()
	if again := g.holder(); again != first {
		t.Errorf("the next agent has guard %d, not %d", again, first)
	}
	mustNot(t, unix.Kill(first, unix.SIGKILL))
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("its end is not noticed")
	}
	g.guard()
	second := g.holder()
	if second == 0 || second == first {
		t.Errorf("guard %d after %d", second, first)
	}

	newer := filepath.Join(t.TempDir(), "shoal-shim-newer")
	if out, err := exec.Command("cp", g.o.Shim, newer).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mustNot(t, g.Close())
	g.o.Shim = newer
	g.open()
	g.guard()
	if third := g.holder(); third == 0 || third == second || alive(second) {
		t.Errorf("guard %d of the newer version, the one of before lives: %v", third, alive(second))
	}
	mustNot(t, g.EndGuard())
	mustNot(t, g.EndGuard())
	if pid := g.holder(); pid != 0 {
		t.Errorf("guard %d outlives its end", pid)
	}

	g.guard()
	last := g.holder()
	mustNot(t, os.Remove(g.o.Deadline))
	g.wait("the end of a guard that nobody can tell anything", func() bool { return !alive(last) })
}

func TestGuardNotStarted(t *testing.T) {
	g := newGuarded(t)
	mustNot(t, g.Close())
	g.o.Shim = filepath.Join(t.TempDir(), "absent")
	g.open()
	if _, err := g.Guard(context.Background()); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("without its program: %v", err)
	}
	mustNot(t, os.RemoveAll(g.fencedDir()))
	if _, err := g.CreateSandbox(ctx(t), g.fencedPod("sleep", "1")); err == nil {
		t.Error("a pod of which the guard cannot be told is made")
	}
}

// What is said of pods that are no more is taken away.
func TestGuardForgets(t *testing.T) {
	g := newGuarded(t)
	mustNot(t, g.fence("long-gone"))
	p := g.run(g.fencedPod("exit", "0"))
	g.exit(p, "main")
	mustNot(t, g.Close())
	g.open()
	entries, err := os.ReadDir(g.fencedDir())
	mustNot(t, err)
	if len(entries) != 1 || entries[0].Name() != string(p.ID) {
		t.Errorf("the guard is told of %v", entries)
	}
	mustNot(t, g.Release(ctx(t), p.ID))
	if entries, _ := os.ReadDir(g.fencedDir()); len(entries) != 0 {
		t.Errorf("it has ended, and the guard is told of %v", entries)
	}
}
