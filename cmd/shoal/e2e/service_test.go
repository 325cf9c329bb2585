//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// service plays systemd for one machine: it runs what `shoal install` wrote into the units, and starts it again when it ends.
type service struct {
	n     *Node
	root  string // where it was installed
	bin   string // the installed binary
	start []string
	down  []string // when the machine goes down

	mu      sync.Mutex // guards what follows
	agent   *exec.Cmd
	starts  int
	stopped bool
	done    chan struct{}
}

// install installs a binary and its units for a machine whose agent does not run.
func (n *Node) install(flags ...string) *service {
	n.t.Helper()
	root, prefix := n.t.TempDir(), filepath.Join(n.t.TempDir(), "p")
	if err := os.Symlink(filepath.Join(root, prefix), prefix); err != nil { // as seen from within
		n.t.Fatal(err)
	}
	args := append([]string{"install", "--root", root, "--prefix", prefix, "--start=false", "--shutdown-grace", "10s", "--"}, n.flags()...)
	if out, errs, code := n.Shoal(append(args, flags...)...); code != 0 {
		n.t.Fatalf("install: %s%s", out, errs)
	}
	s := &service{n: n, root: root, bin: filepath.Join(prefix, "bin/shoal")}
	s.start, s.down = s.line("shoal.service", "ExecStart"), s.line("shoal-shutdown.service", "ExecStop")
	return s
}

// line is a command of a unit.
func (s *service) line(unit, key string) []string {
	s.n.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.root, "etc/systemd/system", unit))
	if err != nil {
		s.n.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return strings.Fields(command)
		}
	}
	s.n.t.Fatalf("%s has no %s:\n%s", unit, key, b)
	return nil
}

// run keeps the service running until stop.
func (s *service) run() *service {
	s.done = make(chan struct{})
	s.n.t.Cleanup(s.stop)
	go func() {
		defer close(s.done)
		for {
			s.mu.Lock()
			if s.stopped {
				s.mu.Unlock()
				return
			}
			cmd := s.n.command(context.Background(), s.start[0], s.start[1:]...)
			cmd.Stdout, cmd.Stderr = s.n.output, s.n.output
			if err := cmd.Start(); err != nil {
				s.n.t.Error(err)
				s.mu.Unlock()
				return
			}
			s.agent = cmd
			s.starts++
			s.mu.Unlock()
			_ = cmd.Wait()
			time.Sleep(100 * time.Millisecond) // RestartSec
		}
	}()
	return s
}

// signal is sent to the agent, which is the process that was started.
func (s *service) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agent != nil {
		_ = s.agent.Process.Signal(sig)
	}
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

func (s *service) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(30 * time.Second):
		s.signal(syscall.SIGKILL)
		<-s.done
	}
}

// put exchanges the installed binary, as a package manager does.
func (s *service) put(content []byte) {
	s.n.t.Helper()
	if err := os.WriteFile(s.bin+".new", content, 0o755); err != nil {
		s.n.t.Fatal(err)
	}
	if err := os.Rename(s.bin+".new", s.bin); err != nil {
		s.n.t.Fatal(err)
	}
}

