//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// requests are sent to each machine all the time.
type requests struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex // guards what follows
	sent   int
	failed []failure
}

// failure is a request that has failed.
type failure struct {
	begun time.Time
	why   string
}

// load asks each machine for the app, twenty times a second.
func (s *soak) load() *requests {
	ctx, stop := context.WithCancel(context.Background())
	l := &requests{stop: stop}
	for _, n := range s.r.nodes {
		l.done.Go(func() {
			client := n.HTTP()
			client.Timeout = 3 * time.Second
			for tick := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; <-tick.C {
				begun := time.Now()
				resp, err := client.Get("http://" + n.address + ":30080/env")
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						err = fmt.Errorf("%s", resp.Status)
					}
				}
				l.note(n, begun, err)
			}
		})
	}
	s.t.Cleanup(stop)
	return l
}

func (l *requests) note(n *Node, begun time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	if err != nil {
		l.failed = append(l.failed, failure{begun, n.name + ": " + err.Error()})
	}
}

// quietTime is one in which no request may fail.
type quietTime struct {
	from, until time.Time
	said        string
}

// judge tells of requests that failed in times in which none may.
func (l *requests) judge(s *soak, quiet []quietTime) {
	for _, q := range quiet {
		for _, f := range l.failed {
			if f.begun.After(q.from) && f.begun.Before(q.until) {
				s.t.Errorf("%s harms nobody, and %s after it began a request failed: %s", q.said, f.begun.Sub(q.from).Round(time.Millisecond), f.why)
			}
		}
	}
	s.checks += len(quiet)
	s.t.Logf("%d requests, of which %d failed while machines were lost, cut off or halted; none of those in %d rounds that harm nobody", l.sent, len(l.failed), len(quiet))
	if len(l.failed) > l.sent/3 {
		s.t.Errorf("%d of %d requests failed, the first with %s", len(l.failed), l.sent, l.failed[0].why)
	}
}

// converge waits until everything is as it should be, without a manual step but the commit that says so.
func (s *soak) converge(after string) {
	s.t.Helper()
	begun := time.Now()
	s.kept(after)
	for !s.push(s.r.nodes[0]) {
		if time.Since(begun) > soakBound {
			s.t.Fatalf("after %s: no commit is taken\n%s", after, s.r.nodes[0].describe())
		}
	}
	deadline := begun.Add(soakBound)
	for {
		err := s.whole()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			for _, n := range s.r.nodes {
				s.t.Logf("--- %s ---\n%s", n.name, n.describe())
			}
			s.t.Fatalf("after %s: not as it should be within %s: %v", after, soakBound, err)
		}
		s.w.look()
		time.Sleep(50 * time.Millisecond)
	}
	s.took = append(s.took, time.Since(begun))
}

// whole tells whether all machines are there, have one state and the newest commit, and run what is desired.
func (s *soak) whole() error {
	if err := s.r.whole(len(s.r.nodes)); err != nil {
		return err
	}
	head := s.repo.Head()
	for _, n := range s.r.nodes {
		status, err := n.Client().Status(context.Background())
		if err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		for _, e := range status.Environments {
			if e.Commit != head || len(e.Held) > 0 {
				return fmt.Errorf("%s has commit %s of %s, held %v", n.name, e.Commit, head, e.Held)
			}
		}
		if web, one := running(status, "web-"), running(status, "one-"); web < s.replicas || one != 1 {
			return fmt.Errorf("%s: %d of %d pods of web are ready, and %d of one", n.name, web, s.replicas, one)
		}
		if err := n.answers("http://"+n.address+":30080/env", "GREETING="+s.greeting); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	return nil
}

// running counts pods by name that are ready and stay.
func running(s api.Status, prefix string) (n int) {
	for _, p := range s.Pods {
		if strings.HasPrefix(p.Name, prefix) && p.Ready == p.Containers && p.Status == "Running" {
			n++
		}
	}
	return n
}

// kept tells whether the ring has the newest commit that it acknowledged: before another one would bring it back.
func (s *soak) kept(after string) {
	s.t.Helper()
	n := s.r.nodes[0]
	n.Eventually(soakBound, func() error {
		if err := s.r.whole(len(s.r.nodes)); err != nil {
			return err
		}
		tip, err := n.tip()
		if err != nil {
			return err
		}
		cmd := exec.Command("git", "-C", s.repo.Dir, "merge-base", "--is-ancestor", s.acked, tip)
		cmd.Env = append(gitEnv(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("after %s: commit %s was acknowledged, and the ring's main is %s: %w", after, s.acked, tip, err)
		}
		return nil
	})
	s.checks++
}

// check is what holds between rounds; what is counted is kept for the end.
func (s *soak) check() {
	s.t.Helper()
	s.w.alone(s.t)
	instances := 0
	for _, n := range s.r.nodes {
		instances += len(n.running("lines"))
	}
	if instances > 1 {
		s.t.Errorf("what may run once runs %d times", instances)
	}
	s.checks += 2 + 4*len(s.r.nodes)
	s.samples = append(s.samples, s.measure())
}
