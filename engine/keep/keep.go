// Package keep decides what is to be said in the ledger of the ring's nodes: that one is lost, that its lease is over,
// that this one is there again, and which engine version all of them know. It has no clock and talks to nobody; the
// agent and the simulator drive the same code.
//
// Every node has a Keeper. One whose node the others have given up, or that is not known as it is, says NodeUp. On the
// node that leads it turns hints into entries:
//
//   - The gossip says that a node does not answer: NodeDown. Its Services' endpoints go, stateless pods start elsewhere.
//     Of a node that joined or returned a moment ago, or that a new leader has not heard of, the gossip may know nothing
//     yet: for 5 s that counts for nothing.
//   - A node's lease is over (package lease): NodeDown, unless it was said, and NodeDown with Fenced. What may run once
//     starts elsewhere. Its renewals are not acknowledged from the moment this is decided until it is applied here, or
//     certainly never will be.
//   - A node's clock is off that of most voters: Clock, and again when it is right (clocks.go).
//   - A node has announced that its agent restarts: neither, until the time it gave.
//
// Whoever begins to lead says Lead first, and begins anew once that is applied: all leases whole, all nodes unknown. What
// leaders before it decided and could not say in time is void then. Without that rule the leader that was cut off, or
// stood still for a while, takes leases away that another one has granted, for its last words are sent again.
package keep

import (
	"maps"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/lease"
	"github.com/shoal-dev/shoal/engine/place"
)

// Times, ms.
const (
	// learning is how long the gossip may take to tell of a node, to a new leader or after it has joined or returned.
	learning = 5000
	// answering is how long a node is there by its answer to this one, ms: a leader's heartbeats are answered some ten
	// times in it, and the gossip takes longer to give a node up that is lost.
	answering = 1000
	// together is how long a loss is not said at most while other nodes do not answer this one either, and the gossip has
	// not given them up: it takes about so long from one to the next of those that were lost at once.
	together = 1500
	// Pause is when to look again after an entry that was not taken.
	Pause = 1000
	// idle is when to look again with nothing to wait for.
	idle = 3_600_000
)

// Keeper keeps the ledger's list of nodes true, on one node. It is not safe for concurrent use.
type Keeper struct {
	node   place.NodeID
	told   bool          // the ledger has what this node says of itself
	engine int           // version by which it was told
	term   uint64        // in which it grants leases
	grants *lease.Grants // nil: it does not
	known  map[place.NodeID]acquaintance
	held   int64                  // since when a loss is not said, as others may have been lost with it, ms of Now's clock; 0: none is
	doubts map[place.NodeID]int64 // since when a node's clock says other than the ledger has, ms of Now's clock
}

// acquaintance is what a leader has seen of a node.
type acquaintance struct {
	since int64 // it leads, or the node joined or returned then
	new   bool  // it joined or returned under this leader: what the gossip says may be of before
	met   bool  // the gossip has said since that it is there
	down  bool
}

// Facts are what a look goes by.
type Facts struct {
	State *cluster.State         // as applied here; it is only read
	Term  uint64                 // in which this node leads, having applied what leaders before it committed; 0: it does not
	Alive map[place.NodeID]bool  // of the nodes that the gossip has heard of, whether they answer
	Heard map[place.NodeID]int64 // of the nodes that have answered this one itself, when they did last, ms of Now's clock
	Ahead map[place.NodeID]int64 // of the nodes whose clocks are known, by how many ms they are ahead of most voters'
	Up    func() *cluster.NodeUp // what this node says of itself
	Now   int64                  // ms of a clock that goes on while the machine sleeps
	Wall  int64                  // ms since 1970: ring time stands still while nothing is appended
}

// leadSince is the engine version from which on leaders say that they are.
const leadSince = 5

// New makes the Keeper of a node.
func New(node place.NodeID) *Keeper { return &Keeper{node: node} }

// Received notes that a renewal of a node's lease came at now to the leader of a term; false if it grants none in that
// term, or not yet.
func (k *Keeper) Received(node place.NodeID, term uint64, now int64) bool {
	if k.grants == nil || k.term != term {
		return false
	}
	k.grants.Received(node, now)
	return true
}

// MayAcknowledge tells whether the renewals of a node may be acknowledged. It is asked after a majority has confirmed,
// after the renewal came, that this node leads.
func (k *Keeper) MayAcknowledge(node place.NodeID) bool {
	return k.grants != nil && k.grants.MayAcknowledge(node)
}

// Taken tells that an entry of Look's was applied here, also if it was refused then: what it says is settled.
func (k *Keeper) Taken(in cluster.Input) {
	if d := in.NodeDown; d != nil && d.Fenced && k.grants != nil {
		k.grants.Ended(d.ID)
	}
}

