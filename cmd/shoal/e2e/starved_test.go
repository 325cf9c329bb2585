//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// starve gives an agent one percent of a processor; feed takes that back. Its guard and its pods have cgroups of their own.
func (n *Node) starve() (feed func()) {
	n.t.Helper()
	name := fmt.Sprintf("sh-e2e-starved-%d-%s", os.Getpid(), n.name)
	dir, limit := filepath.Join("/sys/fs/cgroup/cpu", name), "cpu.cfs_quota_us"
	word := "1000" // µs, of the usual 100 ms
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		dir, limit, word = filepath.Join("/sys/fs/cgroup", name), "cpu.max", "1000 100000"
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, limit), []byte(word), 0o644); err != nil {
		n.t.Fatal(err)
	}
	pid := fmt.Sprint(n.agent.Process.Pid)
	own, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		n.t.Fatal(err)
	}
	back := ""
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if parts[1] == "cpu" {
			back = filepath.Join("/sys/fs/cgroup/cpu", parts[2])
		} else if parts[1] == "" && limit == "cpu.max" {
			back = filepath.Join("/sys/fs/cgroup", parts[2])
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0o644); err != nil {
		n.t.Fatal(err)
	}
	fed := false
	feed = func() {
		if !fed {
			fed = true
			stat, _ := os.ReadFile(filepath.Join(dir, "cpu.stat"))
			n.t.Logf("%s: %s", n.name, strings.Join(strings.Fields(string(stat)), " "))
			for range 100 { // those that it made meanwhile, too
				b, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
				pids := strings.Fields(string(b))
				if len(pids) == 0 {
					break
				}
				for _, pid := range pids {
					_ = os.WriteFile(filepath.Join(back, "cgroup.procs"), []byte(pid), 0o644) // it may have ended
				}
			}
			if err := os.Remove(dir); err != nil {
				n.t.Error(err)
			}
		}
	}
	n.t.Cleanup(feed)
	return feed
}

// An agent with one percent of a processor, a follower's and then the leader's: nobody else is taken for lost, and no pod of
// others moves. It itself may be: its pods have substitutes then, and what may run once is never there twice.
func TestFault_N3(t *testing.T) {
	r, w := chaos(t)
	for _, which := range []string{"follower", "leader"} {
		starved, rest := r.around(r.leader())
		if which == "follower" {
			starved, rest = rest[0], append(rest[1:], starved)
		}
		ofRest := func() string {
			var lines []string
			for line := range strings.Lines(places(rest[0])) {
				for _, n := range rest {
					if strings.Contains(line, " "+n.name+" ") && strings.HasPrefix(line, "web-") {
						lines = append(lines, strings.TrimSpace(line))
					}
				}
			}
			return strings.Join(lines, "\n")
		}
		before := ofRest()
		feed := starved.starve()
		asking, cancel := context.WithCancel(context.Background())
		var questions sync.WaitGroup
		questions.Go(func() { // it has something to do, and cannot
			for asking.Err() == nil {
				ctx, over := context.WithTimeout(asking, time.Second)
				_, _ = starved.Client().Status(ctx)
				over()
			}
		})
		begun := time.Now()
		fate := map[string]int{}
		for span := time.Duration(rounds(8, 20)) * time.Second; time.Since(begun) < span; time.Sleep(200 * time.Millisecond) {
			for name, state := range rest[0].states() {
				if name == starved.name {
					fate[state]++
				} else if state != "Ready" && state != "Unsteady" { // it was starved before
					t.Errorf("%s with a starved %s: %s is %s", time.Since(begun).Round(time.Millisecond), which, name, state)
				}
			}
			w.look()
		}
		t.Logf("the starved %s was found: %v", which, fate)
		if name, err := rest[0].leads(); which == "leader" {
			t.Logf("%s leads: %v", name, err)
		}
		for line := range strings.Lines(before) {
			if after := ofRest(); !strings.Contains(after, strings.TrimSpace(line)) {
				t.Errorf("a starved %s: pods of others before\n%s\nafter\n%s", which, before, after)
			}
		}
		cancel()
		questions.Wait()
		feed()
		r.settled(4) // surplus pods are gone too
	}
	w.alone(t)
}
