package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// shmBytes is the size of a pod's /dev/shm, as containerd and Docker have it.
const shmBytes = "65536k"

// CreateSandbox makes what a pod's containers share, as far as it is not there: pinned namespaces, /dev/shm, the
// parent cgroup, and its shim, which starts meanwhile. It returns the path of the network namespace, "" for a
// pod in the host's.
func (r *Runtime) CreateSandbox(ctx context.Context, want *plan.Pod) (netns string, err error) {
	if err := checkID(string(want.ID)); err != nil {
		return "", fmt.Errorf("create sandbox: %w", err)
	}
	p := r.pod(want.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	spare := r.takeSpare(p)
	if err := os.MkdirAll(filepath.Join(p.dir, record.Instances), 0o711); err != nil {
		return "", fmt.Errorf("create sandbox: %w", err)
	}
	if !spare {
		p.warm(r) // the slowest part, beside the rest
	}
	meta := record.Pod{
		ID: string(want.ID), Namespace: want.Namespace, Name: want.Name, Epoch: want.Epoch,
		HostNet: want.Spec.HostNetwork, Cgroup: r.podCgroup(want.ID),
	}
	if err := record.Write(filepath.Join(p.dir, record.PodFile), meta); err != nil {
		return "", fmt.Errorf("create sandbox: %w", err)
	}
	if r.guarded(want) {
		if err := r.fence(want.ID); err != nil {
			return "", fmt.Errorf("create sandbox: %w", err)
		}
	}
	kinds := map[string]bool{"net": !want.Spec.HostNetwork, "ipc": !want.Spec.HostIPC, "uts": !want.Spec.HostNetwork}
	if err := pinNamespaces(filepath.Join(p.dir, "ns"), hostname(want), kinds); err != nil {
		return "", fmt.Errorf("create sandbox: %w", err)
	}
	if !want.Spec.HostIPC {
		if err := mountShm(filepath.Join(p.dir, "shm")); err != nil {
			return "", fmt.Errorf("create sandbox: %w", err)
		}
	}
	if err := r.makePodCgroup(want); err != nil {
		return "", fmt.Errorf("create sandbox: %w", err)
	}
	return r.Netns(want.ID), nil
}

// Netns is the path of a pod's network namespace, "" if it has none of its own.
func (r *Runtime) Netns(id control.PodID) string {
	path := filepath.Join(r.podDir(id), "ns", "net")
	if !pinned(path) {
		return ""
	}
	return path
}

// RemoveSandbox takes away a pod and everything of it: containers that still run are killed. It may be
// repeated, also after it failed in the middle.
func (r *Runtime) RemoveSandbox(ctx context.Context, id control.PodID) error {
	return r.removeSandbox(ctx, id, true)
}

// Dismiss takes away what a reboot would take of a pod that has stopped, and leaves its logs.
func (r *Runtime) Dismiss(ctx context.Context, id control.PodID) error {
	return r.removeSandbox(ctx, id, false)
}

func (r *Runtime) removeSandbox(ctx context.Context, id control.PodID, logs bool) error {
	if err := checkID(string(id)); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	p := r.pod(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	var meta record.Pod
	_ = record.Read(filepath.Join(p.dir, record.PodFile), &meta) // without it there are no logs to find
	var errs []error
	for _, in := range p.instances() {
		if err := r.removeInstance(ctx, p, in); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, p.endShim(ctx, r))
	}
	errs = append(errs, unmount(filepath.Join(p.dir, "shm")), unpinNamespaces(filepath.Join(p.dir, "ns")))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	errs = []error{
		r.removePodCgroup(id),
		r.unfence(id),
		r.dropPrivate(id),
		os.RemoveAll(filepath.Join(r.o.DataDir, "scratch", string(id))),
	}
	if logs && meta.ID != "" {
		errs = append(errs, os.RemoveAll(r.podLogs(meta)))
	}
	errs = append(errs, os.RemoveAll(p.dir)) // last: while it is there, List says so
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	r.mu.Lock()
	delete(r.pods, id)
	r.mu.Unlock()
	return nil
}

func (r *Runtime) podDir(id control.PodID) string {
	return filepath.Join(r.o.RunDir, "pods", string(id))
}

// podLogs is the directory of a pod's logs, named as kubelet does.
func (r *Runtime) podLogs(p record.Pod) string {
	return filepath.Join(r.o.LogDir, p.Namespace+"_"+p.Name+"_"+p.ID)
}

// LogFile is where an instance of a container writes its CRI log.
func (r *Runtime) LogFile(p *plan.Pod, container string, attempt int) string {
	return logFile(r.podLogs(record.Pod{ID: string(p.ID), Namespace: p.Namespace, Name: p.Name}), container, attempt)
}

// Past is how many instances each container of a pod has had, by its logs, which outlive a restart of the machine; nil: none.
func (r *Runtime) Past(p *plan.Pod) map[string]int {
	dir := r.podLogs(record.Pod{ID: string(p.ID), Namespace: p.Namespace, Name: p.Name})
	containers, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var past map[string]int
	for _, c := range containers {
		for n := range attempts(dir, c.Name()) {
			if past == nil {
				past = map[string]int{}
			}
			past[c.Name()] = max(past[c.Name()], n+1)
		}
	}
	return past
}

func hostname(p *plan.Pod) string {
	name := p.Spec.Hostname
	if name == "" {
		name = p.Name
	}
	if len(name) > 63 { // the kernel's limit is 64; kubelet cuts at 63
		name = name[:63]
		for len(name) > 0 && (name[len(name)-1] == '-' || name[len(name)-1] == '.') {
			name = name[:len(name)-1]
		}
	}
	return name
}

func mountShm(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	var parent unix.Stat_t
	var self unix.Stat_t
	if unix.Stat(filepath.Dir(path), &parent) == nil && unix.Stat(path, &self) == nil && parent.Dev != self.Dev {
		return nil // mounted by an earlier call
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("shm", path, "tmpfs", flags, "mode=1777,size="+shmBytes); err != nil {
		return fmt.Errorf("mount shm: %w", err)
	}
	return nil
}

// checkID refuses what could leave the run directory.
func checkID(id string) error {
	if id == "" || len(id) > 36 {
		return fmt.Errorf("pod id %q: expected 1 to 36 characters", id)
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
			return fmt.Errorf("pod id %q: expected letters, digits and dashes", id)
		}
	}
	return nil
}

// nowMilli is the present in ms since 1970.
func nowMilli() int64 { return time.Now().UnixMilli() }
