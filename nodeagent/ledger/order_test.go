package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
)

// clients append numbered inputs on a node, over its restarts, and remember which were acknowledged.
type clients struct {
	r    *testRing
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex // guards below
	acked []string
	tried int
}

func (r *testRing) clients(each int, names ...place.NodeID) *clients {
	c := &clients{r: r, stop: make(chan struct{})}
	for _, n := range names {
		for i := range each {
			c.wg.Go(func() { c.run(n, fmt.Sprintf("%s-%d", n, i)) })
		}
	}
	return c
}

// run appends an input after the other. One whose Append ended with an error is not tried again: it may be there.
func (c *clients) run(node place.NodeID, prefix string) {
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		l := c.r.node(node)
		if l == nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		time.Sleep(10 * time.Millisecond) // the toy's state grows with each, and is copied to be read
		name := fmt.Sprintf("%s-%d", prefix, n)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		o, err := l.Append(ctx, ref(name, "", "x"))
		cancel()
		c.mu.Lock()
		c.tried++
		if err == nil {
			c.acked = append(c.acked, name)
		}
		c.mu.Unlock()
		switch {
		case err == nil && o != "":
			c.r.t.Errorf("%s: outcome %q", name, o)
		case err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrPassedOver):
			c.r.t.Errorf("%s: %v", name, err)
		}
	}
}

// end stops the clients and checks that all they were acknowledged is in the state of each node, once.
func (c *clients) end(names ...place.NodeID) {
	c.r.t.Helper()
	close(c.stop)
	c.wg.Wait()
	c.r.agree(names...)
	for _, n := range names {
		for _, name := range c.acked {
			if got := c.r.node(n).ref(name); got != "x" {
				c.r.t.Errorf("node %s: %s is %q, want it applied once", n, name, got)
			}
		}
		c.r.node(n).View(func(s *toy) {
			for name, v := range s.Refs {
				if v != "x" && name != "ring" {
					c.r.t.Errorf("node %s: %s was applied %d times", n, name, len(v))
				}
			}
		})
	}
	c.r.t.Logf("%d of %d inputs acknowledged", len(c.acked), c.tried)
}

func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// progress waits until more inputs were acknowledged, and returns how long that took.
func (c *clients) progress() time.Duration {
	c.r.t.Helper()
	at, from := time.Now(), c.count()
	c.r.await("an input to be acknowledged", func() bool { return c.count() > from })
	return time.Since(at)
}

func often(_ place.NodeID, o *Options[*toy, string]) {
	o.Machine.Step = stepOften
	o.SnapshotEntries = 300 // so that snapshots come between
}

// TestFault_L1_LeaderKills lets three nodes append while the leader is killed ten times: nothing that was acknowledged
// is lost, and nothing is applied twice.
func TestFault_L1_LeaderKills(t *testing.T) {
	t.Parallel()
	r := threeVoters(t, often)
	c := r.clients(4, three...)
	for round := range 10 {
		c.progress()
		time.Sleep(time.Duration(round*7) * time.Millisecond)
		leader := r.leader()
		r.kill(leader)
		if took := c.progress(); took > 10*time.Second {
			t.Errorf("round %d: %v without a leader", round, took)
		}
		r.open(leader)
	}
	c.end(three...)
}

// TestFault_L9 cuts the leader off: it stops to lead, knows nothing that it could pass for fresh, and what the others
// agreed on reaches it afterwards. Inputs given to it meanwhile come through once.
func TestFault_L9_Isolated(t *testing.T) {
	t.Parallel()
	r := threeVoters(t, often)
	c := r.clients(2, three...)
	for range 5 {
		c.progress()
		leader := r.leader()
		r.cut(leader, true)
		began := time.Now()
		for {
			term, _, err := r.node(leader).Verify(t.Context())
			if err != nil {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("term %d: an isolated leader proves that it leads", term)
			}
		}
		others := without(three, leader)
		r.await("a leader among the others", func() bool {
			for _, n := range others {
				if _, _, err := r.node(n).Verify(t.Context()); err == nil {
					return true
				}
			}
			return false
		})
		c.progress()
		r.cut(leader, false)
		r.await("the old leader to follow", func() bool {
			id, known := r.node(leader).Leader()
			return known && id != leader
		})
	}
	c.end(three...)
}

