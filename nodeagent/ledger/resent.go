package ledger

import (
	"context"
	"slices"

	"github.com/hashicorp/raft"
)

// A leader that did not hear an answer sends the same entries again. Meanwhile the node may have applied them, taken
// snapshots of what they made, and deleted them. raft looks into the log alone for the entry that comes before those sent:
// it would refuse them, the leader would begin further and further back, and the node would stand still, as a voter that
// acknowledges nothing, until the leader had deleted that much itself and sent a snapshot (hashicorp/raft, issue 86).
// So what was deleted is taken out of a request before raft sees it: all of it was committed, and whoever leads has the same.

// resent is a transport that hands requests of peers to raft once they are without what was deleted.
type resent struct {
	voting
	known    func() (first, given uint64)
	requests chan raft.RPC // from pass to raft
}

// Consumer is where raft takes requests from.
func (r resent) Consumer() <-chan raft.RPC { return r.requests }

// pass hands requests on, one at a time, until ctx ends.
func (r resent) pass(ctx context.Context) {
	from := r.voting.Consumer()
	for {
		select {
		case rpc := <-from:
			if a, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
				first, given := r.known()
				rpc.Command = withoutDeleted(a, first, given)
			}
			select {
			case r.requests <- rpc:
			case <-ctx.Done():
				rpc.Respond(nil, raft.ErrTransportShutdown)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// withoutDeleted is a request without the entries before first, where this node's log begins: 0 if it is empty. All up to
// given was committed and applied here, and that is at least what comes before first. A request that raft can judge stays as
// it is, as does a heartbeat.
func withoutDeleted(a *raft.AppendEntriesRequest, first, given uint64) *raft.AppendEntriesRequest {
	if first == 0 {
		first = given + 1
	}
	heartbeat := a.PrevLogEntry == 0 && len(a.Entries) == 0
	if heartbeat || a.PrevLogEntry >= first || first == 1 {
		return a
	}
	short := *a
	short.PrevLogEntry, short.PrevLogTerm = 0, 0 // there is nothing to look for
	deleted := slices.IndexFunc(a.Entries, func(l *raft.Log) bool { return l.Index >= first })
	if deleted < 0 {
		deleted = len(a.Entries)
	}
	short.Entries = a.Entries[deleted:]
	// The leader's word on what is committed holds as far as this node's entries are known to be the leader's.
	same := given
	if n := len(short.Entries); n > 0 {
		same = max(same, short.Entries[n-1].Index)
	}
	short.LeaderCommitIndex = min(a.LeaderCommitIndex, same)
	return &short
}
