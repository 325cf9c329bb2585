package renderer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running child. One goroutine at a time may use it.
type process struct {
	cmd     *exec.Cmd
	pid     int
	limits  Limits
	in      *os.File
	out     *bufio.Writer
	frames  chan received // closed when the child's output ends
	stderr  *tail
	stop    chan struct{} // closed when no more frames are taken
	stopped sync.Once
	waited  chan struct{} // closed when the child is gone and reaped
	state   *os.ProcessState
	sandbox Sandbox
	apps    int // begun in this process
}

type received struct {
	frame frame
	err   error
}

// start runs the command and waits until it has locked itself up.
func start(ctx context.Context, command []string, limits Limits, log *slog.Logger) (*process, error) {
	if os.Geteuid() == 0 {
		p, err := startIn(ctx, command, limits, true)
		if err == nil || !errors.Is(err, unix.EPERM) {
			return p, err
		}
		// Root without the right to make namespaces, as in a container.
		log.WarnContext(ctx, "renderer has no namespaces of its own", "err", err)
	}
	return startIn(ctx, command, limits, false)
}

func startIn(ctx context.Context, command []string, limits Limits, namespaces bool) (*process, error) {
	p := &process{limits: limits, frames: make(chan received), stop: make(chan struct{}), waited: make(chan struct{}), stderr: &tail{limit: limits.Stderr}}
	pipes, err := newPipes(3)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Env = []string{}
	p.cmd.Dir = "/"
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = pipes[0].r, pipes[1].w, pipes[2].w
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if namespaces {
		p.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	if err := p.cmd.Start(); err != nil {
		for _, x := range pipes {
			_ = x.r.Close()
			_ = x.w.Close()
		}
		return nil, fmt.Errorf("start renderer: %w", err)
	}
	_, _, _ = pipes[0].r.Close(), pipes[1].w.Close(), pipes[2].w.Close()
	p.pid = p.cmd.Process.Pid
	p.in, p.out = pipes[0].w, bufio.NewWriterSize(pipes[0].w, 64<<10)
	// It is the first to go when memory runs out; the right to say so is not always there.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.pid), []byte("1000"), 0)

	var readers sync.WaitGroup
	readers.Go(func() { p.stderr.drain(pipes[2].r) })
	readers.Go(func() { p.receive(pipes[1].r) })
	go func() {
		_ = p.cmd.Wait() // the pipes are files, so this waits for the process alone
		p.state = p.cmd.ProcessState
		_ = unix.Kill(-p.pid, unix.SIGKILL) // what it may have left in its group
		// A grandchild that left the group may hold the pipes: they are closed from here.
		timer := time.AfterFunc(time.Second, func() { _, _ = pipes[1].r.Close(), pipes[2].r.Close() })
		readers.Wait()
		timer.Stop()
		_, _, _ = pipes[1].r.Close(), pipes[2].r.Close(), p.in.Close()
		close(p.waited)
	}()
	if err := p.greet(ctx, namespaces); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (p *process) greet(ctx context.Context, namespaces bool) error {
	if err := p.send(frameHello, hello{Limits: p.limits, Namespaces: namespaces}); err != nil {
		return fmt.Errorf("greet renderer: %w", err)
	}
	limit := time.NewTimer(p.limits.Wall)
	defer limit.Stop()
	for {
		select {
		case r, ok := <-p.frames:
			if !ok || r.err != nil {
				return p.died("before it was ready", r.err)
			}
			var a ready
			if r.frame.Type != frameReady {
				return fmt.Errorf("renderer sent %q in place of ready", r.frame.Type)
			}
			if err := r.frame.decode(&a); err != nil {
				return err
			}
			if a.Error != "" {
				return fmt.Errorf("lock up renderer: %s", a.Error)
			}
			p.sandbox = a.Sandbox
			return nil
		case <-limit.C:
			return fmt.Errorf("renderer was not ready within %s", p.limits.Wall)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// receive reads frames until the output ends. It takes no further frame before the last one was taken.
func (p *process) receive(r io.Reader) {
	defer close(p.frames)
	b := bufio.NewReaderSize(r, 64<<10)
	for {
		f, err := readFrame(b, p.limits.Output)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return
		}
		select {
		case p.frames <- received{f, err}:
		case <-p.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// send fails if the child does not read: then its clocks would not be looked at either.
func (p *process) send(t frameType, header any, body ...[]byte) error {
	if err := p.in.SetWriteDeadline(time.Now().Add(p.limits.Wall)); err != nil {
		return fmt.Errorf("renderer's input: %w", err)
	}
	return writeFrame(p.out, t, header, body...)
}

// kill ends the child and all of its group, and waits until it is reaped.
func (p *process) kill() {
	p.stopped.Do(func() { close(p.stop) })
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	_ = unix.Kill(p.pid, unix.SIGKILL)
	<-p.waited
}

// end lets an idle child finish: its input is closed. One that does not is killed.
func (p *process) end() {
	p.stopped.Do(func() { close(p.stop) })
	_ = p.in.Close()
	select {
	case <-p.waited:
	case <-time.After(time.Second):
		p.kill()
	}
}

// died describes a child's end.
func (p *process) died(when string, err error) error {
	p.kill()
	text := "the renderer ended"
	if when != "" {
		text += " " + when
	}
	if err != nil {
		text += fmt.Sprintf(" (%v)", err)
	}
	if p.state != nil {
		text += ": " + p.state.String()
	}
	if s := p.stderr.String(); s != "" {
		text += ": " + s
	}
	return errors.New(text)
}

// usage is what the child used so far.
func (p *process) usage() (cpu time.Duration, memory int64) {
	var ts unix.Timespec
	// The clock of another process, as clock_getcpuclockid makes its number.
	if err := unix.ClockGettime(int32(^p.pid)<<3|2, &ts); err == nil {
		cpu = time.Duration(ts.Nano())
	}
	var size, resident, shared int64
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid)); err == nil {
		_, _ = fmt.Sscan(string(b), &size, &resident, &shared)
	}
	return cpu, (resident - shared) * int64(os.Getpagesize())
}

type pipe struct{ r, w *os.File }

func newPipes(n int) ([]pipe, error) {
	var out []pipe
	for range n {
		r, w, err := os.Pipe()
		if err != nil {
			for _, p := range out {
				_, _ = p.r.Close(), p.w.Close()
			}
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		out = append(out, pipe{r, w})
	}
	return out, nil
}
