package containers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// TerminalSize is a terminal's size in characters.
type TerminalSize struct{ Width, Height uint32 }

// ExecOptions say what is run in a container that runs.
type ExecOptions struct {
	Args   []string
	TTY    bool
	Stdin  io.Reader // nil: none
	Stdout io.Writer // nil: discarded
	Stderr io.Writer // nil: discarded; not used with TTY
	Resize <-chan TerminalSize
}

// execDrain is how long output may still come after the process ended: a child that it left may hold the stream.
const execDrain = 2 * time.Second

// Exec runs a command in a container, as the container's user and in its environment, and returns its exit code.
// When ctx ends the command is killed and ctx's error returned; a Write or Read of the client's streams that is
// under way then may last until the client closes them.
func (r *Runtime) Exec(ctx context.Context, id control.PodID, container string, o ExecOptions) (int, error) {
	p := r.pod(id)
	in := p.newest(container)
	if in == nil || !in.running() {
		return 0, fmt.Errorf("exec in container %s: %w", container, ErrNotRunning)
	}
	code, err := r.exec(ctx, p, in, o)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", container, err)
	}
	return code, nil
}

func (r *Runtime) exec(ctx context.Context, p *pod, in *instance, o ExecOptions) (code int, err error) {
	if len(o.Args) == 0 {
		return 0, errors.New("no command")
	}
	spec, err := execSpec(in, o)
	if err != nil {
		return 0, err
	}
	id := instanceID(p, in.container, in.attempt)
	execID := rand.Text()[:16]
	streams, err := openStreams(filepath.Join(r.o.RunDir, "exec", execID), o)
	if err != nil {
		return 0, err
	}
	defer streams.close()
	// The context bounds the command, not the calls that end it.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	err = p.tasks(calls, r, func(calls context.Context, t taskapi.TTRPCTaskService) error {
		setup, cancel := context.WithTimeout(calls, runcPatience)
		defer cancel()
		if _, err := t.Exec(setup, &taskapi.ExecProcessRequest{
			ID: id, ExecID: execID, Terminal: o.TTY, Spec: spec,
			Stdin: streams.stdin, Stdout: streams.stdout, Stderr: streams.stderr,
		}); err != nil {
			return runcError(err)
		}
		defer func() {
			streams.discard()
			end, cancel := context.WithTimeout(context.WithoutCancel(calls), runcPatience)
			defer cancel()
			_, _ = t.Delete(end, &taskapi.DeleteRequest{ID: id, ExecID: execID})
		}()
		streams.copy(o)
		if _, err := t.Start(setup, &taskapi.StartRequest{ID: id, ExecID: execID}); err != nil {
			return runcError(err)
		}
		streams.handedOver()
		streams.feed(o)
		kill := context.AfterFunc(ctx, func() {
			_, _ = t.Kill(calls, &taskapi.KillRequest{ID: id, ExecID: execID, Signal: uint32(unix.SIGKILL)})
		})
		defer kill()
		resized := make(chan struct{})
		defer func() { <-resized }()
		ended, end := context.WithCancel(calls)
		defer end()
		go func() {
			defer close(resized)
			for {
				select {
				case size, ok := <-o.Resize:
					if !ok {
						return
					}
					_, _ = t.ResizePty(ended, &taskapi.ResizePtyRequest{ID: id, ExecID: execID, Width: size.Width, Height: size.Height})
				case <-ended.Done():
					return
				}
			}
		}()
		streams.onStdinEnd(func() {
			_, _ = t.CloseIO(ended, &taskapi.CloseIORequest{ID: id, ExecID: execID, Stdin: true})
		})
		res, err := t.Wait(calls, &taskapi.WaitRequest{ID: id, ExecID: execID})
		if err != nil {
			return runcError(err)
		}
		code = int(res.ExitStatus)
		if err := ctx.Err(); err != nil {
			return err
		}
		streams.drain(execDrain)
		return nil
	})
	return code, err
}

// execSpec is the container's own process with other arguments.
func execSpec(in *instance, o ExecOptions) (*anypb.Any, error) {
	var spec specs.Spec
	if err := record.Read(filepath.Join(in.dir, "config.json"), &spec); err != nil {
		return nil, err
	}
	proc := spec.Process
	proc.Args, proc.Terminal = o.Args, o.TTY
	if o.TTY {
		proc.Env = append(proc.Env, "TERM=xterm")
	}
	return typeurl.MarshalAnyToProto(proc)
}

