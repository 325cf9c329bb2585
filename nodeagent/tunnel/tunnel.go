package tunnel

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/internal/pidfd"
)

// Options say which node's tunnel it is.
type Options struct {
	Device  string           // required: name of the interface
	Command []string         // required: runs Main; its arguments are appended
	RunDir  string           // required: directory of the process's lock and log; on a file system that a reboot empties
	Sockets string           // directory of the process's socket; default /var/run/wireguard, where wg(8) looks
	Key     *ecdh.PrivateKey // of the node; nil: only End is used
	Port    uint16           // UDP
	Mount   string           // where the cgroup file systems are; default /sys/fs/cgroup
	Cgroup  string           // of the process, from each controller's root; "": that of the agent
	Log     *slog.Logger     // default: discard
}

// Tunnel keeps the process. Its methods may be repeated and are safe for concurrent use.
type Tunnel struct {
	opt Options

	mu    sync.Mutex        // guards all below; held while the process is started
	proc  *pidfd.Process    // that is watched; nil: none is
	ended func()            // is called when it ends
	told  map[string]string // endpoints that it was told, by key
}

// New makes the agent's half; it starts nothing.
func New(o Options) *Tunnel {
	if o.Sockets == "" {
		o.Sockets = "/var/run/wireguard"
	}
	if o.Mount == "" {
		o.Mount = "/sys/fs/cgroup"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Tunnel{opt: o, told: map[string]string{}}
}

// OnEnd has f called, in a goroutine of its own, whenever the process has ended without being told to.
func (t *Tunnel) OnEnd(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = f
}

// Close ends the watching. The process goes on.
func (t *Tunnel) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unwatch()
}

func (t *Tunnel) unwatch() {
	if t.proc != nil {
		t.proc.Unwatch()
		t.proc = nil
	}
}

// Ensure has the process run, with the nodes of routes as its peers and no others. Sessions of peers that stay go on.
func (t *Tunnel) Ensure(ctx context.Context, routes []wire.Route) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh, err := t.run(ctx)
	if err != nil {
		return fmt.Errorf("WireGuard: %w", err)
	}
	if err = t.configure(ctx, routes); err != nil && !fresh && ctx.Err() == nil {
		// It lives and does not answer: another one will.
		t.opt.Log.WarnContext(ctx, "WireGuard does not answer, starts again", "err", err)
		if err = t.end(); err == nil {
			if _, err = t.run(ctx); err == nil {
				err = t.configure(ctx, routes)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("WireGuard: %w", err)
	}
	return nil
}

// Check tells what Ensure would mend. It changes nothing.
func (t *Tunnel) Check(ctx context.Context, routes []wire.Route) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pid, version, err := holder(t.lock())
	switch {
	case err != nil:
		return nil, fmt.Errorf("WireGuard: %w", err)
	case pid == 0:
		return []string{"WireGuard's process is gone"}, nil
	case version != protocol:
		return []string{"WireGuard's process is of another version"}, nil
	}
	have, err := t.get(ctx)
	if err != nil {
		return []string{"WireGuard's process does not answer: " + err.Error()}, nil
	}
	return between(have, t.want(routes), nobody).drift, nil
}

func nobody(string) bool { return false }

// End ends the process, if there is one, and takes away what it needed. The interface stays.
func (t *Tunnel) End() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	errs := []error{t.end()}
	for _, path := range []string{t.socket(), t.lock(), t.log()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	_ = os.Remove(t.opt.RunDir)  // unless there is something else in it
	_ = os.Remove(t.opt.Sockets) // likewise
	if t.opt.Cgroup != "" {
		errs = append(errs, leave(t.opt.Mount, t.opt.Cgroup))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end WireGuard: %w", err)
	}
	return nil
}

// end kills the process that holds the lock.
func (t *Tunnel) end() error {
	t.unwatch()
	clear(t.told)
	pid, _, err := holder(t.lock())
	if pid == 0 || err != nil {
		return err
	}
	return pidfd.Kill(pid)
}

