package ring

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/shoal-dev/shoal/engine/place"
)

const (
	// twinAfter is how long one ID must be claimed from two addresses before that is said. A node whose address changed
	// looks the same until the others have noticed that it is gone from the old one, 3 s at most.
	twinAfter = 10 * time.Second
	// twinFades is when a claim that is not repeated is forgotten.
	twinFades = 90 * time.Second
	// newcomer is how soon after its start a node must hear of itself elsewhere to be the second one. The first one is
	// known to the others already and hears nothing, or hears it later.
	newcomer = 30 * time.Second
)

// Twins are two machines that claim to be one node: a disk was cloned.
type Twins struct {
	Node   place.NodeID
	Known  netip.AddrPort // where the ring knows it
	Other  netip.AddrPort // who claims it too
	Second bool           // this very node is the one that came later: the ring does not listen to it
}

func (t Twins) String() string {
	s := fmt.Sprintf("node %s is claimed by %s and by %s: a disk was cloned", t.Node, t.Known, t.Other)
	if t.Second {
		s += "; this machine came second"
	}
	return s
}

// twins watches who claims which ID from where. memberlist ignores a second claim and would tell nobody.
type twins struct {
	self   place.NodeID
	opened time.Time
	told   func(Twins)
	again  func() // asks the others once more, soon

	mu    sync.Mutex // guards below
	after time.Duration
	own   netip.AddrPort
	alive map[place.NodeID]netip.AddrPort // but this node
	seen  map[place.NodeID]*claim
	said  bool // that this node is the second
}

type claim struct {
	other       netip.AddrPort
	first, last time.Time
	told        bool
}

// maxClaims bounds what a member that makes up claims can fill.
const maxClaims = 1000

func newTwins(self place.NodeID) *twins {
	return &twins{self: self, opened: time.Now(), after: twinAfter, alive: map[place.NodeID]netip.AddrPort{}, seen: map[place.NodeID]*claim{}}
}

var errTwin = errors.New("the node is known at another address")

// NotifyAlive is called by memberlist, under its lock, before it believes that a node is alive.
func (t *twins) NotifyAlive(n *memberlist.Node) error {
	addr, _ := netip.AddrFromSlice(n.Addr)
	at := netip.AddrPortFrom(addr.Unmap(), n.Port)
	id := place.NodeID(n.Name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if id == t.self {
		if !t.own.IsValid() || at == t.own {
			return nil
		}
		t.claimed(id, t.own, at)
		return errTwin
	}
	if known, ok := t.alive[id]; ok && known != at {
		t.claimed(id, known, at)
	}
	return nil // memberlist knows better whether the known one is alive
}

// claimed notes a claim, and tells of it once it has lasted; mu is held.
func (t *twins) claimed(id place.NodeID, known, other netip.AddrPort) {
	now := time.Now()
	c := t.seen[id]
	if c == nil || now.Sub(c.last) > twinFades || c.other != other {
		if c == nil && len(t.seen) >= maxClaims {
			return
		}
		c = &claim{other: other, first: now}
		t.seen[id] = c
	}
	c.last = now
	if !c.told && id == t.self {
		t.again()
	}
	if c.told || now.Sub(c.first) < t.after {
		return
	}
	c.told = true
	found := Twins{Node: id, Known: known, Other: other}
	if id == t.self && !t.said && c.first.Sub(t.opened) < newcomer {
		t.said = true
		found.Known, found.Other, found.Second = other, known, true
	}
	t.told(found)
}

// is says where this node gossips from now on.
func (t *twins) is(own netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.own = own
}

// note keeps where members are, from the events about them.
func (t *twins) note(kind Kind, members []Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range members {
		if m.ID == t.self {
			continue
		}
		if kind == Joined || kind == Updated {
			t.alive[m.ID] = m.Address
		} else {
			delete(t.alive, m.ID)
			delete(t.seen, m.ID)
		}
	}
}
