//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// flow is one connection over which requests go one after the other.
type flow struct {
	mu     sync.Mutex // guards what follows
	sent   int
	dialed int
	err    error

	stop context.CancelFunc
	done chan struct{}
}

// flow opens a connection from a machine to a URL and keeps it, with a request every 20 ms.
func (n *Node) flow(url string) *flow {
	ctx, stop := context.WithCancel(context.Background())
	f := &flow{stop: stop, done: make(chan struct{})}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			f.mu.Lock()
			f.dialed++
			f.mu.Unlock()
			return n.Dial(ctx, network, address)
		},
	}}
	go func() { // ends with the flow
		defer close(f.done)
		defer client.CloseIdleConnections()
		for ctx.Err() == nil {
			resp, err := client.Get(url)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			f.mu.Lock()
			f.sent++
			f.err = errors.Join(f.err, err)
			f.mu.Unlock()
			if err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return f
}

// end closes it and fails the test if it was not one connection from its beginning to its end.
func (f *flow) end(t *testing.T) {
	t.Helper()
	f.stop()
	<-f.done
	if f.err != nil || f.dialed != 1 || f.sent < 20 {
		t.Errorf("a connection that was to last: %d requests, %d connections: %v", f.sent, f.dialed, f.err)
	}
}

// exchange is the moments of exchanging an agent's binary at which the agent is killed. Each leaves no agent behind.
var exchange = []struct {
	name string
	kill func(n *Node, next string, after func(most time.Duration) time.Duration) time.Duration
}{
	{"before the old one ends", func(n *Node, _ string, _ func(time.Duration) time.Duration) time.Duration {
		n.Kill()
		return 0
	}},
	{"while the old one ends", func(n *Node, _ string, after func(time.Duration) time.Duration) time.Duration {
		wait := after(200 * time.Millisecond)
		_ = n.agent.Process.Signal(syscall.SIGTERM)
		time.Sleep(wait)
		n.Kill()
		return wait
	}},
	{"right after the new one was started", killedAfter(20 * time.Millisecond)},
	{"while the new one opens its parts", killedAfter(250 * time.Millisecond)},
	{"after the new one is ready", func(n *Node, next string, _ func(time.Duration) time.Duration) time.Duration {
		n.Stop()
		n.binary = next
		begun := time.Now()
		n.Start()
		n.Kill()
		return time.Since(begun)
	}},
}

// killedAfter kills the new agent some time after its start.
func killedAfter(most time.Duration) func(n *Node, next string, after func(time.Duration) time.Duration) time.Duration {
	return func(n *Node, next string, after func(time.Duration) time.Duration) time.Duration {
		n.Stop()
		n.binary = next
		wait := after(most)
		n.StartWithoutWaiting()
		time.Sleep(wait)
		n.Kill()
		return wait
	}
}

// Every agent is exchanged for one of the next engine version, one after the other, and killed at each step of that, under
// requests and long connections to every node: none fails, no container starts again, the ring goes to the new version, and all
// have one state.
func TestFault_U1_KilledUpgrade(t *testing.T) {
	next := nextBinary(t)
	for round := range rounds(1, 2) {
		t.Run(fmt.Sprint(round), func(t *testing.T) { killedUpgrade(t, next, rounds(1, 0) == 0) })
	}
}

func killedUpgrade(t *testing.T, next string, all bool) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	after := func(most time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(most))) }
	r := newRing(t, 3).start()
	first := r.nodes[0]
	before := first.engine()
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": replicated("one")}).Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	var loads []*load
	var flows []*flow
	for _, n := range r.nodes {
		n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
		loads = append(loads, n.load(page+"/readyz", 2), n.load("http://"+n.address+":30080/readyz", 2))
		flows = append(flows, n.flow("http://"+n.address+":30080/readyz"), n.flow("http://"+first.address+":30080/readyz"))
	}
	pods, was := r.processes("serve"), places(first)
	leader, rest := r.around(r.leader())
	steps := rng.Perm(len(exchange))
	for i, n := range []*Node{leader, rest[0], rest[1]} {
		mine := steps[i*2 : min(i*2+2, len(steps))] // five steps of three nodes
		if all {
			mine = rng.Perm(len(exchange))
		}
		slices.Sort(mine) // those of the old one come before the new one has begun
		for _, s := range mine {
			wait := exchange[s].kill(n, next, after)
			t.Logf("%s: killed %s (%s)", n.name, exchange[s].name, wait.Round(time.Millisecond))
			n.Start()
			n.Eventually(30*time.Second, func() error { return r.whole(len(r.nodes)) })
		}
		if n.binary != next {
			n.Stop()
			n.binary = next
			n.Start()
			n.Eventually(30*time.Second, func() error { return r.whole(len(r.nodes)) })
		}
	}
	for _, n := range r.nodes {
		n.Eventually(20*time.Second, func() error {
			if now := n.engine(); now != before+1 {
				return fmt.Errorf("engine version %d, want %d", now, before+1)
			}
			return nil
		})
	}
	r.settled(3)
	for _, l := range loads {
		l.end(t)
	}
	for _, f := range flows {
		f.end(t)
	}
	if now := r.processes("serve"); !slices.Equal(pods, now) || len(pods) != 3 {
		t.Errorf("processes before: %v, after: %v", pods, now)
	}
	if now := places(first); now != was {
		t.Errorf("pods before:\n%s\nafter:\n%s", was, now)
	}
}

// engine is the version that the ring runs.
func (n *Node) engine() int {
	n.t.Helper()
	list, err := n.Client().Ring(context.Background(), false)
	if err != nil {
		n.t.Fatal(err)
	}
	return list.Engine
}
