package containers

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

func TestSharedProcessNamespace(t *testing.T) {
	n := newNode(t)
	before := n.traces()
	p := n.podOf("id", "then", "sleep", "1000")
	p.Spec.ShareProcessNamespace = new(true)
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side", Image: n.image, Args: []string{"child", "sleep", "1000"}})
	start := func(i, attempt int) {
		t.Helper()
		if err := n.Start(ctx(t), n.launchOf(p, &p.Spec.Containers[i], attempt)); err != nil {
			t.Fatal(err)
		}
	}
	n.sandbox(p)
	start(0, 0)
	start(1, 0)
	n.wait("its log", func() bool { return strings.Contains(n.log(p, "main", 0), "pid ") })
	if log := n.log(p, "main", 0); strings.Contains(log, "pid 1\n") {
		t.Errorf("it is the first process itself: %s", log)
	}
	pid := func(container string) int { return n.pod(p.ID).newest(container).state.Pid }
	ns := func(pid int) string {
		at, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		return at
	}
	if ns(pid("main")) != ns(pid("side")) || ns(pid("main")) == ns(os.Getpid()) {
		t.Errorf("namespaces %s and %s", ns(pid("main")), ns(pid("side")))
	}
	have, err := n.List(ctx(t))
	if err != nil || len(have[p.ID].Containers) != 2 {
		t.Errorf("seen %v, %v", have[p.ID], err)
	}

	// What a container sees of the first process is nothing of the host.
	seen := func(container string, args ...string) string {
		var out bytes.Buffer
		_, _ = n.Exec(ctx(t), p.ID, container, ExecOptions{Args: append([]string{"/bin/prog"}, args...), Stdout: &out, Stderr: &out})
		return out.String()
	}
	if s := seen("main", "cat", "/proc/1/status"); !strings.Contains(s, "Uid:\t65535") || !strings.Contains(s, "CapBnd:\t0000000000000000") || !strings.Contains(s, "Seccomp:\t2") {
		t.Errorf("the first process is\n%s", s)
	}
	if s := seen("main", "cat", "/proc/1/root/etc/passwd"); !strings.Contains(s, "no such file") && !strings.Contains(s, "denied") {
		t.Errorf("through its root: %s", s)
	}

	// One container ends, whole, and comes back; the others go on.
	side := pid("side")
	mustNot(t, n.Stop(ctx(t), p.ID, "main", 0))
	start(0, 1)
	if pid("side") != side || !alive(side) || ns(pid("main")) != ns(side) {
		t.Error("the neighbour did not go on, or has another namespace")
	}
	mustNot(t, killMain(n.Runtime, p.ID))
	n.exit(p, "main")
	if s := n.see(p, "side"); s.State != plan.Running {
		t.Errorf("the neighbour: %+v", s)
	}
	mustNot(t, n.Stop(ctx(t), p.ID, "side", 0))
	if procs, _ := os.ReadFile(cgroupDirs(n.podCgroup(p.ID) + "/side.0/")[0] + "/cgroup.procs"); len(procs) != 0 {
		t.Errorf("of a stopped container run %q", procs)
	}

	// Another agent goes on with it.
	n.Close()
	n.open()
	start(0, 2)
	start(1, 1)
	if ns(pid("main")) != ns(pid("side")) {
		t.Error("the next agent's containers share nothing")
	}

	// Without its first process all of it ends, and can be started again.
	mustNot(t, unix.Kill(pid(pauseName), unix.SIGKILL))
	n.exit(p, "main")
	n.exit(p, "side")
	n.wait("the record of the first process", func() bool { return !n.pod(p.ID).newest(pauseName).running() })
	start(0, 3)
	start(1, 2)
	if ns(pid("main")) != ns(pid("side")) || pid("main") == 0 {
		t.Error("afterwards they share nothing")
	}
	mustNot(t, n.Stop(ctx(t), p.ID, "main", 0))
	mustNot(t, n.Stop(ctx(t), p.ID, "side", 0))
	mustNot(t, n.Release(ctx(t), p.ID))
	if after := n.traces(); !slices.Equal(after, before) {
		t.Errorf("released, it holds:\n%s", strings.Join(after, "\n"))
	}
	mustNot(t, n.RemoveSandbox(ctx(t), p.ID))
}

// What loses its parent in the namespace does not stay as a zombie.
func TestSharedProcessNamespaceIsReaped(t *testing.T) {
	n := newNode(t)
	p := n.podOf("sleep", "1000")
	p.Spec.ShareProcessNamespace = new(true)
	n.run(p)
	for range 5 { // the exec's own process is killed: its child is left alone and ends soon after
		go n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "child", "sleep", "0.5"}})
	}
	children := func() (pids []string) {
		b, _ := os.ReadFile(cgroupDirs(n.podCgroup(p.ID) + "/main.0")[0] + "/cgroup.procs")
		return strings.Fields(string(b))
	}
	n.wait("the execs", func() bool { return len(children()) >= 11 })
	main := fmt.Sprint(n.pod(p.ID).newest("main").state.Pid)
	for _, pid := range children() {
		stat, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if strings.Contains(string(stat), "child") && pid != main {
			var id int
			fmt.Sscan(pid, &id)
			_ = unix.Kill(id, unix.SIGKILL)
		}
	}
	first := n.pod(p.ID).newest(pauseName).state.Pid
	left := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", first, first))
		mustNot(t, err)
		return string(b)
	}
	n.wait("the orphans", func() bool { return left() != "" })
	n.wait("all to be reaped", func() bool { return left() == "" })
}
