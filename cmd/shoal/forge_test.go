package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// forgeWorld is a forge, the nodes that follow it, and what lies between them. All times are the bubble's.
type forgeWorld struct {
	t        *testing.T
	interval time.Duration
	begun    time.Time

	mu    sync.Mutex // guards what follows, and what nodes say of themselves
	tip   source.ID
	nodes []*forgeNode
}

// forgeNode is a node with a mirror that has no objects.
type forgeNode struct {
	*forge
	w      *forgeWorld
	id     place.NodeID
	origin time.Duration // how long before the world its machine was started
	stop   context.CancelFunc
	woken  chan struct{}

	// guarded by the world's mu
	refs     []source.Ref
	claimed  source.Claim
	begun    int64
	failing  bool
	cut      bool // it does not reach the forge
	mute     bool // it does not answer other nodes, and the gossip has not noticed
	down     bool
	reads    bool // what it says
	requests int
}

func newForgeWorld(t *testing.T, count int, interval time.Duration) *forgeWorld {
	w := &forgeWorld{t: t, interval: interval, begun: time.Now(), tip: "0"}
	w.mu.Lock()
	defer w.mu.Unlock() // the first nodes look for the others at once
	for i := range count {
		w.nodes = append(w.nodes, w.start(i))
	}
	return w
}

func (w *forgeWorld) start(i int) *forgeNode {
	ctx, stop := context.WithCancel(context.Background())
	n := &forgeNode{w: w, id: place.NodeID(fmt.Sprintf("n%02d", i)), origin: time.Duration(i+1) * 100 * time.Hour, stop: stop, woken: make(chan struct{}, 1)}
	n.forge = newForge(forgeParts{
		self: n.id, ring: "ring", interval: w.interval, mirror: n, others: n.others, ask: n.askNode, tell: n.say, news: func() {}, claim: func() {}, now: n.clock,
		take: func(context.Context, place.NodeID, []source.ID) error { return nil }, log: slog.New(slog.DiscardHandler),
	})
	var running sync.WaitGroup
	running.Go(func() { _ = n.run(ctx) })
	running.Go(func() { n.look(ctx) })
	w.t.Cleanup(func() { stop(); running.Wait() })
	return n
}

// clock counts from the start of the node's machine.
func (n *forgeNode) clock() int64 { return (n.origin + time.Since(n.w.begun)).Milliseconds() }

// look is the mirror's Run.
func (n *forgeNode) look(ctx context.Context) {
	for {
		n.fetch()
		select {
		case <-ctx.Done():
			return
		case <-n.woken:
		case <-time.After(n.every()):
		}
	}
}

func (n *forgeNode) fetch() {
	begun := n.clock()
	time.Sleep(20 * time.Millisecond)
	n.w.mu.Lock()
	n.requests++
	moved, failed := false, n.cut
	was := n.failing
	if !failed {
		moved = len(n.refs) == 0 || n.refs[0].ID != n.w.tip
		n.refs, n.begun = []source.Ref{{Name: "refs/heads/main", ID: n.w.tip}}, begun
		n.claimed = source.Claim{Read: true, ID: n.w.tip}
	}
	n.failing = failed
	others := slices.Clone(n.w.nodes)
	n.w.mu.Unlock()
	if moved || was != failed {
		n.nudge()
	}
	if moved {
		time.AfterFunc(50*time.Millisecond, func() {
			for _, o := range others {
				o.announced(n.id)
			}
		})
	}
}

func (n *forgeNode) Refs() []source.Ref {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return slices.Clone(n.refs)
}

// Claim is one that changes with each commit.
func (n *forgeNode) Claim() source.Claim {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.claimed
}

func (n *forgeNode) TakeClaim(c source.Claim, _ int64) error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.claimed = c
	return nil
}

func (n *forgeNode) Seen() (int64, bool) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.begun, n.begun != 0 && !n.failing
}

func (n *forgeNode) Wake() {
	select {
	case n.woken <- struct{}{}:
	default:
	}
}

func (n *forgeNode) Adopt(refs, _ []source.Ref) error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.refs = refs
	return nil
}

func (n *forgeNode) others() (out []source.Reader) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, o := range n.w.nodes {
		if o != n && !o.down {
			out = append(out, source.Reader{Node: string(o.id), Reads: o.reads})
		}
	}
	return out
}

