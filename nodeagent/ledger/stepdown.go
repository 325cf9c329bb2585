package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// StepDown hands the leadership to another voter, before an announced stop, so that nobody waits for an election: those
// first that were heard of last. It does nothing on a node that does not lead, and nothing when there is no other voter.
// An error says that this node leads still.
func (l *Ledger[S, O]) StepDown(ctx context.Context) error {
	if !l.Leading() {
		return nil
	}
	var errs []error
	for _, id := range l.successors() {
		err := l.await(ctx, l.raft.LeadershipTransferToServer(id, raft.ServerAddress(id)))
		if !l.Leading() {
			return nil
		}
		if err == nil {
			err = errors.New("it was not elected")
		}
		errs = append(errs, fmt.Errorf("%s: %w", id, err))
	}
	if len(errs) > 0 {
		return fmt.Errorf("hand over leadership: %w", errors.Join(errs...))
	}
	return nil
}

// successors are the other voters, those first that were heard of last.
func (l *Ledger[S, O]) successors() (ids []raft.ServerID) {
	heard := map[raft.ServerID]time.Time{}
	l.followers.mu.Lock()
	for _, s := range l.servers() {
		if s.Suffrage != raft.Voter || s.ID == raft.ServerID(l.opt.Node) {
			continue
		}
		ids = append(ids, s.ID)
		if f := l.followers.byID[s.ID]; f != nil {
			heard[s.ID] = f.heard
		}
	}
	l.followers.mu.Unlock()
	slices.SortStableFunc(ids, func(a, b raft.ServerID) int { return heard[b].Compare(heard[a]) })
	return ids
}
