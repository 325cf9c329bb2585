package nodeagent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/keep"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/internal/wallclock"
)

// Members is what the agent needs of the gossip: hints on who is there.
type Members interface {
	// Alive says of the nodes that were heard of whether they answer; of this one too.
	Alive() map[place.NodeID]bool
	Events() <-chan struct{} // Alive has changed
}

// KeeperOptions are what a Keeper is made of. All are required but Ahead and Log.
type KeeperOptions struct {
	Node    place.NodeID
	Ledger  RingLedger
	Members Members
	Heard   func() map[place.NodeID]time.Duration // how long ago nodes answered what this one asked them itself
	Ahead   func() map[place.NodeID]int64         // by how many ms the clocks of nodes are ahead of most voters', where that is known
	Up      func() cluster.NodeUp                 // what this node says of itself
	Now     func() int64                          // ms that go on while the machine sleeps
	Log     *slog.Logger                          // default: discard
}

// RingLedger is a Ledger of which somebody leads.
type RingLedger interface {
	Ledger
	Subscribe() (changes <-chan struct{}, cancel func())
	// Leads returns the term of the log in which this node leads. Until it has applied all that was committed before that,
	// and when it does not lead, there is none.
	Leads() (term uint64, yes bool)
	// Verify proves by a majority that this node still leads, and says how far its ledger has come.
	Verify(ctx context.Context) (index uint64, err error)
}

// Keeper keeps the ledger's list of nodes true: keep.Keeper decides what is to be said in the ledger, here it is said.
type Keeper struct {
	opt KeeperOptions

	mu   sync.Mutex // guards what follows
	keep *keep.Keeper
}

// NewKeeper makes one; Run starts it.
func NewKeeper(o KeeperOptions) *Keeper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{opt: o, keep: keep.New(o.Node)}
}

// ErrNotLeading says that another node, or none, grants leases.
var ErrNotLeading = errors.New("this node does not lead the ring")

// Renew grants a node its lease anew, if this node leads: it returns how far the ledger has come.
func (k *Keeper) Renew(ctx context.Context, node place.NodeID) (index uint64, err error) {
	k.mu.Lock()
	term, grants := k.opt.Ledger.Leads()
	grants = grants && k.keep.Received(node, term, k.opt.Now())
	k.mu.Unlock()
	if !grants {
		return 0, ErrNotLeading
	}
	if index, err = k.opt.Ledger.Verify(ctx); err != nil {
		return 0, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.keep.MayAcknowledge(node) {
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
			taken, err := k.append(ctx, in)
			if !taken {
				wait = min(wait, keep.Pause)
			}
			if err != nil { // what comes behind it was decided long ago by the time it could be said
				break
			}
		}
		timer.Reset(time.Duration(wait) * time.Millisecond)
	}
}

// append puts one entry into the ledger; it is not taken if the ledger refuses it, or if nobody knows whether it will be.
func (k *Keeper) append(ctx context.Context, in cluster.Input) (taken bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := k.opt.Ledger.Append(bounded, in)
	if err == nil {
		k.mu.Lock()
		k.keep.Taken(in)
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
	return err == nil && out.Rejected == "", err
}

// look asks what must be said now, and when to look again, ms.
func (k *Keeper) look() (inputs []cluster.Input, wait int64) {
	var f keep.Facts
	if term, leads := k.opt.Ledger.Leads(); leads { // asked before the state is: that has all that earlier leaders committed
		f.Term = term
	}
	k.opt.Ledger.View(func(s *cluster.State) { f.State = s.Snapshot() })
	f.Alive = k.opt.Members.Alive()
	f.Up = func() *cluster.NodeUp {
		up := k.opt.Up()
		return &up
	}
	f.Wall = wallclock.Now().UnixMilli()
	if f.Term != 0 && k.opt.Ahead != nil {
		f.Ahead = k.opt.Ahead()
	}
	heard := k.opt.Heard()
	f.Heard = make(map[place.NodeID]int64, len(heard))
	k.mu.Lock()
	defer k.mu.Unlock()
	f.Now = k.opt.Now()
	for id, ago := range heard {
		f.Heard[id] = f.Now - ago.Milliseconds()
	}
	return k.keep.Look(f)
}
