package ledger

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Raft sends its followers what it has, and three things it leaves out are asked here, in its own language, an
// AppendEntries without entries:
//
//   - a heartbeat to the voters proves that this node leads (verify.go). raft.VerifyLeader will not do: it counts the
//     answers of non-voters as votes;
//   - the commit index, as soon as it moves: raft tells it with the next entry, or 50 to 100 ms later, and so long would
//     every node but the leader be behind;
//   - whether a follower has the last committed entry, so whether it may become a voter.
//
// All of it is true of the term for good, so nothing depends on when it arrives.

// position is a place in raft's log.
type position struct{ index, term uint64 }

// followers is what this node, while it leads, knows of the others.
type followers struct {
	mu     sync.Mutex // guards below
	term   uint64     // that all below is about
	last   position   // the last entry known to be committed
	byID   map[raft.ServerID]*follower
	hearts map[raft.ServerID]chan struct{} // full while a heartbeat of ours is under way
}

type follower struct {
	telling bool      // a goroutine tells it the commit index
	told    uint64    // the highest it was told
	has     uint64    // the highest committed entry that it said it has
	heard   time.Time // its last answer
}

// committed notes the last committed entry.
func (f *followers) committed(p position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.index > f.last.index {
		f.last = p
	}
}

// ofLocked is what is known of a follower in a term.
func (f *followers) ofLocked(term uint64, id raft.ServerID) *follower {
	if f.term != term || f.byID == nil {
		f.term, f.byID = term, map[raft.ServerID]*follower{}
	}
	if f.byID[id] == nil {
		f.byID[id] = &follower{}
	}
	return f.byID[id]
}

// leadingTerm is the term in which this node leads, by raft alone.
func (l *Ledger[S, O]) leadingTerm() (uint64, bool) {
	term := l.raft.CurrentTerm()
	return term, l.Leading() && l.raft.CurrentTerm() == term
}

// hasten tells all followers what is committed, each in a goroutine of its own that ends when there is nothing newer.
func (l *Ledger[S, O]) hasten() {
	term, leads := l.leadingTerm()
	if !leads {
		return
	}
	for _, s := range l.servers() {
		if s.ID == raft.ServerID(l.opt.Node) {
			continue
		}
		l.followers.mu.Lock()
		f := l.followers.ofLocked(term, s.ID)
		idle := !f.telling && l.followers.last.index > 0
		f.telling = f.telling || idle
		l.followers.mu.Unlock()
		if idle {
			l.running.Go(func() { l.tell(term, s.ID, f) })
		}
	}
}

// tell tells one follower what is committed until it knows it.
func (l *Ledger[S, O]) tell(term uint64, id raft.ServerID, f *follower) {
	for first := true; ; first = false {
		l.followers.mu.Lock()
		last := l.followers.last
		if !first && f.told >= last.index || l.followers.term != term || l.closed.Load() {
			f.telling = false
			l.followers.mu.Unlock()
			return
		}
		f.told = max(f.told, last.index)
		l.followers.mu.Unlock()

		req := l.emptyEntries(term)
		req.PrevLogEntry, req.PrevLogTerm, req.LeaderCommitIndex = last.index, last.term, last.index
		var resp raft.AppendEntriesResponse
		err := l.opt.Transport.AppendEntries(id, raft.ServerAddress(id), req, &resp)

		l.followers.mu.Lock()
		if err == nil && resp.Term == term {
			f.heard = time.Now()
			if resp.Success || resp.LastLog >= last.index { // one that compacted that entry cannot compare it
				f.has = max(f.has, last.index)
			}
		}
		if err != nil {
			f.telling = false
			l.followers.mu.Unlock()
			return
		}
		l.followers.mu.Unlock()
	}
}

// emptyEntries is a heartbeat of raft's.
func (l *Ledger[S, O]) emptyEntries(term uint64) *raft.AppendEntriesRequest {
	self := raft.ServerID(l.opt.Node)
	return &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self),
			Addr: l.opt.Transport.EncodePeer(self, raft.ServerAddress(self)),
		},
		Term: term,
	}
}

// majority asks the voters whether this node leads in term, and returns nil once most of them, itself included, took
// its heartbeat. What is still under way then is one call for each of them at most.
func (l *Ledger[S, O]) majority(ctx context.Context, term uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*l.opt.Heartbeat)
	defer cancel()
	var others []raft.ServerID
	voters, got := 0, 0
	for _, s := range l.servers() {
		switch {
		case s.Suffrage != raft.Voter:
		case s.ID == raft.ServerID(l.opt.Node):
			voters, got = voters+1, got+1
		default:
			voters, others = voters+1, append(others, s.ID)
		}
	}
	yes := make(chan bool, len(others))
	for _, id := range others {
		go func() { yes <- l.heartbeat(ctx, term, id) }() // ends with ctx or the transport's own limit
	}
	for asked := len(others); 2*got <= voters; asked-- {
		if asked == 0 {
			return fmt.Errorf("%w: %d of %d voters answered", ErrNotLeader, got, voters)
		}
		select {
		case ok := <-yes:
			if ok {
				got++
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: %d of %d voters answered: %w", ErrNotLeader, got, voters, context.Cause(ctx))
		}
	}
	return nil
}

// heartbeat says whether a voter still takes this node for the leader of term.
func (l *Ledger[S, O]) heartbeat(ctx context.Context, term uint64, id raft.ServerID) bool {
	l.followers.mu.Lock()
	if l.followers.hearts == nil {
		l.followers.hearts = map[raft.ServerID]chan struct{}{}
	}
	slot := l.followers.hearts[id]
	if slot == nil {
		slot = make(chan struct{}, 1)
		l.followers.hearts[id] = slot
	}
	l.followers.mu.Unlock()
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
	case <-ctx.Done():
		return false
	}
	var resp raft.AppendEntriesResponse
	err := l.opt.Transport.AppendEntries(id, raft.ServerAddress(id), l.emptyEntries(term), &resp)
	return err == nil && resp.Term == term
}
