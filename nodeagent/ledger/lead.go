package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// watch tells the others of changes of leadership, which raft reports one by one, and shuts raft down once the
// disk failed: a node that cannot write its log must neither lead nor vote.
func (l *Ledger[S, O]) watch(ctx context.Context, notify <-chan bool) {
	failed := l.disk.failed
	for {
		select {
		case <-ctx.Done():
			return
		case <-notify:
		case <-failed:
			failed = nil
			l.end()
			l.opt.Log.Error("ledger stopped: its log cannot be written", "err", l.disk.usable())
			l.raft.Shutdown()
		}
		l.changed()
	}
}

// Leading says whether this node is the leader.
func (l *Ledger[S, O]) Leading() bool { return l.raft.State() == raft.Leader }

// awaitLeader waits until this node leads.
func (l *Ledger[S, O]) awaitLeader(ctx context.Context) error {
	changes, cancel := l.Subscribe()
	defer cancel()
	for !l.Leading() {
		if err := l.usable(); err != nil {
			return err
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("no leader: %w", context.Cause(ctx))
		}
	}
	return nil
}

// settleAlone brings a sole voter to the end of its log, and begins the ledger if it is empty. Among several
// voters it does nothing: nobody waits for a majority here.
func (l *Ledger[S, O]) settleAlone(ctx context.Context) error {
	if !l.alone() {
		return nil
	}
	rc := l.raft.ReloadableConfig()
	rc.HeartbeatTimeout -= time.Millisecond
	if err := l.raft.ReloadConfig(rc); err != nil { // a lowered timeout makes raft look at once whether there is a leader
		return fmt.Errorf("hasten election: %w", err)
	}
	for {
		if err := l.awaitLeader(ctx); err != nil {
			return err
		}
		if err := l.barrier(ctx); err == nil {
			break
		} else if ctx.Err() != nil {
			return fmt.Errorf("replay: %w", err)
		}
		if err := l.usable(); err != nil {
			return fmt.Errorf("replay: %w", err)
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
	f := l.raft.GetConfiguration()
	if f.Error() != nil {
		return false
	}
	voters, me := 0, false
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			me = me || s.ID == raft.ServerID(l.opt.Node)
		}
	}
	return voters == 1 && me
}
