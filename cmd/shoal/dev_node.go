package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// localNode is one node of a ring on one machine: `shoal agent` in a network namespace, as it would run on a machine.
type localNode struct {
	name           string
	namespace      string
	address        netip.Addr
	data, run, log string      // directories
	args           []string    // further flags of the agent
	token          string      // to join with; "": it is in the ring
	says           *lineWriter // with its name before each line
	up             atomic.Bool
}

// dirs are flags of both agent and reset.
func (n *localNode) dirs() []string {
	return []string{"--data-dir", n.data, "--run-dir", n.run, "--log-dir", n.log}
}

func (n *localNode) socket() string { return filepath.Join(n.run, "agent.sock") }

func (n *localNode) client() *api.Client { return api.NewClient(n.socket()) }

// keep runs the agent until ctx ends, and then ends it. An agent that ends by itself once the ring was whole is started
// again, as systemd does it; before that it is an error.
func (n *localNode) keep(ctx context.Context) error {
	for {
		err := n.agent(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			err = errors.New("exit status 0")
		}
		if !n.up.Load() {
			return fmt.Errorf("the agent of %s ended: %w", n.name, err)
		}
		fmt.Fprintf(n.says, "the agent ended (%v) and is started again\n", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// agent runs the agent once. It gets SIGTERM when ctx ends, and SIGKILL with this process.
func (n *localNode) agent(ctx context.Context) error {
	args := append([]string{"agent", "--node-name", n.name, "--address", n.address.String(), "--end-together"}, n.dirs()...)
	cmd, err := n.command(ctx, append(args, n.args...)...)
	if err != nil {
		return err
	}
	if n.token != "" {
		cmd.Env = append(os.Environ(), "SHOAL_TOKEN="+n.token) // arguments are for everybody to see
	}
	cmd.Stdout, cmd.Stderr = n.says, n.says
	cmd.Cancel = func() error {
		n.says.hush() // all end at once, and each would tell of the others
		return cmd.Process.Signal(syscall.SIGTERM)
	}
	cmd.WaitDelay = 15 * time.Second
	return inNamespace(n.namespace, cmd.Run)
}

// reset removes what the node made on the machine; its data stays. An agent that is about to die is waited for.
func (n *localNode) reset(ctx context.Context) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		cmd, err := n.command(ctx, append([]string{"reset", "--yes", "--keep-data"}, n.dirs()...)...)
		if err != nil {
			return err
		}
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		err = inNamespace(n.namespace, cmd.Run)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			if err != nil {
				err = fmt.Errorf("remove %s: %w: %s", n.name, err, bytes.TrimSpace(said.Bytes()))
			}
			return err
		}
	}
}

// command is a command line of ours, out of reach of the terminal's signals: the end has an order.
func (n *localNode) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// lineWriter hands whole lines on, each with a prefix; what is longer than 64 KiB is cut there. Safe for concurrent use.
type lineWriter struct {
	w      io.Writer
	prefix string

	mu   sync.Mutex // guards what follows
	rest []byte     // of a line that has no end yet
	mute bool       // what comes is dropped
}

// hush drops what comes from now on.
func (l *lineWriter) hush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mute, l.rest = true, nil
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mute {
		return len(p), nil
	}
	l.rest = append(l.rest, p...)
	for len(l.rest) > 0 {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 && len(l.rest) < 64<<10 {
			break
		}
		line := l.rest
		if end >= 0 {
			line = l.rest[:end]
		}
		if _, err := fmt.Fprintf(l.w, "%s%s\n", l.prefix, line); err != nil {
			return 0, err
		}
		l.rest = l.rest[min(len(line)+1, len(l.rest)):]
	}
	return len(p), nil
}
