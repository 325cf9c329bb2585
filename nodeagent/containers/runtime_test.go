package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

func TestRun(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("print", "hello", "then", "fail", "oh", "then", "exit", "3"))
	c := n.exit(p, "main")
	if c.ExitCode != 3 || c.Attempt != 0 || c.Started == 0 || c.Finished < c.Started || c.OOM || c.Image != n.digest {
		t.Errorf("got %+v", c)
	}
	if got, want := n.log(p, "main", 0), "stdout F hello\nstderr F oh\n"; got != want && got != "stderr F oh\nstdout F hello\n" {
		t.Errorf("log:\n%s\nwant:\n%s", got, want)
	}
	have, err := n.List(ctx(t))
	if err != nil || len(have) != 1 || !have[p.ID].Namespaces || have[p.ID].Epoch != 7 {
		t.Errorf("have %+v, %v", have[p.ID], err)
	}
	for range 2 { // the second finds nothing to do
		if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
			t.Fatal(err)
		}
	}
	if have, _ := n.List(ctx(t)); len(have) != 0 {
		t.Errorf("have %v", have)
	}
	if _, err := os.Stat(filepath.Dir(filepath.Dir(n.LogFile(p, "main", 0)))); err == nil {
		t.Error("the logs of a removed pod are there")
	}
}

func TestContainersOfAPodShareItsNamespaces(t *testing.T) {
	n := newNode(t)
	p := n.podOf("serve", "127.0.0.1:8080")
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side", Image: n.image, Args: []string{"id", "then", "write", "/dev/shm/x", "shared", "then", "sleep", "1000"}})
	n.run(p)
	if err := n.Start(ctx(t), n.launchOf(p, &p.Spec.Containers[1], 0)); err != nil {
		t.Fatal(err)
	}
	n.wait("the second container's log", func() bool { return strings.Contains(n.log(p, "side", 0), "host "+p.Name) })
	ns := func(container, kind string) string {
		at, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", n.pod(p.ID).newest(container).state.Pid, kind))
		return at
	}
	for kind, shared := range map[string]bool{"net": true, "ipc": true, "uts": true, "pid": false, "mnt": false} {
		if got := ns("main", kind) == ns("side", kind); got != shared {
			t.Errorf("%s namespace shared: %v", kind, got)
		}
	}
	var out bytes.Buffer
	n.wait("the shared file", func() bool {
		out.Reset()
		_, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "cat", "/dev/shm/x"}, Stdout: &out})
		return err == nil && out.String() == "shared"
	})
}

func TestStartAgainChangesNothing(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	pid := n.pod(p.ID).newest("main").state.Pid
	if err := n.Start(ctx(t), n.launch(p, 0)); err != nil {
		t.Fatal(err)
	}
	if again := n.pod(p.ID).newest("main").state.Pid; again != pid {
		t.Errorf("process %d became %d", pid, again)
	}
}

func TestRestartKeepsThePodAndTwoLogs(t *testing.T) {
	n := newNode(t)
	p := n.podOf("write", "/scratch", "x", "then", "exit", "1")
	n.sandbox(p)
	for attempt := range 4 {
		p.Spec.Containers[0].Args = []string{"print", fmt.Sprint(attempt), "then", "cat", "/etc/passwd", "then", "exit", "1"}
		if err := n.Start(ctx(t), n.launch(p, attempt)); err != nil {
			t.Fatal(err)
		}
		if c := n.exit(p, "main"); c.Attempt != attempt || c.ExitCode != 1 {
			t.Fatalf("got %+v", c)
		}
		if attempt > 0 {
			if err := n.Remove(ctx(t), p.ID, "main", attempt-1); err != nil {
				t.Fatal(err)
			}
		}
	}
	logs, _ := filepath.Glob(filepath.Join(filepath.Dir(n.LogFile(p, "main", 0)), "*"))
	if got := fmt.Sprint(names(mustReadDir(t, filepath.Join(n.pod(p.ID).dir, record.Instances))), len(logs)); got != "[main.3] 2" {
		t.Errorf("instances and logs: %s", got)
	}
	if !strings.Contains(n.log(p, "main", 3), "stdout F 3\n") || !strings.Contains(n.log(p, "main", 2), "stdout F 2\n") {
		t.Error("the last two logs are not there")
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	n := newNode(t)
	for name, c := range map[string]struct {
		change func(*corev1.Container)
		want   string
	}{
		"no such program":  {func(c *corev1.Container) { c.Command = []string{"/bin/absent"} }, "/bin/absent"},
		"runs as root":     {func(c *corev1.Container) { c.SecurityContext = &corev1.SecurityContext{RunAsNonRoot: new(true)} }, "runAsNonRoot"},
		"no such dir mode": {func(c *corev1.Container) { c.Command = []string{"/etc/passwd"} }, "permission denied"},
	} {
		p := n.podOf("sleep", "1000")
		c.change(&p.Spec.Containers[0])
		n.sandbox(p)
		err := n.Start(ctx(t), n.launch(p, 0))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want something with %q", name, err, c.want)
		}
		if in := n.pod(p.ID).newest("main"); in != nil {
			t.Errorf("%s: an instance is left: %+v", name, in.meta)
		}
		if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
			t.Error(err)
		}
	}
}

