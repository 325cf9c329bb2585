package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// pauseName is the instance that holds a pod's process namespace. No container can have the name.
const pauseName = "_pause"

// nobody is who it runs as.
const nobody = 65535

func sharesProcesses(spec *corev1.PodSpec) bool {
	return spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace && !spec.HostPID
}

// shareProcesses has a container's spec join the process namespace of its pod. A namespace of processes ends with its
// first one, so unlike the others it cannot be pinned: a process that does nothing holds it, in a container of its own
// with nothing in it, for its neighbours see it as process 1 and may look at its root. It is started with the first
// container, and again should it have ended, which ends all of them.
func (r *Runtime) shareProcesses(ctx context.Context, p *pod, want *plan.Pod, s *specs.Spec) error {
	if !sharesProcesses(want.Spec) {
		return nil
	}
	pid, err := r.holdProcesses(ctx, p, want)
	if err != nil {
		return fmt.Errorf("shared process namespace: %w", err)
	}
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == specs.PIDNamespace {
			s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/pid", pid)
		}
	}
	return nil
}

// holdProcesses gives the process that holds the namespace, and starts it if it does not run.
func (r *Runtime) holdProcesses(ctx context.Context, p *pod, want *plan.Pod) (pid int, err error) {
	defer p.starts.lock(pauseName)()
	if err := p.ready(ctx, r); err != nil { // one that is cleaned up after says how its containers ended
		return 0, err
	}
	attempt := 0
	if in := p.newest(pauseName); in != nil {
		if in.running() {
			return in.state.Pid, nil
		}
		attempt = in.attempt + 1
		if err := r.removeInstance(ctx, p, in); err != nil {
			return 0, err
		}
	}
	dir, limit := record.InstanceDir(pauseName, attempt), ""
	if r.guarded(want) {
		limit = r.o.Deadline
	}
	in := &instance{
		pod: p, dir: filepath.Join(p.dir, record.Instances, dir), container: pauseName, attempt: attempt,
		meta: record.Instance{ID: instanceID(p, pauseName, attempt), Container: pauseName, Attempt: attempt, Created: nowMilli(), Deadline: limit, Cgroup: r.podCgroup(p.id) + "/" + dir},
	}
	config, err := json.Marshal(r.pauseSpec(p, want, attempt))
	if err != nil {
		return 0, err
	}
	if err := errors.Join(
		os.MkdirAll(filepath.Join(in.dir, "rootfs"), 0o711),
		os.WriteFile(filepath.Join(in.dir, "config.json"), config, 0o600),
		record.Write(filepath.Join(in.dir, record.InstanceFile), in.meta),
	); err != nil {
		return 0, err
	}
	return r.launch(ctx, p, in)
}

// pauseSpec is a container with the shim's program, no right and nothing else.
func (r *Runtime) pauseSpec(p *pod, want *plan.Pod, attempt int) *specs.Spec {
	protect := -998 // as kubelet has it: with it all of the pod ends
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{
			Args: []string{"/pause", "pause"}, Env: []string{"GOMAXPROCS=1"}, Cwd: "/",
			User: specs.User{UID: nobody, GID: nobody}, NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}, // runc needs it
			{Destination: "/pause", Type: "bind", Source: r.o.Shim, Options: []string{"bind", "ro", "nosuid", "nodev"}},
		},
		Linux: &specs.Linux{
			MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths,
			CgroupsPath: r.podCgroup(want.ID) + "/" + pauseName + "." + strconv.Itoa(attempt),
			Namespaces:  r.namespaces(p, want.Spec),
			Resources:   &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
	}
	if mayProtect() {
		s.Process.OOMScoreAdj = &protect
	}
	s.Linux.Seccomp = seccompProfile(s, false)
	return s
}
