package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/lease"
	"github.com/shoal-dev/shoal/engine/place"
)

// Members is what the agent needs of the gossip: hints on who is there.
type Members interface {
	// Alive says of the nodes that were heard of whether they answer; of this one too.
	Alive() map[place.NodeID]bool
	Events() <-chan struct{} // Alive has changed
}

// KeeperOptions are what a Keeper is made of. All are required but Log.
type KeeperOptions struct {
	Node    place.NodeID
	Ledger  RingLedger
	Members Members
	Up      func() cluster.NodeUp // what this node says of itself
	Now     func() int64          // ms that go on while the machine sleeps
	Log     *slog.Logger          // default: discard
}

// RingLedger is a Ledger of which somebody leads.
type RingLedger interface {
	Ledger
	Subscribe() (changes <-chan struct{}, cancel func())
	Leading() bool
	// Verify proves by a majority that this node still leads, and says how far its ledger has come.
	Verify(ctx context.Context) (index uint64, err error)
}

// Keeper keeps the ledger's list of nodes true. On the leader it turns the gossip's hints and the ends of leases into
// entries; everywhere it has this node return that others had given up.
type Keeper struct {
	opt  KeeperOptions
	told bool // the ledger has what this node says of itself; Run's

	mu     sync.Mutex    // guards what follows
	grants *lease.Grants // nil: this node does not lead
	known  map[place.NodeID]acquaintance
	led    int64 // since when it leads
}

// acquaintance is what a leader has seen of a node.
type acquaintance struct {
	since int64 // it leads, or the node joined or returned then
	new   bool  // it joined or returned under this leader: what the gossip says may be of before
	met   bool  // the gossip has said since that it is there
	down  bool
}

const (
	// learning is how long the gossip may take to tell of a node, to a new leader or after it has joined or returned, ms.
	learning = 5000
	// keeperPause is how long the keeper waits after an entry that was not taken.
	keeperPause = time.Second
)

// NewKeeper makes one; Run starts it.
func NewKeeper(o KeeperOptions) *Keeper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{opt: o}
}

// ErrNotLeading says that another node, or none, grants leases.
var ErrNotLeading = errors.New("this node does not lead the ring")

// Renew grants a node its lease anew, if this node leads: it returns how far the ledger has come.
func (k *Keeper) Renew(ctx context.Context, node place.NodeID) (index uint64, err error) {
	k.mu.Lock()
	if k.grants == nil || !k.opt.Ledger.Leading() {
		k.mu.Unlock()
		return 0, ErrNotLeading
	}
	k.grants.Received(node, k.opt.Now())
	k.mu.Unlock()
	if index, err = k.opt.Ledger.Verify(ctx); err != nil {
		return 0, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.grants == nil || !k.grants.MayAcknowledge(node) {
		return 0, errors.New("the end of this node's lease is on its way into the ledger")
	}
	return index, nil
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	changes, cancel := k.opt.Ledger.Subscribe()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		case <-k.opt.Members.Events():
		case <-timer.C:
		}
		inputs, wait := k.look()
		for _, in := range inputs {
			if !k.append(ctx, in) {
				wait = min(wait, keeperPause)
			}
		}
		timer.Reset(wait)
	}
}

// append puts one entry into the ledger; false if it was not taken.
func (k *Keeper) append(ctx context.Context, in cluster.Input) bool {
	bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := k.opt.Ledger.Append(bounded, in)
	if d := in.NodeDown; d != nil && d.Fenced && err == nil {
		k.mu.Lock()
		if k.grants != nil {
			k.grants.Ended(d.ID)
		}
		k.mu.Unlock()
	}
	switch {
	case err != nil && ctx.Err() == nil:
		k.opt.Log.WarnContext(ctx, "entry not taken, will retry", "entry", in.String(), "err", err)
	case err == nil && out.Rejected != "":
		k.opt.Log.InfoContext(ctx, "entry was refused", "entry", in.String(), "why", out.Rejected)
	case err == nil:
		k.opt.Log.InfoContext(ctx, "entry taken", "entry", in.String())
	}
	return err == nil && out.Rejected == ""
}

