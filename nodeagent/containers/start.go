package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// Start makes and starts one instance of a container. The pod's sandbox and the image must be there. A second
// call for the same attempt changes nothing if the first came through, and begins anew if it was cut short.
//
// The path has no write to a disk that is waited for and asks nothing of containerd: the writable layer is an
// empty directory over the image's layers, which are known since the image was opened.
func (r *Runtime) Start(ctx context.Context, l plan.Launch) error {
	name := l.Container.Name
	if err := r.start(ctx, l); err != nil {
		return fmt.Errorf("start container %s: %w", name, err)
	}
	return nil
}

// meant is the digest of a container's image: the one fixed at activation or named by the reference, else what the tag
// that was not known then leads to here by now.
func (r *Runtime) meant(ctx context.Context, l plan.Launch) (digest.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	return r.store.find(ctx, l.Image, l.Digest)
}

func (r *Runtime) start(ctx context.Context, l plan.Launch) error {
	if err := checkID(string(l.Pod.ID)); err != nil {
		return err
	}
	d, err := r.meant(ctx, l)
	if err != nil {
		return fmt.Errorf("image %s: %w", l.Image, err)
	}
	p := r.pod(l.Pod.ID)
	defer p.starts.lock(l.Container.Name)()
	p.warm(r)
	if in := p.readInstance(record.InstanceDir(l.Container.Name, l.Attempt)); in != nil {
		switch _, err := os.Stat(in.dir); {
		case err != nil: // not there, as it should be
		case in.state.Started != 0:
			return nil
		default:
			if r.resume(ctx, p, in) == nil {
				return nil
			}
			if err := r.removeInstance(ctx, p, in); err != nil {
				return fmt.Errorf("remove what a former start left: %w", err)
			}
		}
	}
	ictx, cancel := context.WithTimeout(ctx, imageTimeout)
	im, err := r.store.get(ictx, d)
	cancel()
	if err != nil {
		return fmt.Errorf("image %s: %w", l.Image, err)
	}
	spec, err := r.spec(p, l, im)
	if err != nil {
		return err
	}
	if err := r.shareProcesses(ctx, p, l.Pod, spec); err != nil {
		return err
	}
	in := r.newInstance(p, l, im)
	mount, err := r.writeBundle(p, in, spec, im)
	if err != nil {
		return err
	}
	if err := p.ready(ctx, r); err != nil {
		return errors.Join(err, r.removeInstance(context.WithoutCancel(ctx), p, in))
	}
	_, err = r.launch(ctx, p, in, mount)
	return err
}

// launch has the pod's shim, which runs, make and start an instance whose bundle is written. One that does not start is
// removed.
func (r *Runtime) launch(ctx context.Context, p *pod, in *instance, rootfs ...*types.Mount) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, runcPatience)
	defer cancel()
	err = p.tasks(ctx, r, func(ctx context.Context, t taskapi.TTRPCTaskService) error {
		if _, err := t.Create(ctx, &taskapi.CreateTaskRequest{
			ID: in.meta.ID, Bundle: in.dir, Rootfs: rootfs, Options: r.taskOptions(),
		}); err != nil {
			return runcError(err)
		}
		started, err := t.Start(ctx, &taskapi.StartRequest{ID: in.meta.ID})
		if err != nil {
			return runcError(err)
		}
		pid = int(started.Pid)
		return nil
	})
	if err != nil {
		return 0, errors.Join(err, r.removeInstance(context.WithoutCancel(ctx), p, in))
	}
	return pid, nil
}

// resume goes on with an instance whose starting was cut short after runc had made it.
func (r *Runtime) resume(ctx context.Context, p *pod, in *instance) error {
	ctx, cancel := context.WithTimeout(ctx, runcPatience)
	defer cancel()
	return p.tasks(ctx, r, func(ctx context.Context, t taskapi.TTRPCTaskService) error {
		id := instanceID(p, in.container, in.attempt)
		st, err := t.State(ctx, &taskapi.StateRequest{ID: id})
		if err != nil {
			return err
		}
		switch st.Status {
		case tasktypes.Status_RUNNING:
			return p.repairState(in, st.Pid)
		case tasktypes.Status_CREATED:
			_, err = t.Start(ctx, &taskapi.StartRequest{ID: id})
			return err
		}
		return fmt.Errorf("it is %s", st.Status)
	})
}

func (r *Runtime) newInstance(p *pod, l plan.Launch, im *image) *instance {
	dir := record.InstanceDir(l.Container.Name, l.Attempt)
	pod := record.Pod{ID: string(l.Pod.ID), Namespace: l.Pod.Namespace, Name: l.Pod.Name}
	limit := ""
	if r.guarded(l.Pod) {
		limit = r.o.Deadline
	}
	return &instance{
		pod: p, dir: filepath.Join(p.dir, record.Instances, dir), container: l.Container.Name, attempt: l.Attempt,
		meta: record.Instance{
			ID: instanceID(p, l.Container.Name, l.Attempt), Container: l.Container.Name, Attempt: l.Attempt,
			Image: l.Digest, Streak: l.Streak, Created: nowMilli(),
			Log:      logFile(r.podLogs(pod), l.Container.Name, l.Attempt),
			Deadline: limit,
			Stdin:    l.Container.Stdin, TTY: l.Container.TTY, Stop: im.config.StopSignal,
			Cgroup:  r.podCgroup(p.id) + "/" + dir,
			Message: r.messageFile(p, l), MessageLog: l.Container.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError,
		},
	}
}

// writeBundle writes the instance's directory and gives the mount that is its root file system.
func (r *Runtime) writeBundle(p *pod, in *instance, spec any, im *image) (*types.Mount, error) {
	scratch := r.scratchDir(p, in.container, in.attempt)
	for _, dir := range []string{filepath.Join(in.dir, "rootfs"), filepath.Join(scratch, "fs"), filepath.Join(scratch, "work")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	// The upper directory is what the container sees as "/".
	if err := os.Chmod(filepath.Join(scratch, "fs"), 0o755); err != nil {
		return nil, err
	}
	if err := makeMessageFile(in.meta.Message); err != nil {
		return nil, err
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := r.writeConfig(p, in, b); err != nil {
		return nil, err
	}
	if err := record.Write(filepath.Join(in.dir, record.InstanceFile), in.meta); err != nil {
		return nil, err
	}
	return &types.Mount{Type: "overlay", Source: "overlay", Options: []string{
		"index=off",
		"workdir=" + filepath.Join(scratch, "work"),
		"upperdir=" + filepath.Join(scratch, "fs"),
		"lowerdir=" + strings.Join(im.lower, ":"),
	}}, nil
}

func (r *Runtime) taskOptions() *anypb.Any {
	a, err := typeurl.MarshalAnyToProto(&options.Options{BinaryName: r.o.Runc, Root: r.runcRoot()})
	if err != nil {
		panic(err) // a message of our own
	}
	return a
}

// runcError makes the words of runc out of an error that came over the shim's socket.
func runcError(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, prefix := range []string{"rpc error: code = Unknown desc = ", "OCI runtime create failed: ", "OCI runtime start failed: ", "failed to create shim task: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return &RuncError{Text: text}
}

// RuncError is what runc said when it refused to make or to start a container.
type RuncError struct{ Text string }

func (e *RuncError) Error() string { return e.Text }
