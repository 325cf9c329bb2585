//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// observer looks every 20 ms on which machines of a ring a process runs that may run once only.
type observer struct {
	stop func()

	mu    sync.Mutex // guards what follows
	began time.Time
	lines []string // what changed, and when
	now   string   // names of the machines, "" for none
	twice string   // when it ran on two at once
}

// watch begins to look for processes with a word in their environment.
func (r *ring) watch(word string) *observer {
	r.t.Helper()
	marks := map[string]string{} // of instances -> names
	for _, n := range r.nodes {
		n.mark = n.Status().NodeID[:6]
		marks["shoal-"+n.mark+"/"] = n.name
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &observer{began: time.Now()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			w.look(word, marks)
		}
	}()
	w.stop = func() { cancel(); <-done }
	r.t.Cleanup(w.stop)
	return w
}

func (w *observer) look(word string, marks map[string]string) {
	var on []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(dir + "/environ")
		if err != nil || !bytes.Contains(env, []byte(word)) {
			continue
		}
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		for mark, name := range marks {
			if bytes.Contains(cgroup, []byte(mark)) && !slices.Contains(on, name) {
				on = append(on, name)
			}
		}
	}
	slices.Sort(on)
	now := strings.Join(on, " and ")
	w.mu.Lock()
	defer w.mu.Unlock()
	if now == w.now {
		return
	}
	w.now = now
	line := fmt.Sprintf("%6d ms  %s", time.Since(w.began).Milliseconds(), now)
	w.lines = append(w.lines, line)
	if len(on) > 1 {
		w.twice = line
	}
}

// running is where it runs.
func (w *observer) running() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// testify ends the test if it ever ran twice, and tells what was seen.
func (w *observer) testify(t *testing.T) {
	t.Helper()
	w.stop()
	t.Logf("where it ran:\n%s", strings.Join(w.lines, "\n"))
	if w.twice != "" {
		t.Errorf("it ran twice: %s", w.twice)
	}
}

// fencedRing is three machines with a page on each, and what may run once only on one that leads, or does not.
func fencedRing(t *testing.T, onLeader bool) (r *ring, x *Node, rest []*Node) {
	r = newRing(t, 3).start()
	first := r.nodes[0]
	first.Image("probe:v1")
	leader := r.leader()
	x, rest = r.around(leader)
	if !onLeader {
		for _, n := range r.nodes {
			if n.name != leader {
				x, rest = r.around(n.name)
			}
		}
	}
	for _, n := range rest {
		if _, errs, code := first.Shoal("cordon", n.name); code != 0 {
			t.Fatal(errs)
		}
	}
	repo := first.Repository(map[string]string{"apps/one/one.cue": strings.Replace(strictApp, "strict:", "env: ALONE: \"yes\"\n\tstrict:", 1)})
	repo.Push("one")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 1) })
	for _, n := range rest {
		if _, errs, code := first.Shoal("uncordon", n.name); code != 0 {
			t.Fatal(errs)
		}
	}
	repo.Write("apps/web/web.cue", strings.Replace(webApp("probe:v1", "one"), "image:", "replicas: 3\n\timage:", 1))
	repo.Push("web")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 4) })
	if on := nodeOf(first.Status(), "one-"); on != x.name {
		t.Fatalf("it runs on %s, want %s", on, x.name)
	}
	return r, x, rest
}

// An agent that is killed and not started again, or hangs: what may run once is dead on its machine before it runs
// elsewhere, what is stateless goes on there, and an agent that is back brings nothing back.
func TestFeature_R5_Guard(t *testing.T) {
	for _, c := range []struct {
		name     string
		onLeader bool
		halted   bool
	}{
		{"killed", false, false},
		{"killed leader", true, false},
		{"halted", false, true},
		{"halted leader", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, x, rest := fencedRing(t, c.onLeader)
			w := r.watch("ALONE=yes")
			rest[0].Eventually(5*time.Second, func() error {
				if on := w.running(); on != x.name {
					return fmt.Errorf("it runs on %q", on)
				}
				return nil
			})
			pages := x.programs("/probe", "GREETING=one")
			begun := time.Now()
			if c.halted {
				if err := x.agent.Process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			} else {
				x.Kill()
			}
			rest[0].Eventually(30*time.Second, func() error {
				if on := w.running(); on == "" || on == x.name {
					return fmt.Errorf("it runs on %q", on)
				}
				return nil
			})
			t.Logf("it runs elsewhere %s after the agent of %s was %s", time.Since(begun).Round(time.Millisecond), x.name, c.name)
			if now := x.programs("/probe", "GREETING=one"); len(pages) == 0 || !slices.Equal(now, pages) {
				t.Errorf("what is stateless on that machine was %v, is %v", pages, now)
			}
			if c.halted {
				time.Sleep(time.Until(begun.Add(15 * time.Second)))
				if err := x.agent.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			} else {
				time.Sleep(2 * time.Second)
				x.Start()
			}
			rest[0].Eventually(60*time.Second, func() error {
				list, err := rest[0].Client().Ring(context.Background(), true)
				if err != nil {
					return err
				}
				for _, n := range list.Nodes {
					if n.State != "Ready" {
						return fmt.Errorf("node %s is %s", n.Name, n.State)
					}
				}
				return ready(rest[0].Status(), 4)
			})
			time.Sleep(3 * time.Second) // for what might come back
			if on := w.running(); on == "" || on == x.name {
				t.Errorf("with the agent back it runs on %q", on)
			}
			w.testify(t)
		})
	}
}

