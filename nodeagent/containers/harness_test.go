package containers

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/internal/pidfd"
	"github.com/shoal-dev/shoal/nodeagent/containers/containerstest"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

func TestMain(m *testing.M) {
	code := m.Run()
	containerstest.RemoveBuilt()
	os.Exit(code)
}

var instances atomic.Int32

// node is one runtime with directories of its own and a registry that has the test program.
type node struct {
	*Runtime
	t      testing.TB
	o      Options
	image  string
	digest string
}

func newNode(t testing.TB) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	instance := fmt.Sprintf("%06x", (os.Getpid()<<8+int(instances.Add(1)))&0xffffff)
	run, err := os.MkdirTemp("/run", "shoal-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	data, err := os.MkdirTemp("/var/tmp", "shoal-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	n := &node{t: t, o: Options{
		Instance: instance, DataDir: data, RunDir: run, LogDir: filepath.Join(run, "log"), Private: filepath.Join(run, "private"),
		Shim: containerstest.Shim(t), Runc: containerstest.Runc(t),
		Daemon: []string{containerstest.Containerd(t), "containerd"},
		Log:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})),
	}}
	if err := os.Mkdir(n.o.Private, 0o700); err != nil {
		t.Fatal(err)
	}
	n.open()
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(run, "containerd.log"))
			t.Logf("containerd.log:\n%s", b)
		}
		if err := n.Purge(context.Background()); err != nil {
			t.Errorf("purge: %v", err)
		}
	})
	host := containerstest.Registry(t)
	n.digest = containerstest.PushProgram(t, host, "prog:1")
	n.image = host + "/prog:1"
	n.pull(n.image)
	return n
}

func (n *node) open() {
	n.t.Helper()
	r, err := Open(ctx(n.t), n.o)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Runtime = r
}

