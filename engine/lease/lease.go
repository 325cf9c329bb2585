// Package lease is the arithmetic of the ring lease: the promise that what may run once does not run twice. It has no
// clock and talks to nobody; the agent and the simulator drive the same code.
//
// A node holds its lease by renewing it with the leader. It counts from when it sent the last renewal that was
// acknowledged, so what the network or the leader took does not matter to it:
//
//	0.6 L   what may run once is told to stop
//	0.9 L   it is killed
//
// The leader counts from when it received the last renewal, which is later, and waits 1.1 L before it says in the
// ledger that the lease is over (NodeDown, Fenced). Only then has the pod a successor. The tenth that is left on either
// side is for clocks that do not run alike, and for processes that take a while to die.
//
//   - The leader acknowledges only after a majority has confirmed, after the renewal came, that it still leads: who
//     follows it grants every lease anew, whole, from the moment it leads.
//   - While the end of a node's lease is on its way into the ledger, its renewals are not acknowledged. Without this
//     rule one in a few thousand lost nodes runs a pod twice.
//   - An acknowledgement says how far the ledger had come. A node whose lease had ended starts what may run once only
//     when it has applied that much: it knows then what was taken from it. So does an agent that goes on with the lease of
//     the agent before it: what that one waited for nobody knows any more.
//
// Times are milliseconds of each node's own clock that counts while the machine sleeps (CLOCK_BOOTTIME), never wall time.
package lease

import (
	"math"
	"slices"

	"github.com/shoal-dev/shoal/engine/place"
)

// Length is L, in ms: a compromise between how soon what may run once runs elsewhere (a node that is lost is noticed at
// once, its pods move after 1.1 L), and how long a node that hears of nobody may hope.
const Length int64 = 8000

// The parts of L after which something must have happened, in ms, and how often a node renews.
const (
	StopAfter  = Length * 6 / 10
	KillAfter  = Length * 9 / 10
	OverAfter  = Length * 11 / 10
	RenewEvery = Length / 8
)

// Phase says what a node may do with pods of which one may run.
type Phase string

// The phases of a lease.
const (
	Held     Phase = "held"     // they run, and may be started
	Stopping Phase = "stopping" // they are told to stop
	Over     Phase = "over"     // they must have been killed
)

// Holder is a node's side. The zero Holder has no lease. It is not safe for concurrent use.
type Holder struct {
	held bool
	sent int64  // of the last renewal that was acknowledged
	need uint64 // entry that must be applied before anything is started
}

// Acknowledged tells that the renewal sent at a time was granted at now, by a leader whose ledger had come to index.
// One that comes too late, or out of order, changes nothing.
func (h *Holder) Acknowledged(sent, now int64, index uint64) {
	if sent > now || h.held && sent <= h.sent || now-sent >= StopAfter {
		return
	}
	if h.Phase(now) != Held || h.need == unknown {
		h.need = index
	}
	h.held, h.sent = true, sent
}

// unknown is the entry that must be applied before anything is started, as long as nobody has said which.
const unknown = math.MaxUint64

// Resumed goes on at now with the lease that the agent before this one had renewed last at sent: what runs goes on under
// it, and nothing is started before the next acknowledgement.
func (h *Holder) Resumed(sent, now int64) {
	h.Acknowledged(sent, now, unknown)
}

// Phase is what holds at now.
func (h *Holder) Phase(now int64) Phase {
	switch {
	case !h.held || now < h.sent || now-h.sent >= KillAfter:
		return Over
	case now-h.sent >= StopAfter:
		return Stopping
	}
	return Held
}

// MayStart tells whether pods of which one may run may be started at now by a node that has applied so many entries.
func (h *Holder) MayStart(now int64, applied uint64) bool {
	return h.Phase(now) == Held && applied >= h.need
}

// Next is when Phase changes unless a renewal is acknowledged before; 0 if it does not.
func (h *Holder) Next(now int64) int64 {
	switch h.Phase(now) {
	case Held:
		return h.sent + StopAfter
	case Stopping:
		return h.sent + KillAfter
	}
	return 0
}

// KillAt is by when what may run once must be dead, whatever becomes of the agent; 0 if it must be already.
func (h *Holder) KillAt(now int64) int64 {
	if h.Phase(now) == Over {
		return 0
	}
	return h.sent + KillAfter
}

// Grants is the leader's side, for as long as it leads. It is not safe for concurrent use.
type Grants struct {
	begun    int64
	received map[place.NodeID]int64
	ending   map[place.NodeID]bool // its end is on its way into the ledger
}

// NewGrants begins to grant leases at now, when the node has become the leader: all begin whole.
func NewGrants(now int64) *Grants {
	return &Grants{begun: now, received: map[place.NodeID]int64{}, ending: map[place.NodeID]bool{}}
}

// Received notes that a renewal came.
func (g *Grants) Received(node place.NodeID, now int64) {
	g.received[node] = max(g.received[node], now)
}

// MayAcknowledge tells whether the renewals of a node may be acknowledged. It is asked after a majority has confirmed
// that this node leads.
func (g *Grants) MayAcknowledge(node place.NodeID) bool { return !g.ending[node] }

// Ending returns those of the nodes whose leases are over at now: that is to be said in the ledger. Their renewals are
// not acknowledged, and they are returned again, before Ended.
func (g *Grants) Ending(now int64, nodes []place.NodeID) []place.NodeID {
	var over []place.NodeID
	for _, n := range nodes {
		if g.ending[n] || now >= g.overAt(n) {
			g.ending[n] = true
			over = append(over, n)
		}
	}
	slices.Sort(over)
	return over
}

// Ended tells that the end of a node's lease was applied here, or certainly never will be. As long as that is not known
// it may still come to be applied, and what was acknowledged before it would be worth nothing.
func (g *Grants) Ended(node place.NodeID) { delete(g.ending, node) }

// Next is the first time after now at which one of the nodes' leases is over; 0 for never.
func (g *Grants) Next(nodes []place.NodeID) int64 {
	var next int64
	for _, n := range nodes {
		if at := g.overAt(n); !g.ending[n] && (next == 0 || at < next) {
			next = at
		}
	}
	return next
}

func (g *Grants) overAt(n place.NodeID) int64 { return max(g.begun, g.received[n]) + OverAfter }
