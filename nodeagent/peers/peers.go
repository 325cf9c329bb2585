package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// Peers is this node's end of the wires of its ring. It is safe for concurrent use.
type Peers struct {
	opt   Options
	self  place.NodeID
	run   string   // of all runs of all machines, this one
	seeds []Member // of the answer to the join

	trust atomic.Pointer[trust]
	cert  atomic.Pointer[tls.Certificate]
	mu    sync.Mutex // held while trust or cert change, and their files

	corrected  atomic.Pointer[correction] // nil while this machine's clock is believed
	clockAlarm alarm
	unsure     atomic.Bool // the clock is to be compared with the others'
	trustAlarm alarm
	stale      atomic.Bool // the authorities are to be learnt from the others

	listener net.Listener
	wires    *wires
	raft     *raftStream
	commands *commands
	incoming *handoff // HTTP/2 connections for server
	server   *http.Server
	mux      *http.ServeMux
	client   *http.Transport
	pool     *pool
	joins    chan struct{} // a place for each join under way
	renews   chan struct{} // a place for each renewal that is answered
	look     chan struct{} // the renewal looks at the clock again

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup
}

const (
	maxJoins  = 256 // as many as a room full of machines that is switched on
	maxRenews = 256
)

// Begin makes the authority of a new ring, and this node its first. ring is the ring's identity, 32 hex digits. If the
// directory belongs to that ring already, nothing happens.
func Begin(dir, ring string, key ed25519.PrivateKey, now time.Time) error {
	if err := checkRing(ring); err != nil {
		return fmt.Errorf("begin ring: %w", err)
	}
	of, err := Membership(dir)
	if err != nil {
		return fmt.Errorf("begin ring: %w", err)
	}
	if of == ring {
		return nil
	}
	if of != "" {
		return fmt.Errorf("begin ring %s: this node belongs to ring %s", ring, of)
	}
	a, err := newAuthority(ring, now)
	if err != nil {
		return fmt.Errorf("begin ring: %w", err)
	}
	cert, err := a.sign(ring, key.Public().(ed25519.PublicKey), now)
	if err != nil {
		return fmt.Errorf("begin ring: %w", err)
	}
	m := membership{trust: &trust{ring: ring, trusted: []authority{a}}, cert: cert}
	if err := m.save(dir); err != nil {
		return fmt.Errorf("begin ring: %w", err)
	}
	return nil
}

// Open listens. What others ask for with Handle must be registered before they ask: until Serve, connections wait.
func Open(o Options) (*Peers, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	o = o.WithDefaults()
	if err := os.Chmod(o.Dir, 0o700); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open peers: %w", err)
	}
	m, err := load(o.Dir, o.Key)
	if err != nil {
		return nil, fmt.Errorf("open peers: %w", err)
	}
	p := &Peers{
		opt: o, self: NodeOf(o.Key.Public().(ed25519.PublicKey)), run: rand.Text(), seeds: m.members,
		wires: newWires(), incoming: newHandoff(), mux: http.NewServeMux(),
		joins: make(chan struct{}, maxJoins), renews: make(chan struct{}, maxRenews), look: make(chan struct{}, 1),
	}
	p.raft = &raftStream{peers: p, handoff: newHandoff()}
	p.commands = &commands{handoff: newHandoff()}
	p.trust.Store(m.trust)
	by, _ := m.trust.by(m.cert, true) // without one the certificate is of no use, and is renewed
	p.cert.Store(certificate(m.cert, by.cert, o.Key))
	p.listener, err = net.Listen("tcp", o.Listen.String())
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("open peers: %s is taken by another program: %w", o.Listen, err)
		}
		return nil, fmt.Errorf("open peers: %w", err)
	}
	p.commands.addr = p.listener.Addr()
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.client, p.pool = p.newTransport(), newPool()
	p.server = p.newServer()
	return p, nil
}

// Serve begins to answer, and to keep this node's certificate fresh. Close ends it.
func (p *Peers) Serve() {
	p.handleOwn()
	p.running.Go(p.accept)
	p.running.Go(p.serveHTTP)
	p.running.Go(p.keepFresh)
}

// Answered says how long ago nodes answered this one on connections that it opened and that stand: who only sends, and
// hears nothing, is not in it for long.
func (p *Peers) Answered() map[place.NodeID]time.Duration { return p.wires.answered() }

// Node is this node.
func (p *Peers) Node() place.NodeID { return p.self }

// Ring is the ring's identity.
func (p *Peers) Ring() string { return p.trust.Load().ring }

// Addr is where this node listens.
func (p *Peers) Addr() netip.AddrPort {
	return p.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Seeds are the members that the answer to the join named; none on the node that began the ring.
func (p *Peers) Seeds() []Member { return p.seeds }

// NewToken makes a token for one machine to join by. The caller keeps its ID and Hash in the ledger, with an end.
func (p *Peers) NewToken() Token {
	c := p.cert.Load()
	t := p.trust.Load()
	a := t.signer()
	if by, err := t.by(c.Leaf, false); err == nil {
		a = by // nodes show the authority of their own certificate, which follows the signing one within seconds
	}
	return newToken(t.ring, a.pin)
}

// Known says whether a node is of the ring, as far as this node can tell.
func (p *Peers) Known(node place.NodeID) bool {
	if p.opt.Known(node) {
		return true
	}
	if len(p.seeds) == 0 || p.opt.Known(p.self) {
		return false
	}
	if node == p.self {
		return true
	}
	_, ok := addressIn(p.seeds, node)
	return ok
}

// address is where a node is reached; that of the join's answer if nothing newer is known.
func (p *Peers) address(node place.NodeID) (netip.AddrPort, bool) {
	if node == p.self {
		return p.Addr(), true
	}
	if a, ok := p.opt.Address(node); ok {
		return a, true
	}
	return addressIn(p.seeds, node)
}

// others are the nodes of the ring but this one; those that may hold the authorities' keys first.
func (p *Peers) others() []place.NodeID {
	var may, rest []place.NodeID
	seen := map[place.NodeID]bool{p.self: true}
	for _, list := range [][]Member{p.opt.Members(), p.seeds} {
		for _, m := range list {
			if seen[m.ID] || !p.Known(m.ID) {
				continue
			}
			seen[m.ID] = true
			if p.opt.MayHold(m.ID) {
				may = append(may, m.ID)
			} else {
				rest = append(rest, m.ID)
			}
		}
	}
	return append(may, rest...)
}

// Recheck closes the connections to nodes that are no longer Known, and looks whether the certificate is due. To be
// called when the ledger's nodes changed.
func (p *Peers) Recheck() {
	if n := p.wires.closeIf(func(node place.NodeID) bool { return !p.Known(node) }); n > 0 {
		p.opt.Log.Info("connections to nodes that left are closed", "count", n)
	}
	p.wake()
}

// Close stops listening, closes every connection and waits until all is still.
func (p *Peers) Close() error {
	p.stop()
	err := p.listener.Close()
	p.raft.close()
	p.commands.close()
	p.incoming.close()
	err = errors.Join(err, p.server.Close())
	p.wires.closeAll()
	p.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close peers: %w", err)
	}
	return nil
}

func checkRing(ring string) error {
	if len(ring) != 2*ringSize || !isHex(ring) {
		return fmt.Errorf("ring %q: expected %d hex digits", ring, 2*ringSize)
	}
	return nil
}

// isHex says whether s is of the digits 0-9 and a-f.
func isHex(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