// programs are those of the machine's containers that run a program with a word in their environment.
func (n *Node) programs(program, word string) (pids []int) {
	n.t.Helper()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		env, _ := os.ReadFile(dir + "/environ")
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		if bytes.HasPrefix(cmdline, []byte(program)) && bytes.Contains(env, []byte(word)) && bytes.Contains(cgroup, []byte("shoal-"+n.mark)) {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return pids
}

// guards are the processes that guard a machine.
func (n *Node) guards() (pids []int) {
	n.t.Helper()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		if bytes.Contains(cmdline, []byte("\x00guard\x00")) && bytes.Contains(cmdline, []byte(n.Run+"/")) {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// A machine alone has no guard. In a ring each has one, whatever is killed; where none can be, what may run once is not
// started, and says why. It goes with the ring, and a reset leaves nothing of it.
func TestFeature_R5_GuardComesAndGoes(t *testing.T) {
	r := newRing(t, 2)
	first, second := r.nodes[0], r.nodes[1]
	first.Start()
	if pids := first.guards(); len(pids) != 0 {
		t.Errorf("a machine alone has guards %v", pids)
	}
	// Something is where the guard is to be.
	spoiled := filepath.Join(first.Run, "c", "guard")
	if err := os.WriteFile(spoiled, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := first.Client().CreateToken(context.Background(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	second.Args = append(second.Args, "--join", token.Address, "--token", token.Text)
	second.Start()
	one := func(n *Node) func() error {
		return func() error {
			if pids := n.guards(); len(pids) != 1 {
				return fmt.Errorf("%s has guards %v", n.name, pids)
			}
			return nil
		}
	}
	second.Eventually(10*time.Second, one(second))
	first.Image("probe:v1")
	if _, errs, code := first.Shoal("cordon", second.name); code != 0 {
		t.Fatal(errs)
	}
	first.Repository(map[string]string{"apps/one/one.cue": strictApp}).Push("one")
	first.Eventually(20*time.Second, func() error {
		s := first.Status()
		if len(s.Pods) != 1 || s.Pods[0].Status != "NoLease" || !strings.Contains(s.Pods[0].Message, "nothing would kill it here") {
			return fmt.Errorf("%+v", s.Pods)
		}
		return nil
	})
	if err := os.Remove(spoiled); err != nil {
		t.Fatal(err)
	}
	first.Eventually(10*time.Second, one(first))
	first.Eventually(20*time.Second, func() error { return ready(first.Status(), 1) })

	was := first.guards()[0]
	time.Sleep(time.Second)
	for line := range strings.Lines(first.must("grep", "-E", "^(Rss|Pss|Locked):", fmt.Sprintf("/proc/%d/smaps_rollup", was))) {
		t.Log("guard", strings.TrimSpace(line))
	}
	kill9(t, was)
	first.Eventually(10*time.Second, func() error {
		if pids := first.guards(); len(pids) != 1 || pids[0] == was {
			return fmt.Errorf("guards %v", pids)
		}
		return nil
	})
	was = first.guards()[0]
	first.Kill()
	first.Start()
	first.Eventually(10*time.Second, one(first))
	if now := first.guards()[0]; now != was {
		t.Errorf("the next agent has guard %d, not %d", now, was)
	}
	first.Eventually(20*time.Second, func() error { return ready(first.Status(), 1) })

	if _, errs, code := first.Shoal("drain", second.name); code != 0 {
		t.Fatal(errs)
	}
	second.Stop()
	first.Eventually(20*time.Second, func() error {
		if _, errs, code := first.Shoal("remove", second.name); code != 0 {
			return fmt.Errorf("%s", errs)
		}
		return nil
	})
	first.Eventually(10*time.Second, func() error {
		if pids := first.guards(); len(pids) != 0 {
			return fmt.Errorf("alone again it has guards %v", pids)
		}
		return nil
	})
	// The other's guard goes on until its machine is reset.
	if _, errs, code := second.Shoal("reset", "--yes", "--data-dir", second.Data, "--run-dir", second.Run, "--log-dir", second.Logs); code != 0 {
		t.Fatal(errs)
	}
	if left := second.guards(); len(left) != 0 {
		t.Errorf("left behind: guards %v", left)
	}
}
