package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
)

// Leadership is a term in which this node leads.
type Leadership struct {
	Term  uint64
	Since time.Time // by this node's clock: when all that earlier leaders committed was applied here
}

// Leadership returns the term in which this node leads now. A leader counts from the moment at which it has applied all
// that was committed before it. Subscribe tells of changes.
func (l *Ledger[S, O]) Leadership() (Leadership, bool) {
	if p := l.leadership.Load(); p != nil && l.Leading() && l.Term() == p.Term {
		return *p, true
	}
	return Leadership{}, false
}

// Leading says whether this node is the leader, by raft alone: it may not have applied everything yet, and another one
// may have been elected a moment ago (Verify). A node that has halted does not lead, before raft has ended as well.
func (l *Ledger[S, O]) Leading() bool { return !l.isHalted() && l.raft.State() == raft.Leader }

// Leader returns the node that leads, as far as this node knows.
func (l *Ledger[S, O]) Leader() (node place.NodeID, known bool) {
	_, id := l.raft.LeaderWithID()
	return place.NodeID(id), id != ""
}

// Term is raft's current term on this node.
func (l *Ledger[S, O]) Term() uint64 { return l.raft.CurrentTerm() }

// watch tells the others of changes of leadership, and shuts raft down once the disk failed or the state differs from
// the others': such a node must neither lead nor vote.
func (l *Ledger[S, O]) watch(ctx context.Context, notify <-chan bool) {
	leaders := make(chan raft.Observation, 1)
	observer := raft.NewObserver(leaders, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	l.raft.RegisterObserver(observer)
	defer l.raft.DeregisterObserver(observer)
	failed, halted, dropped := l.disk.failed, l.halted, func() {}
	stop := func() {
		dropped()
		l.leadership.Store(nil)
		l.end()
		l.shutRaft()
	}
	for {
		select {
		case <-ctx.Done():
			dropped()
			return
		case leads := <-notify: // raft waits for this
			dropped()
			l.leadership.Store(nil)
			if leads {
				var term context.Context
				term, dropped = context.WithCancel(ctx)
				l.running.Go(func() { l.takeUp(term) })
			}
		case <-leaders:
		case <-failed:
			failed = nil
			l.opt.Log.Error("ledger stopped: its log cannot be written", "err", l.disk.usable())
			stop()
		case <-halted:
			halted = nil
			l.queue.close()
			stop()
		}
		l.changed()
	}
}

// takeUp makes this node the leader of its term, once it has applied all that was committed before.
func (l *Ledger[S, O]) takeUp(ctx context.Context) {
	term := l.raft.CurrentTerm()
	if err := l.barrier(ctx); err != nil {
		if ctx.Err() == nil {
			l.opt.Log.Warn("leader did not come to the end of the log", "err", err)
			l.changed()
		}
		return
	}
	if ctx.Err() == nil && l.Leading() && l.raft.CurrentTerm() == term {
		mine := &Leadership{Term: term, Since: time.Now()}
		l.leadership.Store(mine)
		if ctx.Err() != nil { // lost meanwhile: it is not to be left behind
			l.leadership.CompareAndSwap(mine, nil)
		}
		l.changed()
	}
}

// barrier waits until all that was committed before it was called is applied here.
func (l *Ledger[S, O]) barrier(ctx context.Context) error {
	if err := l.await(ctx, l.raft.Barrier(0)); err != nil {
		return err
	}
	return l.queue.drained(ctx)
}

// settleAlone brings a sole voter to the end of its log, and begins the ledger if it is empty. Among several
// voters it does nothing: nobody waits for a majority here.
func (l *Ledger[S, O]) settleAlone(ctx context.Context) error {
	if !l.alone() {
		return nil
	}
	changes, cancel := l.Subscribe()
	defer cancel()
	rc := l.raft.ReloadableConfig()
	rc.HeartbeatTimeout -= time.Millisecond
	if err := l.raft.ReloadConfig(rc); err != nil { // a lowered timeout makes raft look at once whether there is a leader
		return fmt.Errorf("hasten election: %w", err)
	}
	for {
		if _, leads := l.Leadership(); leads {
			break
		}
		if err := l.usable(); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("replay: no leader: %w", context.Cause(ctx))
		}
	}
	if l.Applied() == 0 && l.opt.Genesis != nil {
		o, err := l.Append(ctx, cluster.Input{Genesis: l.opt.Genesis})
		if err != nil {
			return fmt.Errorf("genesis: %w", err)
		}
		if why := l.opt.Machine.Rejected(o); why != "" {
			return fmt.Errorf("genesis: %s", why)
		}
	}
	return nil
}

// alone says whether this node is the only voter.
func (l *Ledger[S, O]) alone() bool {
	voters, me := 0, false
	for _, s := range l.servers() {
		if s.Suffrage == raft.Voter {
			voters++
			me = me || s.ID == raft.ServerID(l.opt.Node)
		}
	}
	return voters == 1 && me
}
