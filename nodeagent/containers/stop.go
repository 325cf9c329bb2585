package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// ErrNotRunning is returned for a container that does not run.
var ErrNotRunning = errors.New("container is not running")

// killWait is how long a container may take to be gone after SIGKILL.
const killWait = 20 * time.Second

// Signal sends a signal to the first process of a container.
func (r *Runtime) Signal(ctx context.Context, id control.PodID, container string, sig unix.Signal) error {
	p := r.pod(id)
	in := p.newest(container)
	if in == nil || !in.running() {
		return fmt.Errorf("signal container %s: %w", container, ErrNotRunning)
	}
	if err := r.kill(ctx, p, in, sig, false); err != nil {
		return fmt.Errorf("signal container %s: %w", container, err)
	}
	return nil
}

// Stop sends the image's stop signal, SIGTERM if it names none, and after grace SIGKILL to all of the container's
// processes; it returns once the container has exited. One that does not run is fine. When ctx ends, Stop
// returns and the container goes on with the signals it got.
func (r *Runtime) Stop(ctx context.Context, id control.PodID, container string, grace time.Duration) error {
	p := r.pod(id)
	in := p.newest(container)
	if in == nil || in.state.Finished != 0 {
		return nil
	}
	err := r.stopInstance(ctx, p, in, grace)
	if errors.Is(err, errNeverRan) {
		err = r.removeUnstarted(ctx, p, in)
	}
	if err != nil {
		return fmt.Errorf("stop container %s: %w", container, err)
	}
	return nil
}

// errNeverRan is of an instance that was made and, as its agent died, not started.
var errNeverRan = errors.New("it was never started")

// removeUnstarted takes away what was made of an instance, unless it was started meanwhile after all.
func (r *Runtime) removeUnstarted(ctx context.Context, p *pod, in *instance) error {
	defer p.starts.lock(in.container)()
	if again := p.readInstance(record.InstanceDir(in.container, in.attempt)); again.running() {
		return errNeverRan // its start and its stop met: the stop is asked for again
	}
	return r.removeInstance(ctx, p, in)
}

func (r *Runtime) stopInstance(ctx context.Context, p *pod, in *instance, grace time.Duration) error {
	if grace > 0 && in.running() {
		if err := r.kill(ctx, p, in, stopSignal(in.meta.Stop), false); err != nil && !errors.Is(err, ErrNotRunning) {
			r.o.Log.Warn("stop signal", "pod", p.id, "container", in.container, "err", err)
		}
		if ended, err := r.waitExit(ctx, in, grace); ended || err != nil {
			return err
		}
	}
	if !in.running() {
		return errNeverRan
	}
	if err := r.kill(ctx, p, in, unix.SIGKILL, true); err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	ended, err := r.waitExit(ctx, in, killWait)
	if err == nil && !ended {
		err = fmt.Errorf("it does not end on SIGKILL")
	}
	return err
}

// kill sends a signal through the pod's shim, which knows whether the process is still the one that is meant.
func (r *Runtime) kill(ctx context.Context, p *pod, in *instance, sig unix.Signal, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, runcPatience)
	defer cancel()
	return p.tasks(ctx, r, func(ctx context.Context, t taskapi.TTRPCTaskService) error {
		_, err := t.Kill(ctx, &taskapi.KillRequest{ID: instanceID(p, in.container, in.attempt), Signal: uint32(sig), All: all})
		if err != nil && (errdefs.IsNotFound(errgrpc.ToNative(err)) || strings.Contains(err.Error(), "process already finished")) {
			return ErrNotRunning
		}
		return err
	})
}

// waitExit waits at most that long until the instance's end is recorded.
func (r *Runtime) waitExit(ctx context.Context, in *instance, wait time.Duration) (bool, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	look := time.NewTicker(250 * time.Millisecond) // in case no tiding comes
	defer look.Stop()
	for {
		changed := r.changed()
		var st record.State
		err := record.Read(filepath.Join(in.dir, record.StateFile), &st)
		if err == nil && st.Finished != 0 || errors.Is(err, os.ErrNotExist) {
			in.state = st
			return true, nil
		}
		select {
		case <-changed:
		case <-look.C:
		case <-timeout.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// Remove takes away one instance of a container, killed if it runs, with its writable layer; its log stays until
// two newer instances have theirs. It may be repeated.
func (r *Runtime) Remove(ctx context.Context, id control.PodID, container string, attempt int) error {
	p := r.pod(id)
	defer p.starts.lock(container)()
	var meta record.Pod
	if err := record.Read(filepath.Join(p.dir, record.PodFile), &meta); err == nil {
		kept := attempt + 1 // after a restart of the machine there is no newer instance, but its logs are
		if newest := p.newest(container); newest != nil {
			kept = max(kept, newest.attempt)
		}
		if err := trimLogs(r.podLogs(meta), container, kept); err != nil {
			return fmt.Errorf("remove container %s: %w", container, err)
		}
	}
	in := p.readInstance(record.InstanceDir(container, attempt))
	if in == nil {
		return nil
	}
	if _, err := os.Stat(in.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := r.removeInstance(ctx, p, in); err != nil {
		return fmt.Errorf("remove container %s: %w", container, err)
	}
	return nil
}

// stopSignal reads an image's StopSignal; what is no signal counts as SIGTERM.
func stopSignal(name string) unix.Signal {
	if name == "" {
		return unix.SIGTERM
	}
	sig, err := signal.ParseSignal(name)
	if err != nil {
		return unix.SIGTERM
	}
	return sig
}
