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

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/dialer"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	containerddaemon "github.com/shoal-dev/shoal/nodeagent/containers/daemon"

	"github.com/shoal-dev/shoal/internal/pidfd"
)

// DaemonMain is what a child of the agent runs to be containerd; it returns the exit status.
func DaemonMain(args []string) int { return containerddaemon.Main(args) }

// How patiently containerd is treated.
const (
	daemonStart   = 30 * time.Second // from its start to its first answer
	daemonBackoff = 5 * time.Second  // at most, between two starts that fail
	logBytes      = 1 << 20          // its log is begun anew past this size when it is started
)

// daemon is the containerd child.
type daemon struct {
	o Options

	mu   sync.Mutex // guards what follows
	proc *pidfd.Process
}

// openDaemon adopts the containerd that answers on the socket, or starts one.
func openDaemon(ctx context.Context, o Options) (*daemon, error) {
	d := &daemon{o: o}
	if pid, err := peerPid(ctx, o.Address); err == nil {
		if d.proc, err = pidfd.Watch(pid); err == nil {
			o.Log.Info("containerd adopted", "pid", pid)
			return d, nil
		}
	}
	return d, d.start(ctx)
}

// start runs containerd and waits until it serves. It gets a session of its own, so that nothing that ends the
// agent's ends it.
func (d *daemon) start(ctx context.Context) error {
	root := filepath.Join(d.o.DataDir, "containerd")
	logFile, err := openDaemonLog(filepath.Join(d.o.RunDir, "containerd.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	if err := os.Remove(d.o.Address); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	args := append(d.o.Daemon[1:len(d.o.Daemon):len(d.o.Daemon)],
		"-root", root, "-state", filepath.Join(d.o.RunDir, "containerd"), "-socket", d.o.Address)
	cmd := exec.Command(d.o.Daemon[0], args...)
	cmd.Dir = "/"
	cmd.Stderr = logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	began := time.Now()
	held, err := d.o.Hold()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range held {
			_ = f.Close()
		}
	}()
	proc, err := pidfd.StartReady(ctx, cmd, daemonStart, held...)
	if err != nil {
		return fmt.Errorf("start (its log is %s): %w", logFile.Name(), err)
	}
	d.o.Log.Info("containerd started", "pid", proc.PID, "took", time.Since(began).Round(time.Millisecond))
	d.mu.Lock()
	d.proc = proc
	d.mu.Unlock()
	return nil
}

// supervise starts containerd again whenever it ended, until ctx does.
func (d *daemon) supervise(ctx context.Context, back func()) {
	wait := 50 * time.Millisecond
	for {
		d.mu.Lock()
		proc := d.proc
		d.mu.Unlock()
		select {
		case <-ctx.Done():
			proc.Unwatch()
			return
		case <-proc.Exited:
		}
		d.o.Log.Warn("containerd ended, starts again", "pid", proc.PID)
		for {
			began := time.Now()
			err := d.start(ctx)
			if err == nil {
				back()
				break
			}
			if ctx.Err() != nil {
				return
			}
			d.o.Log.Error("containerd does not start, will retry", "err", err, "wait", wait)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			if wait = min(2*wait, daemonBackoff); time.Since(began) > time.Minute {
				wait = 50 * time.Millisecond
			}
		}
	}
}

// terminate asks containerd to end, and insists when ctx does.
func (d *daemon) terminate(ctx context.Context) error {
	pid, err := peerPid(ctx, d.o.Address)
	if err != nil {
		return nil // it is not there
	}
	proc, err := pidfd.Watch(pid)
	if err != nil {
		return nil
	}
	_ = unix.Kill(pid, unix.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	select {
	case <-proc.Exited:
		return nil
	case <-ctx.Done():
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	select {
	case <-proc.Exited:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("containerd %d does not end", pid)
	}
}

// Holder is the containerd child that runs for a run directory, and may hold what the agent before had it hold
// (Options.Hold); 0 if there is none.
func Holder(ctx context.Context, runDir string) int {
	pid, err := peerPid(ctx, daemonSocket(runDir))
	if err != nil {
		return 0
	}
	return pid
}

func daemonSocket(runDir string) string { return filepath.Join(runDir, "containerd.sock") }

// dial connects to containerd. The connection outlives containerd: it is made again within half a second.
func dial(o Options) (*containerd.Client, error) {
	_ = log.SetLevel("error") // its library tells us of failures by errors
	params := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
		MinConnectTimeout: 2 * time.Second,
	}
	return containerd.New(o.Address,
		containerd.WithDefaultNamespace(o.namespace()),
		containerd.WithDialOpts([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(params),
			grpc.WithContextDialer(dialer.ContextDialer),
			// Calls wait while containerd is started again; their contexts bound that.
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
			grpc.WithReadBufferSize(8 << 10), grpc.WithWriteBufferSize(8 << 10),
		}))
}

// peerPid gives the process that listens on a unix socket.
func peerPid(ctx context.Context, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return connPid(c.(*net.UnixConn))
}

func connPid(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return int(cred.Pid), nil
}

func openDaemonLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if st, err := os.Stat(path); err == nil && st.Size() > logBytes {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}