// run finds the process, or starts it, and watches it. fresh tells that it was started.
func (t *Tunnel) run(ctx context.Context) (fresh bool, err error) {
	pid, version, err := holder(t.lock())
	if err != nil {
		return false, err
	}
	if pid != 0 && t.proc != nil && t.proc.PID == pid {
		select {
		case <-t.proc.Exited: // and the lock is of a later process of its number
		default:
			return false, nil
		}
	}
	t.unwatch()
	if pid != 0 && version == protocol {
		if t.proc, err = pidfd.Watch(pid); err == nil {
			go t.tell(t.proc)
			t.opt.Log.InfoContext(ctx, "WireGuard adopted", "pid", pid)
			return false, nil
		}
		pid = 0 // it has just ended
	}
	if pid != 0 {
		t.opt.Log.InfoContext(ctx, "WireGuard is of another version, and is replaced", "pid", pid)
		if err := pidfd.Kill(pid); err != nil {
			return false, err
		}
	}
	clear(t.told)
	if t.proc, err = t.start(ctx); err != nil {
		t.proc = nil
		return false, fmt.Errorf("start (its log is %s): %w", t.log(), err)
	}
	go t.tell(t.proc)
	t.opt.Log.InfoContext(ctx, "WireGuard started", "pid", t.proc.PID, "port", t.opt.Port)
	return true, nil
}

// tell tells when a process has ended without being told to; it ends with it, or with the watching.
func (t *Tunnel) tell(p *pidfd.Process) {
	select {
	case <-p.Exited:
	case <-p.Unwatched:
		return
	}
	t.mu.Lock()
	f := t.ended
	t.mu.Unlock()
	if f != nil {
		f()
	}
}

const (
	// startTime is how long the process may take until it can be configured.
	startTime = 10 * time.Second
	// askTime is how long it may take to answer.
	askTime = 5 * time.Second
	// logBytes is how large its log may have become for the next process to write on in it.
	logBytes = 1 << 20
)

// start runs the process, which outlives the agent, in the network namespace of the calling thread.
func (t *Tunnel) start(ctx context.Context) (*pidfd.Process, error) {
	if err := os.MkdirAll(t.opt.RunDir, 0o700); err != nil {
		return nil, err
	}
	how := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if st, err := os.Stat(t.log()); err == nil && st.Size() > logBytes {
		how |= os.O_TRUNC
	}
	logFile, err := os.OpenFile(t.log(), how, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	args := append(t.opt.Command[1:len(t.opt.Command):len(t.opt.Command)],
		"-device", t.opt.Device, "-port", fmt.Sprint(t.opt.Port), "-socket", t.socket(), "-lock", t.lock(), "-mount", t.opt.Mount, "-cgroup", t.opt.Cgroup)
	cmd := exec.Command(t.opt.Command[0], args...)
	cmd.Dir, cmd.Stderr = "/", logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return pidfd.StartReady(ctx, cmd, startTime)
}

// configure brings the process to what is wanted. What it was told and has of addresses is compared: one that the ledger has
// changed is set, one that WireGuard has followed is not.
func (t *Tunnel) configure(ctx context.Context, routes []wire.Route) error {
	have, err := t.get(ctx)
	if err != nil {
		return err
	}
	want := t.want(routes)
	c := between(have, want, func(key string) bool { return t.told[key] != want.peers[key].endpoint })
	for _, lines := range []string{c.set, c.calm} {
		if lines == "" {
			continue
		}
		if _, err := t.ask(ctx, "set=1\n"+lines+"\n"); err != nil {
			return fmt.Errorf("configure: %w", err)
		}
	}
	clear(t.told)
	for key, p := range want.peers {
		t.told[key] = p.endpoint
	}
	return nil
}

func (t *Tunnel) want(routes []wire.Route) *config {
	return wanted(hex.EncodeToString(t.opt.Key.Bytes()), t.opt.Port, routes)
}

func (t *Tunnel) get(ctx context.Context) (*config, error) {
	c, err := t.ask(ctx, "get=1\n\n")
	if err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	return c, nil
}

// ask sends one request, and reads the answer.
func (t *Tunnel) ask(ctx context.Context, request string) (*config, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", t.socket())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := io.WriteString(c, request); err != nil {
		return nil, err
	}
	return parse(bufio.NewReader(c))
}

func (t *Tunnel) lock() string   { return filepath.Join(t.opt.RunDir, "lock") }
func (t *Tunnel) log() string    { return filepath.Join(t.opt.RunDir, "log") }
func (t *Tunnel) socket() string { return filepath.Join(t.opt.Sockets, t.opt.Device+".sock") }
