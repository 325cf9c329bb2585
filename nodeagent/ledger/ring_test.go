package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// testRing is several ledgers in one process. Links between them can be cut: what is sent over a cut link is lost, as
// in a black hole.
type testRing struct {
	t    testing.TB
	dir  string
	edit func(node place.NodeID, o *Options[*toy, string]) // of the options, before a ledger is opened

	mu    sync.Mutex // guards below
	nodes map[place.NodeID]*testNode
	cuts  map[[2]place.NodeID]bool
	left  map[place.NodeID]bool // not wanted any more
	down  map[place.NodeID]bool // known to have failed
}

type testNode struct {
	*toyLedger
	trans   *raft.InmemTransport
	content *sharedContent
}

// sharedContent is a content store that several goroutines use.
type sharedContent struct {
	mu sync.Mutex
	m  memContent
}

func (c *sharedContent) Has(d desired.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m.Has(d)
}

func (c *sharedContent) Get(d desired.Digest) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m.Get(d)
}

func (c *sharedContent) put(d desired.Digest, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[d] = b
}

// newTestRing makes a ring of the named nodes; the first begins it, and the others join as non-voters.
func newTestRing(t testing.TB, names ...place.NodeID) *testRing {
	r := &testRing{
		t: t, dir: t.TempDir(), nodes: map[place.NodeID]*testNode{},
		cuts: map[[2]place.NodeID]bool{}, left: map[place.NodeID]bool{}, down: map[place.NodeID]bool{},
	}
	t.Cleanup(r.close)
	for _, n := range names[1:] {
		r.left[n] = true // until it joins
	}
	return r
}

func (r *testRing) close() {
	for _, n := range r.up() {
		r.kill(n)
	}
}

// begin opens all nodes and joins them to the first.
func (r *testRing) begin(names ...place.NodeID) {
	r.t.Helper()
	r.open(names[0])
	for _, n := range names[1:] {
		r.open(n)
		if err := r.node(names[0]).AddMember(r.t.Context(), n); err != nil {
			r.t.Fatal(err)
		}
	}
}

// open starts a node on its directory. Only the first node that is ever opened begins a ledger.
func (r *testRing) open(name place.NodeID) *toyLedger {
	r.t.Helper()
	_, trans := raft.NewInmemTransportWithTimeout(raft.ServerAddress(name), 200*time.Millisecond)
	o := toyOptions(filepath.Join(r.dir, string(name)))
	o.Node, o.Transport = name, trans
	content := &sharedContent{m: memContent{}}
	r.mu.Lock()
	if len(r.nodes) > 0 {
		o.Genesis = nil
	}
	if was := r.nodes[name]; was != nil {
		content = was.content // it is on disk
	}
	r.nodes[name] = &testNode{trans: trans, content: content}
	r.mu.Unlock()
	o.Content = content
	o.Forward = func(ctx context.Context, leader place.NodeID, raw [][]byte) error {
		return r.forward(ctx, name, leader, raw)
	}
	if r.edit != nil {
		r.edit(name, &o)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	l, err := Open(ctx, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.nodes[name].toyLedger = l
	r.wire()
	r.mu.Unlock()
	return l
}

// wire connects the transports as the cuts have it. r.mu is held.
func (r *testRing) wire() {
	for a, from := range r.nodes {
		for b, to := range r.nodes {
			switch {
			case a == b:
			case from.toyLedger == nil || to.toyLedger == nil || r.cuts[[2]place.NodeID{a, b}]:
				from.trans.Disconnect(raft.ServerAddress(b))
			default:
				from.trans.Connect(raft.ServerAddress(b), to.trans)
			}
		}
	}
}

// cut separates one node from all others, or heals it.
func (r *testRing) cut(name place.NodeID, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.nodes {
		r.cuts[[2]place.NodeID{name, other}] = cut
		r.cuts[[2]place.NodeID{other, name}] = cut
	}
	r.wire()
	if cut { // requests that are under way over a pipeline are lost too
		r.nodes[name].trans.DisconnectAll()
		for _, n := range r.nodes {
			n.trans.DisconnectAll()
		}
		r.wire()
	}
}

// kill ends a node at once: nothing it sends arrives any more, and what waits there ends with an error.
func (r *testRing) kill(name place.NodeID) {
	r.t.Helper()
	r.mu.Lock()
	n := r.nodes[name]
	l := n.toyLedger
	n.toyLedger = nil
	n.trans.DisconnectAll()
	r.wire()
	r.mu.Unlock()
	if l == nil {
		return
	}
	if err := l.Close(); err != nil {
		r.t.Errorf("close %s: %v", name, err)
	}
}

func (r *testRing) forward(ctx context.Context, from, to place.NodeID, raw [][]byte) error {
	r.mu.Lock()
	n := r.nodes[to]
	lost := n == nil || n.toyLedger == nil || r.cuts[[2]place.NodeID{from, to}]
	var l *toyLedger
	if !lost {
		l = n.toyLedger
	}
	r.mu.Unlock()
	if lost {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	err := l.Submit(ctx, from, raw)
	r.mu.Lock()
	lost = r.cuts[[2]place.NodeID{to, from}] || r.nodes[to].toyLedger != l
	r.mu.Unlock()
	if lost { // the answer does not arrive
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return err
}

// node returns a ledger, nil if it is down.
func (r *testRing) node(name place.NodeID) *toyLedger {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[name]; n != nil {
		return n.toyLedger
	}
	return nil
}

// up are the nodes that run.
func (r *testRing) up() (names []place.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.nodes)) {
		if r.nodes[name].toyLedger != nil {
			names = append(names, name)
		}
	}
	return names
}

// leader waits until a node that runs leads, by its own word.
func (r *testRing) leader() place.NodeID {
	r.t.Helper()
	var found place.NodeID
	r.await("a leader", func() bool {
		for _, name := range r.up() {
			if _, leads := r.node(name).Leadership(); leads {
				if _, _, err := r.node(name).Verify(r.t.Context()); err == nil {
					found = name
					return true
				}
			}
		}
		return false
	})
	return found
}

// await waits for a condition, for a minute at most.
func (r *testRing) await(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited a minute for %s\n%s", what, r)
		}
	}
}