// New binaries that do not work: one that ends at once, one that is half a file, and one that runs and does not reach its ring
// any more. After three starts, or at once where it cannot even begin, the binary before runs again, says so, and goes on
// doing so; pods serve all the while. One that works is taken for good.
func TestFault_U4_NewBinaryDoesNotWork(t *testing.T) {
	r := newRing(t, 3).start()
	first, n := r.nodes[0], r.nodes[2]
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": replicated("one")}).Push("one")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	n.Stop()
	s := n.install("--trial-after", "2s", "--trial-limit", "6s").run()
	first.Eventually(30*time.Second, func() error { return r.whole(3) })
	n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
	good, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	l := n.load(page+"/readyz", 2)
	before := r.processes("serve")
	warning := func() string {
		status, err := n.Client().Status(context.Background())
		if err != nil {
			return ""
		}
		return strings.Join(status.Warnings, "\n")
	}
	// A firewall that only this binary makes: the machine is cut off as long as it runs.
	deaf := fmt.Sprintf(`#!/bin/sh
case "$1" in agent) ;; *) exec %[1]s "$@" ;; esac
nft 'add table ip deaf; add chain ip deaf in { type filter hook input priority -400; }; add rule ip deaf in iifname lan0 drop'
%[1]s "$@"
code=$?
nft delete table ip deaf
exit $code
`, binary(t))
	for _, bad := range []struct {
		name    string
		content []byte
		starts  int // of it, and then one of the binary before
		why     string
		within  time.Duration
	}{
		{"ends at once", []byte("#!/bin/sh\nexit 1\n"), 3, "it was started 3 times within 30m0s", 20 * time.Second},
		{"half a file", good[:len(good)/2], 3, "", 20 * time.Second}, // the kernel may refuse it, or run it until it needs what is missing
		{"no program", []byte("good bye"), 0, "exec format error", 20 * time.Second},
		{"reaches nobody", []byte(deaf), 3, "it was started 3 times within 30m0s", 60 * time.Second},
	} {
		if bad.name == "reaches nobody" { // a machine that is cut off loses its pods to others: so far nobody noticed anything
			l.end(t)
			if after := r.processes("serve"); fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("processes before: %v, after: %v", before, after)
			}
		}
		begun, starts := time.Now(), s.count()
		s.put(bad.content)
		s.signal(syscall.SIGTERM)
		n.Eventually(bad.within, func() error {
			if s.count() == starts {
				return fmt.Errorf("%s: the agent has not ended", bad.name)
			}
			if w := warning(); !strings.Contains(w, s.bin+" is not started: "+bad.why) || !strings.Contains(w, "the binary before it runs") {
				return fmt.Errorf("%s: status warns of %q", bad.name, w)
			}
			return nil
		})
		tries := s.count() - starts - 1
		t.Logf("%s: the binary before runs again after %s and %d tries: %s", bad.name, time.Since(begun).Round(10*time.Millisecond), tries, warning())
		if tries > bad.starts || bad.why != "" && tries != bad.starts {
			t.Errorf("%s: it was started %d times, want %d", bad.name, tries, bad.starts)
		}
		first.Eventually(30*time.Second, func() error { return r.whole(3) })
		// It is not tried again when the agent is restarted. (Politely: one that is killed and then starts late, as after
		// so many starts it does, is lost to the ring, and its pods run elsewhere.)
		s.signal(syscall.SIGTERM)
		n.Eventually(20*time.Second, func() error {
			if s.count() != starts+tries+2 {
				return fmt.Errorf("%d starts", s.count()-starts)
			}
			if w := warning(); !strings.Contains(w, "the binary before it runs") {
				return fmt.Errorf("after a restart: %q", w)
			}
			return nil
		})
		if out, _, _ := n.Shoal("status"); !strings.Contains(out, "is not started") {
			t.Errorf("%s: shoal status:\n%s", bad.name, out)
		}
	}
	starts := s.count()
	s.put(append(slices.Clip(good), "another"...)) // works as well
	s.signal(syscall.SIGTERM)
	n.Eventually(40*time.Second, func() error {
		proven, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(s.bin)), "lib/shoal/proven"))
		if err != nil || proven.Size() != int64(len(good)+7) {
			return fmt.Errorf("the new binary has not proven itself: %v, %w", proven, err)
		}
		return nil
	})
	if w := warning(); w != "" || s.count() != starts+1 {
		t.Errorf("after %d starts of a binary that works: %q", s.count()-starts, w)
	}
	first.Eventually(30*time.Second, func() error { return r.whole(3) })
	first.Eventually(30*time.Second, func() error { return ready(first.Status(), 3) })
}
