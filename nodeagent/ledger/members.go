package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

// reconfigurePatience bounds how long a change of members waits for the one before it to be committed.
const reconfigurePatience = 5 * time.Second

// Member is a node that gets the log. Raft knows it by its identity alone, as a name and as an address: where it can be
// reached is looked up by the transport when it dials.
type Member struct {
	ID     place.NodeID
	Voter  bool
	Leader bool
}

// Members returns the nodes that get the log, by raft's latest configuration that this node knows, in order of their
// identities. It is empty on a node that waits to be joined.
func (l *Ledger[S, O]) Members() []Member {
	leader, _ := l.Leader()
	var all []Member
	for _, s := range l.servers() {
		id := place.NodeID(s.ID)
		all = append(all, Member{ID: id, Voter: s.Suffrage == raft.Voter, Leader: id == leader})
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// AddMember has the log sent to another node, as a non-voter; whether it votes is decided by the ledger. Only the leader
// can (ErrNotLeader). It does nothing if the node is a member already. The node opens its ledger on an empty directory
// without Genesis.
func (l *Ledger[S, O]) AddMember(ctx context.Context, node place.NodeID) error {
	if l.member(node) {
		return nil
	}
	err := l.reconfigure(ctx, l.raft.AddNonvoter(raft.ServerID(node), raft.ServerAddress(node), 0, reconfigurePatience))
	if err != nil {
		return fmt.Errorf("add member %s: %w", node, err)
	}
	return nil
}

// RemoveMember has the log sent to a node no more. Only the leader can (ErrNotLeader). A node that Options.Wanted names
// is added again.
func (l *Ledger[S, O]) RemoveMember(ctx context.Context, node place.NodeID) error {
	if err := l.reconfigure(ctx, l.raft.RemoveServer(raft.ServerID(node), 0, reconfigurePatience)); err != nil {
		return fmt.Errorf("remove member %s: %w", node, err)
	}
	return nil
}

// reconfigure waits for a change of raft's configuration. One is made at a time; the next waits for it.
func (l *Ledger[S, O]) reconfigure(ctx context.Context, f raft.Future) error {
	err := l.await(ctx, f)
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if err == nil {
		l.changed() // for who gives out the seats, too: no entry of ours comes with it
	}
	return err
}

// servers is raft's latest configuration.
func (l *Ledger[S, O]) servers() []raft.Server {
	f := l.raft.GetConfiguration() // never waits
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

func (l *Ledger[S, O]) member(node place.NodeID) bool {
	return slices.ContainsFunc(l.servers(), func(s raft.Server) bool { return s.ID == raft.ServerID(node) })
}