// streams are the FIFOs between an exec and its client, in a directory of their own.
type streams struct {
	dir                   string
	stdin, stdout, stderr string
	out, err              *os.File
	held                  []*os.File // writing ends, until the shim has its own
	copying               sync.WaitGroup
	stdinEnd              chan struct{} // closed when the client's input is over
	closed                chan struct{}
}

func openStreams(dir string, o ExecOptions) (_ *streams, err error) {
	s := &streams{dir: dir, stdinEnd: make(chan struct{}), closed: make(chan struct{})}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	open := func(name string) (path string, r, w *os.File, err error) {
		path = filepath.Join(dir, name)
		if err = unix.Mkfifo(path, 0o600); err != nil {
			return "", nil, nil, err
		}
		if r, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			return "", nil, nil, err
		}
		if w, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
			r.Close()
		}
		return path, r, w, err
	}
	var w *os.File
	if s.stdout, s.out, w, err = open("stdout"); err != nil {
		return nil, err
	}
	s.held = append(s.held, w)
	if !o.TTY {
		if s.stderr, s.err, w, err = open("stderr"); err != nil {
			return nil, err
		}
		s.held = append(s.held, w)
	}
	if o.Stdin != nil {
		s.stdin = filepath.Join(dir, "stdin")
		if err := unix.Mkfifo(s.stdin, 0o600); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// copy begins to move bytes between the FIFOs and the client.
func (s *streams) copy(o ExecOptions) {
	move := func(w io.Writer, r *os.File) {
		if w == nil {
			w = io.Discard
		}
		s.copying.Go(func() {
			if _, err := io.Copy(gate{w, s.closed}, r); err != nil {
				_, _ = io.Copy(io.Discard, r) // the client is gone; the command must not hang on that
			}
		})
	}
	move(o.Stdout, s.out)
	if s.err != nil {
		move(o.Stderr, s.err)
	}
}

// feed begins to move the client's input. The shim opens its end some time after it has answered that the command runs:
// what was written and closed before that would be lost, and the shim would wait for it for ever.
func (s *streams) feed(o ExecOptions) {
	if s.stdin == "" {
		return
	}
	go func() { // ends with the client's stream: nobody can interrupt a Read
		in := s.openStdin()
		if in == nil {
			return
		}
		go func() { <-s.closed; in.Close() }()
		_, _ = io.Copy(in, o.Stdin)
		if o.TTY {
			// Closing it would hang the terminal up; this is how somebody at the keyboard ends his input.
			_, _ = in.Write([]byte{0x04})
			return
		}
		in.Close()
		close(s.stdinEnd)
	}()
}

// openStdin opens the writing end once there is a reader; nil when the streams are closed before.
func (s *streams) openStdin() *os.File {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		in, err := os.OpenFile(s.stdin, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err == nil {
			return in
		}
		if !errors.Is(err, unix.ENXIO) {
			return nil // the directory is gone
		}
		select {
		case <-s.closed:
			return nil
		case <-time.After(wait):
		}
	}
}

// onStdinEnd calls f when the client's input is over.
func (s *streams) onStdinEnd(f func()) {
	if s.stdin == "" {
		return
	}
	go func() {
		select {
		case <-s.stdinEnd:
			f()
		case <-s.closed:
		}
	}()
}

func (s *streams) handedOver() {
	for _, f := range s.held {
		f.Close()
	}
	s.held = nil
}

// drain waits for the rest of the output, at most that long.
func (s *streams) drain(wait time.Duration) {
	done := make(chan struct{})
	go func() { s.copying.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(wait):
	}
}

// discard reads on for a client that does not, until the streams are closed: the shim waits up to 10 s until all output
// was taken, and as it holds a reading end too, closing ours does not tell it.
func (s *streams) discard() {
	for _, f := range []*os.File{s.out, s.err} {
		if f != nil {
			go func() { _, _ = io.Copy(io.Discard, f) }()
		}
	}
}

// close ends the copying and removes the FIFOs. It does not wait for a client that does not read.
func (s *streams) close() {
	close(s.closed)
	s.handedOver()
	for _, f := range []*os.File{s.out, s.err} {
		if f != nil {
			f.Close()
		}
	}
	os.RemoveAll(s.dir)
}

// gate lets no Write begin after it was closed. One that is under way ends when the client's writer lets it.
type gate struct {
	w      io.Writer
	closed <-chan struct{}
}

func (g gate) Write(b []byte) (int, error) {
	select {
	case <-g.closed:
		return 0, io.ErrClosedPipe
	default:
		return g.w.Write(b)
	}
}