func without(names []place.NodeID, gone place.NodeID) (rest []place.NodeID) {
	for _, n := range names {
		if n != gone {
			rest = append(rest, n)
		}
	}
	return rest
}

// TestFault_L4_Leader fills the leader's disk: another node leads, what is given to the full one is refused, and it
// catches up when there is room.
func TestFault_L4_Leader(t *testing.T) {
	r := threeVoters(t, often)
	c := r.clients(2, "n2", "n3")
	c.progress()
	for r.leader() != "n1" {
		if err := r.node(r.leader()).StepDown(t.Context()); err != nil {
			t.Log(err)
		}
	}
	d := r.node("n1").disk
	room := func(size int, full bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.files.size = size
		d.full = d.full || full
	}
	size := d.files.size
	room(1<<50, true) // the next write fails
	r.await("another leader", func() bool { return r.leader() != "n1" })
	c.progress()
	d.isFull.Store(true) // as the first failed write of all sets it
	if _, err := r.node("n1").Append(t.Context(), ref("full", "", "x")); !errors.Is(err, ErrFull) {
		t.Errorf("append on a full disk: %v", err)
	}
	if err := r.node("n1").Report(t.Context(), ref("short", "", "x")); err != nil {
		t.Errorf("report from a full disk: %v", err)
	}
	r.await("the report on the others", func() bool { return r.node("n2").ref("short") == "x" && r.node("n3").ref("short") == "x" })
	room(size, false)
	r.await("room", func() bool { return r.node("n1").Err() == nil })
	mustAppend(t, r.node("n1"), ref("room", "", "x"))
	c.end(three...)
}

// The leader's answer to a forwarded batch gets lost: the batch is sent again, and applied once.
func TestAnswerLost(t *testing.T) {
	var mu sync.Mutex
	sent := 0
	r := threeVoters(t, func(n place.NodeID, o *Options[*toy, string]) {
		o.Machine.Step = stepOften
		forward := o.Forward
		o.Forward = func(ctx context.Context, leader place.NodeID, raw [][]byte) error {
			err := forward(ctx, leader, raw)
			mu.Lock()
			defer mu.Unlock()
			if sent++; sent%3 != 0 {
				return errors.New("connection reset")
			}
			return err
		}
	})
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() { mustAppend(t, r.node("n2"), ref(fmt.Sprint(i), "", "x")) })
	}
	wg.Wait()
	mustAppend(t, r.node("n2"), ref("last", "", "x"))
	for i := range 30 {
		if got := r.node("n2").ref(fmt.Sprint(i)); got != "x" {
			t.Errorf("%d is %q", i, got)
		}
	}
	r.agree(three...)
}

// A node's own inputs keep their order, whoever leads: each is a step on from the one before.
func TestOrderOfOneNode(t *testing.T) {
	r := threeVoters(t, nil)
	done := make(chan string)
	go func() {
		defer close(done)
		at := ""
		for n := range 400 {
			next := fmt.Sprint(n)
			l := r.node("n3")
			first, second := make(chan string, 1), make(chan string, 1)
			seq := l.seqNow()
			go appendTo(l, ref("a", at, next+"a"), first)
			for l.seqNow() == seq {
				time.Sleep(10 * time.Microsecond)
			}
			go appendTo(l, ref("a", next+"a", next), second)
			if a, b := <-first, <-second; a != "" || b != "" {
				done <- fmt.Sprintf("step %d: %q, then %q", n, a, b)
				return
			}
			at = next
		}
	}()
	for {
		select {
		case why, failed := <-done:
			if failed {
				t.Fatal(why)
			}
			return
		case <-time.After(200 * time.Millisecond):
			if err := r.node(r.leader()).StepDown(t.Context()); err != nil {
				t.Log(err)
			}
		}
	}
}

func appendTo(l *toyLedger, in cluster.Input, done chan<- string) {
	o, err := l.Append(context.Background(), in)
	if err != nil {
		o = err.Error()
	}
	done <- o
}
