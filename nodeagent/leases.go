package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/lease"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/internal/deadline"
)

// LeasesOptions are what a node's lease is kept with. All are required but Log.
type LeasesOptions struct {
	Node   place.NodeID
	Ledger interface {
		View(f func(*cluster.State))
		Subscribe() (changes <-chan struct{}, cancel func())
	}
	// Renew asks the leader, who may be this node, and returns how far its ledger has come.
	Renew func(ctx context.Context) (index uint64, err error)
	Now   func() int64 // ms that go on while the machine sleeps, equal in all processes of this boot
	// File is where it is written by when what may run once must be dead (package deadline). The guard and the pods' shims
	// read it, and the next agent of this boot.
	File  string
	Guard Guard        // nil: there is none, and nobody waits for one
	Log   *slog.Logger // default: discard
}

// Leases holds this node's ring lease: it renews it every second, and says what may be done under it.
type Leases struct {
	opt     LeasesOptions
	file    *os.File
	events  chan struct{}
	company chan struct{} // alone is another

	mu     sync.Mutex // guards what follows
	holder lease.Holder
	alone  bool // the ring has no other node: nobody to hold a lease against
	phase  lease.Phase

	unguarded string // why the guard does not run; "" if it does
}

// NewLeases goes on with the lease of the agent before; Run starts to renew it.
func NewLeases(o LeasesOptions) (*Leases, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Leases{opt: o, events: make(chan struct{}, 1), company: make(chan struct{}, 1), phase: lease.Held}
	if o.Guard != nil {
		l.unguarded = "the guard does not run yet"
	}
	f, err := os.OpenFile(o.File, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lease: %w", err)
	}
	l.file = f
	kill, _, err := deadline.From(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read lease: %w", err), f.Close())
	}
	if kill > 0 {
		l.holder.Resumed(int64(kill)-lease.KillAfter, o.Now())
	}
	l.look()
	return l, nil
}

// Close lets the file go. What is in it stands: the guard goes on.
func (l *Leases) Close() error { return l.file.Close() }

// Events gets a value when what Lease says has changed.
func (l *Leases) Events() <-chan struct{} { return l.events }

// Lease is what may be done now by an agent that has applied so many entries.
func (l *Leases) Lease(applied uint64) plan.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone {
		return plan.Lease{}
	}
	now := l.opt.Now()
	var p plan.Lease
	switch {
	case !l.holder.MayStart(now, applied):
		p.NoStart, p.Why = true, "this node has not heard of a majority for a while: what may run once may run elsewhere"
	case l.unguarded != "":
		p.NoStart, p.Why = true, "nothing would kill it here if this node was cut off: "+l.unguarded
	}
	if l.holder.Phase(now) != lease.Held {
		p.Stop = true
		if at := l.holder.KillAt(now); at > now {
			p.Grace = (at - now) / 1000
		}
	}
	return p
}

// Run renews until ctx ends.
func (l *Leases) Run(ctx context.Context) error {
	changes, cancel := l.opt.Ledger.Subscribe()
	defer cancel()
	if l.opt.Guard != nil {
		guarding := make(chan struct{})
		go func() { defer close(guarding); l.keepGuard(ctx) }()
		defer func() { <-guarding }()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	alone := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
			was := alone
			if alone = l.look(); alone == was {
				continue // who is not alone renews by the clock
			}
		case <-timer.C:
			alone = l.look()
		}
		if alone {
			timer.Stop()
			continue
		}
		l.renew(ctx)
		timer.Reset(time.Duration(lease.RenewEvery) * time.Millisecond)
	}
}

// look asks whether this node is the only one of its ring. When that ends it holds a whole lease: so far nobody else
// could have run anything.
func (l *Leases) look() (alone bool) {
	var index uint64
	l.opt.Ledger.View(func(s *cluster.State) {
		_, here := s.Nodes().Get(l.opt.Node)
		alone, index = here && s.Nodes().Len() == 1, s.Index()
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opt.Now()
	if l.alone && !alone {
		l.holder.Acknowledged(now, now, index)
	}
	if l.alone != alone {
		l.alone = alone
		l.write(now)
		select {
		case l.company <- struct{}{}:
		default:
		}
	}
	l.note(now)
	return alone
}

// renew asks once, and tells the guard of what came of it. It takes no longer than until the next one is due.
func (l *Leases) renew(ctx context.Context) {
	sent := l.opt.Now()
	bounded, cancel := context.WithTimeout(ctx, time.Duration(lease.RenewEvery)*time.Millisecond)
	defer cancel()
	index, err := l.opt.Renew(bounded)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opt.Now()
	if err == nil {
		l.holder.Acknowledged(sent, now, index)
		l.write(now)
	} else {
		l.opt.Log.DebugContext(ctx, "lease not renewed", "err", err)
	}
	l.note(now)
}

// write tells the guard; l.mu is held.
func (l *Leases) write(now int64) {
	var kill deadline.Time
	if !l.alone {
		kill = max(deadline.Time(l.holder.KillAt(now)), deadline.Past)
	}
	if err := deadline.Write(l.file, kill); err != nil {
		l.opt.Log.Error("the guard cannot be told of the lease", "err", err)
	}
}

// note says when the phase has changed; l.mu is held.
func (l *Leases) note(now int64) {
	phase := lease.Held
	if !l.alone {
		phase = l.holder.Phase(now)
	}
	if phase == l.phase {
		return
	}
	l.opt.Log.Warn("ring lease", "was", l.phase, "is", phase)
	l.phase = phase
	l.tellLocked()
}

func (l *Leases) tellLocked() {
	select {
	case l.events <- struct{}{}:
	default:
	}
}
