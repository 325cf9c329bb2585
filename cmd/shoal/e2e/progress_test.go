//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/images"
)

// slow hands out blobs at 700 kB a second: the image takes longer than the two seconds between lines in a pipe.
type slow struct{ http.ResponseWriter }

func (s slow) Write(p []byte) (n int, err error) {
	for piece := range slices.Chunk(p, 32<<10) {
		time.Sleep(time.Duration(len(piece)) * time.Second / 700_000)
		m, err := s.ResponseWriter.Write(piece)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// SlowRegistry is a registry on the node that has the test program as "probe:v1"; it returns its address.
func (n *Node) SlowRegistry() string {
	n.t.Helper()
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	serve := func(l net.Listener, h http.Handler) string {
		server := &http.Server{Handler: h}
		go func() { _ = server.Serve(l) }()
		n.t.Cleanup(func() { server.Close() })
		return l.Addr().String()
	}
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	img, err := (&images.Builder{}).Image(context.Background(), "probe", "v1")
	if err != nil {
		n.t.Fatal(err)
	}
	if err := images.Push(context.Background(), serve(outside, store)+"/probe:v1", img); err != nil {
		n.t.Fatal(err)
	}
	var inside net.Listener
	if err := n.within(func() (err error) { inside, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		n.t.Fatal(err)
	}
	return serve(inside, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			w = slow{w}
		}
		store.ServeHTTP(w, r)
	}))
}

// terminal is the two ends of a new pseudo-terminal.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

// shoal dev shows how far pulls and roll-outs are: in lines where it is piped, at the foot of a terminal and in colour
// where it has one. A state saved while an older one rolls out is not kept waiting.
func TestDevShowsProgress(t *testing.T) {
	for _, tt := range []struct {
		name     string
		terminal bool
	}{{"piped", false}, {"on a terminal", true}} {
		t.Run(tt.name, func(t *testing.T) {
			n := NewNode(t)
			image := n.SlowRegistry() + "/probe:v1"
			app := strings.Replace(replicated("one"), "shoal.local/probe:v1", image, 1)
			repo := n.Repository(map[string]string{"apps/web/web.cue": app})
			cmd := n.command(context.Background(), binary(t), "dev", "--data-dir", n.Data, "--run-dir", n.Run, "--log-dir", n.Logs,
				"--node-name", "n1", "--address", "192.168.77.1", repo.Dir)
			cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=")
			cmd.Stdout, cmd.Stderr = n.output, n.output
			if tt.terminal {
				ours, theirs := terminal(t)
				cmd.Stdout, cmd.Stderr = theirs, theirs
				go func() { _, _ = io.Copy(n.output, ours) }() // ends when both ends are closed
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			exited := make(chan error, 1)
			go func() { exited <- cmd.Wait() }()
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			says := func(what string) {
				t.Helper()
				pattern := regexp.MustCompile(what)
				n.Eventually(60*time.Second, func() error {
					if !pattern.MatchString(n.output.String()) {
						return fmt.Errorf("%q is not said", what)
					}
					return nil
				})
			}
			says(`pulling ` + image + ` (0\.[1-9]|[1-9]\.\d) of \d\.\d MB`)
			says(`[12]/3 ready`)
			says(`all ready after \d+ ms`)
			if _, err := os.Stat(filepath.Join(repo.Dir, ".git/refs/heads/main")); err == nil {
				t.Error("the user's own repository was touched")
			}

			repo.Write("apps/web/web.cue", strings.Replace(app, `"serve", `, `"serve", "-ready=false", `, 1))
			says(`created after`)
			n.Eventually(soon, func() error {
				if s := n.Status(); len(s.Rollouts) != 1 || s.Rollouts[0].Ready != 0 || s.Rollouts[0].State != "Progressing" {
					return fmt.Errorf("rollouts: %+v", s.Rollouts)
				}
				return nil
			})
			begun := time.Now()
			repo.Write("apps/web/web.cue", strings.Replace(app, `"one"`, `"mended"`, 1))
			n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=mended") })
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("the mended state waited %s", took)
			}

			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-exited:
				if exit, ok := errors.AsType[*exec.ExitError](err); ok {
					t.Errorf("shoal dev: %v", exit)
				}
			case <-time.After(90 * time.Second):
				t.Fatal("shoal dev does not end")
			}
			if got := strings.Contains(n.output.String(), "\x1b["); got != tt.terminal {
				t.Errorf("control sequences: %t", got)
			}
			if tt.terminal && !regexp.MustCompile(`\x1b\[1mdev/web [012]/3 ready`).MatchString(n.output.String()) {
				t.Error("the roll-out is not at the foot")
			}
		})
	}
}
