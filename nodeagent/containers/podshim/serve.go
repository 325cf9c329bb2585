package podshim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/pkg/sys/reaper"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

// Options say where a shim serves and whom it wakes.
type Options struct {
	Socket string   // unix socket to listen on; made anew
	Wake   string   // unix datagram socket of the agent; may be absent at any time
	Ready  *os.File // told when it serves; if nobody listens there, the shim ends
	Log    *slog.Logger
}

// lockFd is the descriptor of the pod directory's lock. It is held by being open, in this process alone.
const lockFd = 4

// Serve runs the shim until it is told to shut down.
func Serve(ctx context.Context, o Options) error {
	debug.SetGCPercent(40)
	unix.CloseOnExec(int(o.Ready.Fd()))
	unix.CloseOnExec(lockFd)
	// Caught and dropped, not ignored: containers would inherit that.
	hearSignals()
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	children := make(chan os.Signal, 32)
	signal.Notify(children, unix.SIGCHLD)
	if err := reaper.SetSubreaper(1); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	ctx, sd := shutdown.WithShutdown(ctx)
	defer sd.Shutdown()

	s := newService(o.Log, o.Wake)
	inner, err := task.NewTaskService(ctx, s, sd)
	if err != nil {
		return fmt.Errorf("task service: %w", err)
	}
	s.TTRPCTaskService = inner

	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()))
	if err != nil {
		return fmt.Errorf("ttrpc server: %w", err)
	}
	s.register(server)
	l, err := listen(o.Socket)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	if _, err := o.Ready.Write([]byte{'1'}); err != nil {
		return fmt.Errorf("the agent is gone, this shim serves nobody: %w", err)
	}
	o.Ready.Close()
	for {
		select {
		case <-children:
			if err := reaper.Reap(); err != nil {
				o.Log.Warn("reap", "err", err)
			}
		case err := <-served:
			if err != nil && !errors.Is(err, ttrpc.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		case <-sd.Done():
			server.Close()
			return nil
		}
	}
}

// listen makes the socket, readable to root alone.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its directory may have been renamed since
	return l, nil
}
