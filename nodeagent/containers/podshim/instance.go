package podshim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/nodeagent/containers/crilog"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// drainWait is how long an exit waits for the rest of the output, so that who sees the exit code finds the last
// line in the log. It is over at once unless a process outside the container holds the stream open.
const drainWait = 100 * time.Millisecond

// instance is one container this shim keeps.
type instance struct {
	dir                   string
	meta                  record.Instance
	stdin, stdout, stderr string // FIFOs for containerd's service; empty when not used

	log     *crilog.Log
	held    []io.Closer   // ends of FIFOs kept open until containerd's service has its own
	keep    io.Closer     // the writing end of stdin, so that it does not end when a client leaves
	drained chan struct{} // closed when all output is in the log

	mu    sync.Mutex // guards state
	state record.State
}

// openInstance reads what the agent wrote into the bundle, makes the FIFOs and begins to copy the output.
func openInstance(dir string) (_ *instance, err error) {
	in := &instance{dir: dir, drained: make(chan struct{})}
	if err := record.Read(filepath.Join(dir, record.InstanceFile), &in.meta); err != nil {
		return nil, fmt.Errorf("read instance: %w", err)
	}
	defer func() {
		if err != nil {
			in.handedOver()
			in.close()
		}
	}()
	if in.meta.Stdin {
		if in.stdin, err = makeFifo(dir, "stdin"); err != nil {
			return nil, err
		}
		// Read and write: opening it so never blocks, and the container sees no end while the shim lives.
		f, err := os.OpenFile(in.stdin, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		in.keep = f
	}
	var streams sync.WaitGroup
	defer func() {
		go func() { streams.Wait(); close(in.drained) }()
	}()
	if in.meta.Log == "" && !in.meta.TTY {
		return in, nil
	}
	if in.meta.Log != "" {
		if in.log, err = crilog.Open(in.meta.Log, in.meta.LogBytes, in.meta.LogFiles); err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
	}
	read := func(name string) (string, error) {
		path, err := makeFifo(dir, name)
		if err != nil {
			return "", err
		}
		r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return "", err
		}
		w, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			r.Close()
			return "", err
		}
		in.held = append(in.held, w)
		streams.Go(func() {
			defer r.Close()
			if in.log == nil {
				_, _ = io.Copy(io.Discard, r)
				return
			}
			_ = in.log.Copy(name, r)
		})
		return path, nil
	}
	if in.stdout, err = read("stdout"); err != nil {
		return nil, err
	}
	if !in.meta.TTY { // a terminal has one stream
		if in.stderr, err = read("stderr"); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// handedOver closes the writing ends that were held until somebody else had them.
func (in *instance) handedOver() {
	for _, c := range in.held {
		c.Close()
	}
	in.held = nil
}

// close ends the log, after what is left of the output.
func (in *instance) close() {
	if in.keep != nil {
		in.keep.Close()
	}
	if in.log == nil {
		return
	}
	select {
	case <-in.drained:
	case <-time.After(drainWait):
	}
	in.log.Close()
}

// lapsed is an error when the instance may not run any more.
func (in *instance) lapsed() error {
	if in.meta.Deadline == "" || !deadline.Read(in.meta.Deadline).Over(deadline.Now()) {
		return nil
	}
	return errors.New("this node's lease is over: it may run elsewhere")
}

// started notes that the first process runs.
func (in *instance) started(pid int, at time.Time) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.state.Started = at.UnixMilli()
	if in.state.Finished == 0 { // it may have ended meanwhile
		in.state.Pid = pid
	}
	return record.Write(filepath.Join(in.dir, record.StateFile), in.state)
}

// exited notes how the first process ended.
func (in *instance) exited(code int32, at time.Time) error {
	oom := oomKills(in.meta.Cgroup) > 0
	select {
	case <-in.drained:
	case <-time.After(drainWait):
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.state.Pid = 0
	in.state.Finished = at.UnixMilli()
	in.state.ExitCode = code
	in.state.Signal = record.SignalOf(code)
	in.state.OOM = in.state.OOM || oom
	in.state.Lapsed = in.state.Signal == int32(unix.SIGKILL) && in.lapsed() != nil
	return record.Write(filepath.Join(in.dir, record.StateFile), in.state)
}

// outOfMemory ends the whole container when the kernel killed one process of it, as a container that lost a part
// of itself is worse than one that is started again. With cgroup v2 the kernel does that itself.
func (in *instance) outOfMemory(tasks taskapi.TTRPCTaskService) {
	in.mu.Lock()
	known := in.state.OOM
	in.state.OOM = true
	in.mu.Unlock()
	if known {
		return // containerd's watcher may say it more than once
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, _ = tasks.Kill(ctx, &taskapi.KillRequest{ID: in.meta.ID, Signal: uint32(unix.SIGKILL), All: true})
	}()
}

func makeFifo(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make fifo %s: %w", path, err)
	}
	return path, nil
}