func (n *forgeNode) askNode(_ context.Context, node place.NodeID) (forgeSight, error) {
	time.Sleep(5 * time.Millisecond)
	n.w.mu.Lock()
	i := slices.IndexFunc(n.w.nodes, func(o *forgeNode) bool { return o.id == node })
	o := n.w.nodes[i]
	gone := o.down || o.mute
	n.w.mu.Unlock()
	if gone {
		return forgeSight{}, errors.New("no answer")
	}
	defer time.Sleep(5 * time.Millisecond)
	return o.sight(), nil
}

func (n *forgeNode) say(reads bool) error {
	time.AfterFunc(100*time.Millisecond, func() {
		n.w.change(func() { n.reads = reads })
	})
	return nil
}

// change changes something, and the gossip tells of it.
func (w *forgeWorld) change(f func()) {
	w.mu.Lock()
	f()
	nodes := slices.Clone(w.nodes)
	w.mu.Unlock()
	for _, n := range nodes {
		n.nudge()
	}
}

// kill ends a node; the others notice after a while.
func (w *forgeWorld) kill(n *forgeNode) {
	n.stop()
	w.mu.Lock()
	n.mute = true
	w.mu.Unlock()
	time.Sleep(1500 * time.Millisecond)
	w.change(func() { n.down = true })
}

// commit moves the forge's branch, and says how long it takes until all nodes that are up have it.
func (w *forgeWorld) commit(id source.ID) time.Duration {
	w.t.Helper()
	w.mu.Lock()
	w.tip = id
	w.mu.Unlock()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		var lacking []string
		w.mu.Lock()
		for _, n := range w.nodes {
			if !n.down && (len(n.refs) == 0 || n.refs[0].ID != id || n.claimed.ID != id) { // whose it is comes with it
				lacking = append(lacking, string(n.id))
			}
		}
		w.mu.Unlock()
		if len(lacking) == 0 {
			return time.Since(begun)
		}
		if time.Since(begun) > time.Hour {
			w.t.Fatalf("commit %s is not on %s", id, lacking)
		}
	}
}

// asked counts the requests to the forge within a time, in all and of each node.
func (w *forgeWorld) asked(during time.Duration) (all int, each map[place.NodeID]int) {
	count := func() map[place.NodeID]int {
		w.mu.Lock()
		defer w.mu.Unlock()
		out := map[place.NodeID]int{}
		for _, n := range w.nodes {
			out[n.id] = n.requests
		}
		return out
	}
	before := count()
	time.Sleep(during)
	each = count()
	for id := range each {
		each[id] -= before[id]
		all += each[id]
	}
	return all, each
}

// polling are the nodes that look at the forge regularly.
func (w *forgeWorld) polling() (out []*forgeNode) {
	for _, n := range w.nodes {
		if _, _, turn := n.standing(); turn.Polls && !n.down {
			out = append(out, n)
		}
	}
	return out
}

func names(nodes []*forgeNode) string {
	var out []string
	for _, n := range nodes {
		out = append(out, string(n.id))
	}
	return strings.Join(out, " ")
}

// Fifty nodes ask the forge as often as three would, and a commit is on all of them after an interval and an exchange.
func TestForgeIsAskedByFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newForgeWorld(t, 50, 10*time.Second)
		w.commit("1")
		time.Sleep(10 * time.Minute)
		all, each := w.asked(time.Hour)
		polls := w.polling()
		t.Logf("%d requests in an hour of 360 intervals; %s poll", all, names(polls))
		if len(polls) != 2 || all > 3*361 || each[polls[0].id] < 350 || each[polls[1].id] < 350 {
			t.Errorf("%d requests, %v", all, each)
		}
		for i := range 20 {
			time.Sleep(7 * time.Second)
			if took := w.commit(source.ID(fmt.Sprint("c", i))); took > w.interval+time.Second {
				t.Errorf("a commit took %s", took)
			}
		}
	})
}