// look decides what must be said now, and when to look again.
func (k *Keeper) look() (inputs []cluster.Input, wait time.Duration) {
	var nodes []*cluster.Node
	var engine int
	now := time.Now().UnixMilli() // ring time stands still while nothing is appended
	k.opt.Ledger.View(func(s *cluster.State) {
		nodes = slices.Collect(s.Nodes().Values())
		if r, ok := s.Ring(); ok {
			engine = r.Engine
		}
		now = max(now, s.Time())
	})
	wait = time.Hour
	self := slices.IndexFunc(nodes, func(n *cluster.Node) bool { return n.ID == k.opt.Node })
	if self >= 0 && (nodes[self].Down || !k.told) {
		if up := k.opt.Up(); differs(nodes[self], &up) {
			inputs = append(inputs, cluster.Input{NodeUp: &up})
			wait = keeperPause
		} else {
			k.told = true
		}
	}
	if !k.lead() {
		return inputs, wait
	}
	if len(nodes) > 1 {
		more, next := k.judge(nodes, now)
		inputs, wait = append(inputs, more...), min(wait, next)
	}
	if v := knownToAll(nodes); v > engine && engine != 0 {
		inputs = append(inputs, cluster.Input{SetEngine: &cluster.SetEngine{Version: v}})
	}
	return inputs, wait
}

// lead notes whether this node leads now: who begins to grants every lease anew.
func (k *Keeper) lead() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch leads := k.opt.Ledger.Leading(); {
	case !leads:
		k.grants = nil
		return false
	case k.grants == nil:
		k.led = k.opt.Now()
		k.grants, k.known = lease.NewGrants(k.led), nil
	}
	return true
}

// judge finds the nodes that are lost and those whose leases are over.
func (k *Keeper) judge(nodes []*cluster.Node, ringTime int64) (inputs []cluster.Input, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.opt.Now()
	wait = time.Hour
	alive := k.opt.Members.Alive()
	first := k.known == nil
	if first {
		k.known = map[place.NodeID]acquaintance{}
	}
	var holders []place.NodeID // whose leases may be over one day
	for _, n := range nodes {
		if n.ID == k.opt.Node || !n.Up {
			continue
		}
		a, known := k.known[n.ID]
		if !known || a.down && !n.Down {
			a = acquaintance{since: now, new: !first}
			k.grants.Received(n.ID, now)
		}
		a.met, a.down = a.met || alive[n.ID], n.Down
		k.known[n.ID] = a
		if !n.Fenced {
			holders = append(holders, n.ID)
		}
		if n.Down || alive[n.ID] {
			continue
		}
		_, heard := alive[n.ID]
		if left := a.patience(n, heard, now, ringTime); left > 0 {
			wait = min(wait, left)
			continue
		}
		inputs = append(inputs, cluster.Input{NodeDown: &cluster.NodeDown{ID: n.ID}})
	}
	for _, id := range k.grants.Ending(now, holders) {
		i := slices.IndexFunc(nodes, func(n *cluster.Node) bool { return n.ID == id })
		if n := nodes[i]; n.Restarting > ringTime { // its agent is announced to be away: it holds no lease, and nothing is moved
			k.grants.Ended(id)
			k.grants.Received(id, now)
			continue
		} else if !n.Down { // it gossips, and has not renewed: what may run once has been stopped there
			inputs = append(inputs, cluster.Input{NodeDown: &cluster.NodeDown{ID: id}})
		}
		inputs = append(inputs, cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Fenced: true}})
	}
	if next := k.grants.Next(holders); next != 0 {
		wait = min(wait, max(time.Duration(next-now)*time.Millisecond, time.Millisecond))
	}
	return inputs, wait
}

// patience is for how long a node that does not answer is not taken for lost.
func (a acquaintance) patience(n *cluster.Node, heard bool, now, ringTime int64) time.Duration {
	if away := n.Restarting - ringTime; away > 0 {
		return time.Duration(away) * time.Millisecond
	}
	if !a.met && (a.new || !heard) {
		return time.Duration(a.since+learning-now) * time.Millisecond
	}
	return 0
}

// knownToAll is the highest engine version that every node of the ring knows.
func knownToAll(nodes []*cluster.Node) int {
	if len(nodes) == 0 {
		return 0
	}
	least := slices.MinFunc(nodes, func(a, b *cluster.Node) int { return cmp.Compare(a.Engine, b.Engine) })
	return min(least.Engine, cluster.EngineVersion)
}

// differs says whether what the ledger has of this node is not what the node says.
func differs(n *cluster.Node, up *cluster.NodeUp) bool {
	return !n.Up || n.Down || n.Name != up.Name || n.Address != up.Address || n.Zone != up.Zone || n.Arch != up.Arch ||
		n.Capacity != up.Capacity || n.Engine != up.Engine || n.Peer != up.Peer || n.Gossip != up.Gossip || n.Restarting != 0 ||
		!maps.Equal(n.Labels, up.Labels)
}
