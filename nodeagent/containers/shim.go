package containers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/internal/pidfd"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// shimStart is how long a shim may take until it serves.
const shimStart = 20 * time.Second

// pod is the handle of one pod's directory and shim. What it knows beside that can be lost.
type pod struct {
	id  control.PodID
	dir string

	mu sync.Mutex // held while the sandbox is made or removed, and while its dead shim is cleaned up after

	shimMu  sync.Mutex // guards what follows
	shim    *pidfd.Process
	warming chan struct{} // closed when the start that is under way is over; nil if none is
	warmErr error

	knownMu sync.Mutex // guards known
	known   known

	starts keyed // one start at a time for each container
}

// pod gives the handle of a pod, made at the first call.
func (r *Runtime) pod(id control.PodID) *pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[id]
	if p == nil {
		p = &pod{id: id, dir: r.podDir(id)}
		r.pods[id] = p
	}
	return p
}

// warm begins to start the pod's shim unless it runs.
func (p *pod) warm(r *Runtime) {
	p.shimMu.Lock()
	defer p.shimMu.Unlock()
	if p.shim != nil || p.warming != nil {
		return
	}
	done := make(chan struct{})
	p.warming = done
	r.done.Go(func() {
		proc, err := r.startShim(p.dir)
		p.shimMu.Lock()
		p.warming, p.warmErr = nil, err
		if err == nil {
			p.keep(r, proc)
		}
		p.shimMu.Unlock()
		close(done)
	})
}

// ready waits until the pod's shim runs, and starts it if it does not.
func (p *pod) ready(ctx context.Context, r *Runtime) error {
	for range 3 {
		p.shimMu.Lock()
		shim, warming := p.shim, p.warming
		p.shimMu.Unlock()
		if shim != nil {
			return nil
		}
		if warming == nil {
			p.warm(r)
			continue
		}
		select {
		case <-warming:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.shimMu.Lock()
		err := p.warmErr
		p.shimMu.Unlock()
		if err != nil {
			return fmt.Errorf("start shim: %w", err)
		}
	}
	return errors.New("start shim: it ends at once")
}

// keep takes proc as the pod's shim and waits for its end, to clean up after it. shimMu is held.
func (p *pod) keep(r *Runtime, proc *pidfd.Process) {
	p.shim = proc
	r.done.Go(func() {
		select {
		case <-proc.Exited:
		case <-proc.Unwatched:
			return
		case <-r.closed:
			proc.Unwatch()
			return
		}
		p.shimMu.Lock()
		if p.shim == proc {
			p.shim = nil
		}
		p.shimMu.Unlock()
		p.mu.Lock()
		r.buryShim(p)
		p.mu.Unlock()
		r.notify()
	})
}

// startShim runs a shim for the pod directory dir. It outlives the agent.
//
// The shim holds the lock of the directory from its birth to its end, so there are never two: one that a former
// agent was about to start is adopted, or waited for, as it ends by itself when nobody hears that it is ready.
func (r *Runtime) startShim(dir string) (*pidfd.Process, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "shim.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	for deadline := time.Now().Add(shimStart); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if pid, perr := peerPid(context.Background(), filepath.Join(dir, record.SocketFile)); perr == nil {
			return pidfd.Watch(pid)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return nil, fmt.Errorf("lock pod directory: %w", err)
		}
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "shim.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd := exec.Command(r.o.Shim,
		"-socket", filepath.Join(dir, record.SocketFile), "-wake", filepath.Join(r.o.RunDir, "agent.sock"))
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + defaultPath, "GOMAXPROCS=2"}
	if r.o.Private != "" {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+r.o.Private) // go-runc writes there what a command gets that is run in a container
	}
	cmd.Stderr = logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return pidfd.StartReady(context.Background(), cmd, shimStart, lock)
}

// tasks runs f with a connection to the pod's shim, which must run.
func (p *pod) tasks(ctx context.Context, r *Runtime, f func(context.Context, taskapi.TTRPCTaskService) error) error {
	c, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, record.SocketFile))
	if err != nil {
		return fmt.Errorf("reach shim: %w", err)
	}
	client := ttrpc.NewClient(c)
	defer client.Close()
	return f(namespaces.WithNamespace(ctx, r.o.namespace()), taskapi.NewTTRPCTaskClient(client))
}

// adoptShim finds the shim that a former agent started.
func (p *pod) adoptShim(ctx context.Context, r *Runtime) bool {
	pid, err := peerPid(ctx, filepath.Join(p.dir, record.SocketFile))
	if err != nil {
		return false
	}
	proc, err := pidfd.Watch(pid)
	if err != nil {
		return false
	}
	p.shimMu.Lock()
	defer p.shimMu.Unlock()
	p.keep(r, proc)
	return true
}

// endShim ends the pod's shim, whose containers are gone.
func (p *pod) endShim(ctx context.Context, r *Runtime) error {
	p.shimMu.Lock()
	shim, warming := p.shim, p.warming
	p.shimMu.Unlock()
	if warming != nil {
		select {
		case <-warming:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.shimMu.Lock()
		shim = p.shim
		p.shimMu.Unlock()
	}
	if shim == nil {
		return nil
	}
	p.shimMu.Lock()
	p.shim = nil // its end is no accident
	p.shimMu.Unlock()
	shim.Unwatch()
	// It has nothing to put in order: no container is left, the logs are closed.
	if err := pidfd.Kill(shim.PID); err != nil {
		return fmt.Errorf("end shim: %w", err)
	}
	return nil
}

// keyed is a set of locks by name.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

// lock takes the lock of key and returns what gives it back.
func (k *keyed) lock(key string) func() {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*sync.Mutex{}
	}
	l := k.locks[key]
	if l == nil {
		l = &sync.Mutex{}
		k.locks[key] = l
	}
	k.mu.Unlock()
	l.Lock()
	return l.Unlock
}