// String tells where every node stands.
func (r *testRing) String() string {
	var b strings.Builder
	for _, name := range r.up() {
		l := r.node(name)
		leader, _ := l.Leader()
		fmt.Fprintf(&b, "%s: leader %q, term %d, applied %d, stalled %q, err %v, members %s, %.60s\n",
			name, leader, l.Term(), l.Applied(), l.Stalled(), l.Err(), members(l), dump(l))
	}
	return b.String()
}

// members are those of a ledger as text: voters with a star.
func members(l *toyLedger) string {
	var out []string
	for _, m := range l.Members() {
		s := string(m.ID)
		if m.Voter {
			s += "*"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// agree waits until the named nodes came to the same state behind the same entry.
func (r *testRing) agree(names ...place.NodeID) {
	r.t.Helper()
	r.await("one state", func() bool {
		for _, n := range names[1:] {
			if r.node(n).Applied() != r.node(names[0]).Applied() || r.hash(n) != r.hash(names[0]) {
				return false
			}
		}
		return true
	})
}

func (r *testRing) hash(name place.NodeID) (h [32]byte) {
	r.node(name).View(func(s *toy) { h = s.Hash() })
	return h
}

// vote makes voters of non-voters by hand, where a test has the ledger keep its hands off.
func (r *testRing) vote(leader place.NodeID, nodes ...place.NodeID) {
	r.t.Helper()
	for _, n := range nodes {
		if err := r.node(leader).raft.AddVoter(raft.ServerID(n), raft.ServerAddress(n), 0, 0).Error(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// stepOften takes a Ref as often as it comes: the value of its name gets longer with each.
func stepOften(s *toy, e cluster.Entry, c desired.Content) string {
	if in := e.Input; in.Push != nil && in.From.Seq > s.Seen[in.From.Boot] {
		e.Input.Push = &cluster.Push{Refs: []cluster.Ref{{Name: in.Push.Refs[0].Name, Old: source.ID(s.Refs[in.Push.Refs[0].Name]), New: source.ID(s.Refs[in.Push.Refs[0].Name] + "x")}}}
	}
	return stepToy(s, e, c)
}

var three = []place.NodeID{"n1", "n2", "n3"}

// threeVoters is a ring of three voters.
func threeVoters(t testing.TB, edit func(place.NodeID, *Options[*toy, string])) *testRing {
	r := newTestRing(t, three...)
	r.edit = edit
	r.begin(three...)
	r.vote("n1", "n2", "n3")
	r.agree(three...)
	return r
}

func TestAppendOnEveryNode(t *testing.T) {
	r := threeVoters(t, nil)
	for i, n := range three {
		mustAppend(t, r.node(n), ref("a", old(i), fmt.Sprint(i)))
		if got := r.node(n).ref("a"); got != fmt.Sprint(i) {
			t.Errorf("node %s has a=%q when its Append returns, want %d", n, got, i)
		}
	}
	if o, err := r.node("n3").Append(t.Context(), ref("a", "stale", "9")); err != nil || o != "stale" {
		t.Errorf("outcome %q, %v, want stale", o, err)
	}
	r.agree(three...)
	if got := members(r.node("n3")); got != "n1* n2* n3*" {
		t.Errorf("members %s", got)
	}
}

func TestSubmitTakesOnlyItsOwn(t *testing.T) {
	l := openToy(t, toyOptions(t.TempDir()))
	body, err := encodeInput(ref("a", "", "1"))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(node place.NodeID, boot string, seq uint64) []byte {
		return encodeEntry(header{time: 7, from: cluster.From{Node: node, Boot: boot, Seq: seq}}, body)
	}
	for _, test := range []struct {
		name string
		raw  [][]byte
		want string // part of the error
	}{
		{"another's", [][]byte{entry("n2", "b", 1), entry("n3", "b", 2)}, `node "n2" sent an entry of node "n3", boot "b", number 2`},
		{"no boot", [][]byte{entry("n2", "", 1)}, `boot ""`},
		{"no number", [][]byte{entry("n2", "b", 0)}, "number 0"},
		{"nothing", nil, "0 entries"},
		{"too many", make([][]byte, batchEntries+1), "513 entries"},
		{"garbage", [][]byte{[]byte("garbage")}, "first byte"},
		{"a batch", [][]byte{encodeBatch([][]byte{entry("n2", "b", 1), entry("n2", "b", 2)})}, "first byte"},
		{"too large", [][]byte{make([]byte, maxRaw+1)}, "larger than"},
	} {
		if err := l.Submit(t.Context(), "n2", test.raw); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	before := l.Time()
	if err := l.Submit(t.Context(), "n2", [][]byte{entry("n2", "b", 1)}); err != nil {
		t.Fatal(err)
	}
	if err := l.queue.drained(t.Context()); err != nil || l.ref("a") != "1" || l.Time() < before {
		t.Errorf("a=%q at %d (before: %d), %v", l.ref("a"), l.Time(), before, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Submit(t.Context(), "n2", [][]byte{entry("n2", "b", 2)}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("submit to a closed ledger: %v", err)
	}
}