// Look decides what is to be appended now, in this order, and after how many ms to look again although nothing happened.
// Until an entry is taken it comes again with every look.
func (k *Keeper) Look(f Facts) (inputs []cluster.Input, wait int64) {
	wait = idle
	ring, begun := f.State.Ring()
	if begun && k.engine != ring.Engine { // a higher one may take more of what it says
		k.told, k.engine = false, ring.Engine
	}
	if self, here := f.State.Nodes().Get(k.node); here && (self.Down || !k.told) {
		if up := f.Up(); differs(self, up) || begun && ring.Engine >= cluster.TunnelSince && self.Tunnel != up.Tunnel {
			inputs = append(inputs, cluster.Input{NodeUp: up})
			wait = Pause
		} else {
			k.told = true
		}
	}
	if k.term != f.Term {
		k.term, k.grants, k.known, k.doubts, k.held = f.Term, nil, nil, nil, 0
	}
	if f.Term == 0 || !begun {
		return inputs, wait
	}
	if ring.Engine >= cluster.ClockSince && (ring.Term == f.Term || f.State.Nodes().Len() == 1) {
		more, next := k.compare(f)
		inputs, wait = append(inputs, more...), min(wait, next)
	}
	if f.State.Nodes().Len() > 1 {
		said := ring.Term == f.Term
		if !said && ring.Engine >= leadSince {
			inputs = append(inputs, cluster.Input{Lead: &cluster.Lead{Term: f.Term}})
		}
		if k.grants == nil && (said || ring.Engine < leadSince) {
			k.grants = lease.NewGrants(f.Now)
		}
		if k.grants != nil {
			more, next := k.judge(f)
			inputs, wait = append(inputs, more...), min(wait, next)
		}
	}
	if v := knownToAll(f.State); v > ring.Engine {
		inputs = append(inputs, cluster.Input{SetEngine: &cluster.SetEngine{Version: v}})
	}
	return inputs, wait
}

// judge finds the nodes that are lost and those whose leases are over.
func (k *Keeper) judge(f Facts) (inputs []cluster.Input, wait int64) {
	ringTime := max(f.Wall, f.State.Time())
	wait = idle
	first := k.known == nil
	if first {
		k.known = map[place.NodeID]acquaintance{}
	}
	var holders []place.NodeID // whose leases may be over one day
	var lost []place.NodeID
	silent := false // a node that the gossip has not given up yet answers this one no more
	for n := range f.State.Nodes().Values() {
		if n.ID == k.node || !n.Up {
			continue
		}
		a, known := k.known[n.ID]
		if !known || a.down && !n.Down {
			a = acquaintance{since: f.Now, new: !first}
			k.grants.Received(n.ID, f.Now)
		}
		alive, heard := f.Alive[n.ID]
		a.met, a.down = a.met || alive, n.Down
		k.known[n.ID] = a
		if !n.Fenced {
			holders = append(holders, n.ID)
		}
		at, ever := f.Heard[n.ID]
		if n.Down || alive {
			silent = silent || !n.Down && ever && f.Now-at >= answering && n.Restarting <= ringTime
			continue
		}
		// The gossip's word is a hint: who was cut off condemns all others when it comes back.
		if ever && f.Now-at < answering {
			wait = min(wait, at+answering-f.Now)
			continue
		}
		if left := a.patience(n, heard, f.Now, ringTime); left > 0 {
			wait = min(wait, left)
			continue
		}
		lost = append(lost, n.ID)
	}
	more, next := k.lose(f, lost, silent)
	inputs, wait = append(inputs, more...), min(wait, next)
	maps.DeleteFunc(k.known, func(id place.NodeID, _ acquaintance) bool {
		_, ok := f.State.Nodes().Get(id)
		return !ok
	})
	for _, id := range k.grants.Ending(f.Now, holders) {
		n, _ := f.State.Nodes().Get(id)
		if n.Restarting > ringTime { // its agent is announced to be away: it holds no lease, and nothing is moved
			k.grants.Ended(id)
			k.grants.Received(id, f.Now)
			continue
		}
		if !n.Down { // it gossips, and has not renewed: what may run once has been stopped there
			inputs = append(inputs, cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Term: f.Term}})
		}
		inputs = append(inputs, cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Fenced: true, Term: f.Term}})
	}
	if next := k.grants.Next(holders); next != 0 {
		wait = min(wait, max(next-f.Now, 1))
	}
	return inputs, wait
}

// lose says that nodes are lost, all in one, and where others may have been lost with them, a moment later: what ran there
// is placed once, on nodes that are left.
func (k *Keeper) lose(f Facts, lost []place.NodeID, silent bool) (inputs []cluster.Input, wait int64) {
	ring, _ := f.State.Ring()
	if len(lost) == 0 || ring.Engine < cluster.TogetherSince {
		k.held = 0
		for _, id := range lost {
			inputs = append(inputs, cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Term: f.Term}})
		}
		return inputs, idle
	}
	if silent && k.held == 0 {
		k.held = f.Now
	}
	if left := k.held + together - f.Now; silent && left > 0 {
		return nil, min(left, 100)
	}
	k.held = 0
	for len(lost) > 0 {
		some := lost[:min(len(lost), 1000)]
		lost = lost[len(some):]
		inputs = append(inputs, cluster.Input{NodeDown: &cluster.NodeDown{ID: some[0], Term: f.Term, More: some[1:len(some):len(some)]}})
	}
	return inputs, idle
}

// patience is for how long a node that does not answer is not taken for lost, ms.
func (a acquaintance) patience(n *cluster.Node, heard bool, now, ringTime int64) int64 {
	if away := n.Restarting - ringTime; away > 0 {
		return away
	}
	if !a.met && (a.new || !heard) {
		return a.since + learning - now
	}
	return 0
}

// knownToAll is the highest engine version that every node of the ring knows.
func knownToAll(s *cluster.State) int {
	least := cluster.EngineVersion
	for n := range s.Nodes().Values() {
		least = min(least, n.Engine)
	}
	if s.Nodes().Len() == 0 {
		return 0
	}
	return least
}

// differs says whether what the ledger has of this node is not what the node says.
func differs(n *cluster.Node, up *cluster.NodeUp) bool {
	return !n.Up || n.Down || n.Name != up.Name || n.Address != up.Address || n.Zone != up.Zone || n.Arch != up.Arch ||
		n.Capacity != up.Capacity || n.Engine != up.Engine || n.Peer != up.Peer || n.Gossip != up.Gossip || n.Restarting != 0 ||
		!maps.Equal(n.Labels, up.Labels)
}