// Who polls and is lost, or does not reach the forge any more, is replaced; so are both.
func TestForgePollersAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newForgeWorld(t, 7, 10*time.Second)
		time.Sleep(5 * time.Minute)
		before := w.polling()
		w.kill(before[0])
		time.Sleep(time.Second)
		after := w.polling()
		if len(after) != 2 || !slices.Contains(after, before[1]) {
			t.Errorf("after a loss %s poll, before %s", names(after), names(before))
		}
		if took := w.commit("lost"); took > w.interval+time.Second {
			t.Errorf("a commit took %s after a poller was lost", took)
		}
		w.change(func() { after[0].cut, after[1].cut = true, true })
		if took := w.commit("cut"); took > 2*w.interval+time.Second {
			t.Errorf("a commit took %s after both pollers had lost the forge", took)
		}
		time.Sleep(time.Minute)
		now := w.polling()
		if len(now) != 2 || slices.Contains(now, after[0]) || slices.Contains(now, after[1]) {
			t.Errorf("%s poll, and %s cannot", names(now), names(after))
		}
		w.change(func() { after[0].cut, after[1].cut = false, false })
		time.Sleep(5 * time.Minute)
		if got := names(w.polling()); got != names(after) {
			t.Errorf("%s poll, not %s as before", got, names(after))
		}
	})
}

// A forge that one node alone reaches is polled by that one; when another takes its place, by that.
func TestForgeIsReachedByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newForgeWorld(t, 5, 10*time.Second)
		for i := range 5 {
			w.change(func() {
				for j, n := range w.nodes {
					n.cut = j != i
				}
			})
			time.Sleep(5 * time.Minute)
			if got, want := names(w.polling()), string(w.nodes[i].id); got != want {
				t.Errorf("%s poll, and %s alone reaches it", got, want)
			}
			if took := w.commit(source.ID(fmt.Sprint("c", i))); took > w.interval+time.Second {
				t.Errorf("a commit that %s alone can read took %s", w.nodes[i].id, took)
			}
		}
	})
}

// Pollers that say that they read the forge and answer nobody: the others wait for three intervals and look for themselves, not
// all at once.
func TestForgePollersAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newForgeWorld(t, 20, 10*time.Second)
		time.Sleep(5 * time.Minute)
		pollers := w.polling()
		w.mu.Lock()
		for _, n := range pollers {
			n.stop()
			n.mute = true
		}
		w.tip = "news"
		w.mu.Unlock()
		time.Sleep(5 * w.interval)
		for _, n := range w.nodes {
			if refs := n.Refs(); refs[0].ID != "news" && !slices.Contains(pollers, n) {
				t.Errorf("%s is at %s", n.id, refs[0].ID)
			}
		}
		all, _ := w.asked(12 * w.interval)
		t.Logf("%d requests in 12 intervals", all)
		if all < 2 || all > 4*18 {
			t.Errorf("%d requests in 12 intervals", all)
		}
	})
}

// Every machine was started at another time, and what time it is is nowhere asked: a node that cannot read the forge follows
// whoever read it last, first one and then another whose clock is a hundred hours behind.
func TestForgeOrderNeedsNoClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newForgeWorld(t, 3, time.Second)
		for i := range 6 {
			w.change(func() {
				w.nodes[0].cut, w.nodes[1].cut, w.nodes[2].cut = i%2 == 0, i%2 == 1, true
			})
			time.Sleep(time.Minute)
			if took := w.commit(source.ID(fmt.Sprint("c", i))); took > w.interval+time.Second {
				t.Errorf("a commit that %s alone can read took %s", w.nodes[(i+1)%2].id, took)
			}
		}
		for i, want := range []place.NodeID{"n00", "n00", "n00"} { // the last that read it
			if _, by := w.nodes[i].seen(); by != want {
				t.Errorf("node %d has it from %s, not %s", i, by, want)
			}
		}
	})
}

// A forge that is gone takes nothing away, and is found when it is back.
func TestForgeIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newForgeWorld(t, 5, 10*time.Second)
		w.commit("1")
		w.change(func() {
			for _, n := range w.nodes {
				n.cut = true
			}
		})
		time.Sleep(time.Hour)
		for _, n := range w.nodes {
			if refs := n.Refs(); len(refs) != 1 || refs[0].ID != "1" {
				t.Errorf("%s has %v", n.id, refs)
			}
		}
		w.change(func() { w.nodes[3].cut = false })
		if took := w.commit("2"); took > 2*w.interval {
			t.Errorf("it was found again after %s", took)
		}
	})
}

// A node that was alone looks as often as it was told to, and asks nobody.
func TestForgeOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newForgeWorld(t, 1, 10*time.Second)
		if all, _ := w.asked(time.Hour); all < 355 || all > 361 {
			t.Errorf("%d requests in 360 intervals", all)
		}
		if took := w.commit("1"); took > w.interval+time.Second {
			t.Errorf("a commit took %s", took)
		}
	})
}