func (n *node) pull(ref string) string {
	n.t.Helper()
	d, err := n.Pull(ctx(n.t), ref, "", nil, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return c
}

// podOf makes a pod with one container "main" that runs the given steps.
func (n *node) podOf(steps ...string) *plan.Pod {
	id := control.PodID(uuid.NewString())
	return &plan.Pod{
		Pod: control.Pod{ID: id, Namespace: "test", Name: "pod-" + string(id[:8]), Epoch: 7},
		Spec: &corev1.PodSpec{Containers: []corev1.Container{{
			Name: "main", Image: n.image, Args: steps,
		}}},
	}
}

func (n *node) launch(p *plan.Pod, attempt int) plan.Launch {
	return n.launchOf(p, &p.Spec.Containers[0], attempt)
}

func (n *node) launchOf(p *plan.Pod, c *corev1.Container, attempt int) plan.Launch {
	return plan.Launch{Pod: p, Container: c, Attempt: attempt, Image: n.image, Digest: n.digest, Command: c.Command, Args: c.Args}
}

// sandbox makes the pod's sandbox.
func (n *node) sandbox(p *plan.Pod) *plan.Pod {
	n.t.Helper()
	if _, err := n.CreateSandbox(ctx(n.t), p); err != nil {
		n.t.Fatal(err)
	}
	return p
}

// run makes the pod and starts its first container.
func (n *node) run(p *plan.Pod) *plan.Pod {
	n.t.Helper()
	n.sandbox(p)
	if err := n.Start(ctx(n.t), n.launch(p, 0)); err != nil {
		n.t.Fatal(err)
	}
	return p
}

// see gives what List says of a pod's container, nil if it does not say it.
func (n *node) see(p *plan.Pod, container string) *plan.Container {
	n.t.Helper()
	have, err := n.List(ctx(n.t))
	if err != nil {
		n.t.Fatal(err)
	}
	if have[p.ID] == nil {
		return nil
	}
	return have[p.ID].Containers[container]
}

// exit waits until the container has exited and tells how.
func (n *node) exit(p *plan.Pod, container string) *plan.Container {
	n.t.Helper()
	var c *plan.Container
	n.wait("exit of "+container, func() bool {
		c = n.see(p, container)
		return c != nil && c.State == plan.Exited
	})
	return c
}

func (n *node) wait(what string, ok func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// log gives the texts of a container's log, with the stream's name before each line.
func (n *node) log(p *plan.Pod, container string, attempt int) string {
	b, err := os.ReadFile(n.LogFile(p, container, attempt))
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		_, rest, _ := strings.Cut(line, " ")
		out.WriteString(rest)
	}
	return out.String()
}

// killMain sends SIGKILL to the first process of the pod's container "main", as a user might.
func killMain(r *Runtime, id control.PodID) error {
	in := r.pod(id).newest("main")
	return unix.Kill(in.state.Pid, unix.SIGKILL)
}

func sortTimes(ts []time.Duration) { slices.Sort(ts) }

// fakePod writes the records of a pod whose container runs, with a real pinned namespace and no shim.
func (n *node) fakePod() *plan.Pod {
	n.t.Helper()
	p := n.podOf("sleep", "1000")
	h := n.pod(p.ID)
	in := n.newInstance(h, n.launch(p, 0), &image{})
	for _, err := range []error{
		os.MkdirAll(in.dir, 0o711),
		record.Write(filepath.Join(h.dir, record.PodFile), record.Pod{ID: string(p.ID), Namespace: p.Namespace, Name: p.Name, Epoch: p.Epoch}),
		record.Write(filepath.Join(in.dir, record.InstanceFile), in.meta),
		record.Write(filepath.Join(in.dir, record.StateFile), record.State{Pid: 1, Started: nowMilli()}),
		pinNamespaces(filepath.Join(h.dir, "ns"), "fake", map[string]bool{"net": true}),
	} {
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return p
}

func itoa(n uint32) string        { return fmt.Sprint(n) }
func list(groups []uint32) string { return fmt.Sprint(groups) }

// traces lists what the node has on the machine: mounts, cgroups, and processes by their command lines.
func (n *node) traces() []string {
	var all []string
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, n.o.RunDir+"/") || strings.HasPrefix(at, n.o.DataDir+"/") {
			all = append(all, "mount "+at)
		}
	}
	for _, dir := range cgroupDirs("/shoal-" + n.o.Instance) {
		pods, _ := os.ReadDir(dir)
		for _, p := range names(pods) {
			all = append(all, "cgroup "+dir+"/"+p)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range procs {
		b, _ := os.ReadFile(file)
		if line := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(line, n.o.RunDir) && !n.waits(line) {
			all = append(all, "process "+file+" "+line)
		}
	}
	private, _ := os.ReadDir(n.o.Private)
	for _, p := range names(private) {
		all = append(all, "private "+p)
	}
	slices.Sort(all)
	return all
}

// waits tells of a shim's command line whether it is a spare that no pod took: a pod's shim has its socket elsewhere.
func (n *node) waits(line string) bool {
	_, path, _ := strings.Cut(line, "-socket ")
	path, _, _ = strings.Cut(path, " ")
	if !strings.Contains(path, "/"+sparePrefix) {
		return false
	}
	_, err := os.Stat(filepath.Dir(path))
	return err == nil
}

func (n *node) imageDigest() digest.Digest { return digest.Digest(n.digest) }

// createTask does the first half of Start's conversation with the shim.
func (n *node) createTask(p *pod, in *instance, mount *types.Mount) error {
	return p.tasks(ctx(n.t), n.Runtime, func(ctx context.Context, t taskapi.TTRPCTaskService) error {
		_, err := t.Create(ctx, &taskapi.CreateTaskRequest{ID: in.meta.ID, Bundle: in.dir, Rootfs: []*types.Mount{mount}, Options: n.taskOptions()})
		return err
	})
}

// killDaemon kills containerd and waits until it is gone.
func (n *node) killDaemon() {
	n.t.Helper()
	var proc *pidfd.Process
	n.wait("containerd", func() bool {
		n.daemon.mu.Lock()
		defer n.daemon.mu.Unlock()
		proc = n.daemon.proc
		select {
		case <-proc.Exited:
			return false
		default:
			return true
		}
	})
	unix.Kill(proc.PID, unix.SIGKILL)
	<-proc.Exited
}