func TestStop(t *testing.T) {
	n := newNode(t)
	for name, c := range map[string]struct {
		steps []string
		grace time.Duration
		code  int32
		least time.Duration
	}{
		"heeds the signal":  {[]string{"trap", "TERM", "4", "then", "sleep", "1000"}, 20 * time.Second, 4, 0},
		"ignores it":        {[]string{"ignore", "TERM", "then", "sleep", "1000"}, 300 * time.Millisecond, 137, 300 * time.Millisecond},
		"no grace":          {[]string{"ignore", "TERM", "then", "sleep", "1000"}, 0, 137, 0},
		"has ended already": {[]string{"exit", "5"}, time.Second, 5, 0},
	} {
		p := n.run(n.podOf(append([]string{"print", "up", "then"}, c.steps...)...))
		n.wait("the first line", func() bool { return strings.Contains(n.log(p, "main", 0), "up") })
		time.Sleep(100 * time.Millisecond) // until the handler is there
		at := time.Now()
		if err := n.Stop(ctx(t), p.ID, "main", c.grace); err != nil {
			t.Fatal(err)
		}
		took := time.Since(at)
		if got := n.see(p, "main"); got.State != plan.Exited || got.ExitCode != c.code || took < c.least || took > 10*time.Second {
			t.Errorf("%s: after %v got %+v, want code %d", name, took, got, c.code)
		}
	}
}

func TestStopSignalOfTheImage(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("trap", "QUIT", "9", "then", "print", "up", "then", "sleep", "1000"))
	n.wait("the first line", func() bool { return strings.Contains(n.log(p, "main", 0), "up") })
	in := n.pod(p.ID).newest("main")
	in.meta.Stop = "SIGQUIT"
	if err := record.Write(filepath.Join(in.dir, record.InstanceFile), in.meta); err != nil {
		t.Fatal(err)
	}
	n.pod(p.ID).forgetInstance("main.0")
	if err := n.Stop(ctx(t), p.ID, "main", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if c := n.see(p, "main"); c.ExitCode != 9 {
		t.Errorf("got %+v", c)
	}
}

func TestSignal(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("trap", "USR1", "7", "then", "print", "up", "then", "sleep", "1000"))
	n.wait("the first line", func() bool { return strings.Contains(n.log(p, "main", 0), "up") })
	if err := n.Signal(ctx(t), p.ID, "main", unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if c := n.exit(p, "main"); c.ExitCode != 7 {
		t.Errorf("got %+v", c)
	}
	if err := n.Signal(ctx(t), p.ID, "main", unix.SIGUSR1); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}

func TestExec(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	var out, errs bytes.Buffer
	code, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{
		Args: []string{"/bin/prog", "copy", "then", "fail", "oh", "then", "exit", "6"}, Stdin: strings.NewReader("to and fro"), Stdout: &out, Stderr: &errs,
	})
	if code != 6 || err != nil || out.String() != "to and fro" || errs.String() != "oh\n" {
		t.Errorf("code %d, %v, out %q, err %q", code, err, &out, &errs)
	}

	out.Reset()
	resize := make(chan TerminalSize, 1)
	resize <- TerminalSize{Width: 91, Height: 23}
	code, err = n.Exec(ctx(t), p.ID, "main", ExecOptions{
		Args: []string{"/bin/prog", "sleep", "0.5", "then", "tty", "then", "copy"}, TTY: true, Stdin: new(bytes.Buffer), Stdout: &out, Resize: resize,
	})
	if code != 0 || err != nil || !strings.HasPrefix(out.String(), "terminal true 91 23 <nil>") {
		t.Errorf("terminal: code %d, %v, out %q", code, err, &out)
	}

	short, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	at := time.Now()
	_, err = n.Exec(short, p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "sleep", "1000"}})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(at) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(at), err)
	}
	if _, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/absent"}}); err == nil || !strings.Contains(err.Error(), "/bin/absent") {
		t.Errorf("got %v", err)
	}
	if _, err := n.Exec(ctx(t), p.ID, "other", ExecOptions{Args: []string{"/bin/prog"}}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	if left := mustReadDir(t, filepath.Join(n.o.RunDir, "exec")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTerminalAndInputOfAContainer(t *testing.T) {
	n := newNode(t)
	p := n.podOf("tty")
	p.Spec.Containers[0].TTY = true
	n.run(p)
	n.exit(p, "main")
	if got := n.log(p, "main", 0); !strings.HasPrefix(got, "stdout F terminal true") {
		t.Errorf("log %q", got)
	}
	q := n.podOf("copy")
	q.Spec.Containers[0].Stdin = true
	n.run(q)
	time.Sleep(200 * time.Millisecond)
	if c := n.see(q, "main"); c.State != plan.Running {
		t.Errorf("input ended: %+v", c)
	}
}

func mustReadDir(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	e, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
