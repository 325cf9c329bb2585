package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

const testRing = "0123456789abcdef0123456789abcdef"

// book stands in for the ledger of a ring: who is in it, and its tokens. All nodes of a test see the same one.
type book struct {
	mu      sync.Mutex
	nodes   map[place.NodeID]Member
	names   map[string]place.NodeID
	grants  map[string]*Grant
	holders map[place.NodeID]bool
	admits  int // calls of Admit
	broken  bool
	clock   func() time.Time
}

func newBook() *book {
	return &book{
		nodes: map[place.NodeID]Member{}, names: map[string]place.NodeID{}, grants: map[string]*Grant{},
		holders: map[place.NodeID]bool{}, clock: time.Now,
	}
}

func (b *book) known(id place.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.nodes[id]
	return ok
}

func (b *book) members() []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Values(b.nodes), func(x, y Member) int { return strings.Compare(string(x.ID), string(y.ID)) })
}

func (b *book) mayHold(id place.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.holders[id]
}

func (b *book) put(m Member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes[m.ID] = m
}

func (b *book) remove(id place.NodeID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.nodes, id)
}

func (b *book) grant(t Token, g Grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g.ID, g.Hash = t.ID, t.Hash()
	if g.End.IsZero() {
		g.End = b.clock().Add(time.Hour)
	}
	b.grants[t.ID] = &g
}

func (b *book) admit(_ context.Context, r JoinRequest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.admits++
	if b.broken {
		return fmt.Errorf("the ring has no leader now")
	}
	g := b.grants[r.TokenID]
	if err := g.Judge(r, b.clock()); err != nil {
		return err
	}
	if of, taken := b.names[r.Name]; taken && of != r.Node {
		return &RefusedError{Text: fmt.Sprintf("the name %q is taken by node %s", r.Name, of)}
	}
	g.UsedBy, b.names[r.Name] = r.Node, r.Node
	b.nodes[r.Node] = Member{ID: r.Node, Peer: r.Peer, Gossip: r.Gossip}
	return nil
}

func (b *book) admitted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.admits
}

func (b *book) setBroken(broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = broken
}

func (b *book) clockIs(now func() time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = now
}

func (b *book) letHold(id place.NodeID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holders[id] = true
}

// watch is a clock that tests set.
type watch struct {
	mu sync.Mutex
	at time.Time
}

func (w *watch) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *watch) set(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = t
}

func (w *watch) add(d time.Duration) { w.set(w.now().Add(d)) }

// spring is when the clocks of tests begin.
var spring = time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)

// machine is one node of a test; its files and its clock outlive its Peers.
type machine struct {
	*Peers
	t     testing.TB
	book  *book
	dir   string
	key   ed25519.PrivateKey
	clock *watch
	logs  *lines
	alter func(*Options)
}

// lines keeps what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newMachine(t testing.TB, b *book) *machine {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t: t, book: b, dir: t.TempDir(), key: key, clock: &watch{at: spring}, logs: &lines{}}
}

func (m *machine) id() place.NodeID { return NodeOf(m.key.Public().(ed25519.PublicKey)) }

// start opens the node's Peers, and tells the book where they are.
func (m *machine) start() *machine {
	m.t.Helper()
	o := Options{
		Dir: m.dir, Key: m.key, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Now: m.clock.now,
		Known: m.book.known, Members: m.book.members, MayHold: m.book.mayHold, Admit: m.book.admit,
		Keyring: func() [][]byte { return [][]byte{[]byte("a gossip key of thirty-two bytes")} },
		Log:     slog.New(slog.NewTextHandler(m.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if m.alter != nil {
		m.alter(&o)
	}
	p, err := Open(o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.Peers = p
	m.book.put(Member{ID: m.id(), Peer: p.Addr(), Gossip: netip.MustParseAddrPort("127.0.0.1:7946")})
	m.t.Cleanup(m.stop)
	return m
}

func (m *machine) serve() *machine {
	m.Peers.Serve()
	return m
}

func (m *machine) stop() {
	if m.Peers == nil {
		return
	}
	if err := m.Peers.Close(); err != nil {
		m.t.Errorf("close: %v", err)
	}
	m.Peers = nil
}

// begin makes the first node of a ring.
func begin(t testing.TB) *machine {
	t.Helper()
	noLeaks(t)
	m := newMachine(t, newBook())
	if err := Begin(m.dir, testRing, m.key, m.clock.now()); err != nil {
		t.Fatal(err)
	}
	m.book.letHold(m.id())
	return m.start().serve()
}

// ask joins by a token.
func (m *machine) ask(t Token, name string, at ...*machine) (Reply, error) {
	var addrs []string
	for _, a := range at {
		addrs = append(addrs, a.Addr().String())
	}
	return Join(context.Background(), addrs, t, Joining{
		Dir: m.dir, Key: m.key, Name: name, Now: m.clock.now,
		Peer: netip.MustParseAddrPort("0.0.0.0:7947"), Gossip: netip.MustParseAddrPort("0.0.0.0:7946"),
	})
}

// join adds a node to the ring of m.
func (m *machine) join(name string) *machine {
	m.t.Helper()
	token := m.NewToken()
	m.book.grant(token, Grant{})
	n := newMachine(m.t, m.book)
	n.clock.set(m.clock.now())
	if _, err := n.ask(token, name, m); err != nil {
		m.t.Fatal(err)
	}
	return n.start().serve()
}

// await waits until cond is true.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 20 s: %s", what)
		}
	}
}

// count is how many connections are open, and how many of them in their handshake.
func (ws *wires) count() (open, shaking int) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.all), len(ws.shaking)
}

// hangUp closes the node's connections.
func (m *machine) hangUp() { m.wires.closeIf(func(place.NodeID) bool { return true }) }

// talksTo says whether a connection to a node is open, as far as this one knows.
func (m *machine) talksTo(node place.NodeID) bool {
	m.wires.mu.Lock()
	defer m.wires.mu.Unlock()
	for w := range m.wires.all {
		if w.node == node {
			return true
		}
	}
	return false
}

// leaf is the node's certificate.
func (m *machine) leaf() *x509.Certificate { return m.cert.Load().Leaf }

// noLeaks fails the test if goroutines of this package outlive it.
func noLeaks(t testing.TB) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() { // runs after those that were registered later, which close everything
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if runtime.NumGoroutine() <= before {
				return
			}
			if time.Now().After(end) {
				b := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
				return
			}
		}
	})
}
