package ledger

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A leader writes an entry to its own disk before it sends it on, so its disk is in the way of every commit, while that of
// a follower is in nobody's. raft does not look: its heartbeats go on while a write hangs, and nobody else may lead.
//
//   - A leader whose write hangs for longer than stuckAfter is silent until it is over (patient). The others elect one of
//     themselves after a heartbeat time-out; what it had begun to write is not acknowledged, and is sent again.
//   - One of whose last paceOf writes most took longer than slowWrite hands over, as a leader does whose clock is wrong. It
//     may be elected again, as the others' disks may be no better: it keeps its seat for slowPause then.
const (
	stuckAfter = time.Second
	slowWrite  = 200 * time.Millisecond
	slowPause  = 5 * time.Minute
	paceOf     = 5
	paceFresh  = time.Minute // an older write says nothing of the disk as it is now
)

// pace is how long the disk takes for the log.
type pace struct {
	mu    sync.Mutex // guards all below
	begun time.Time  // of the write that is under way; zero: none is
	last  [paceOf]took
	next  int
}

// took is a write that is over.
type took struct {
	at   time.Time
	long time.Duration
}

// begin notes that a write begins, and returns what is to be called at its end.
func (p *pace) begin() (end func()) {
	now := time.Now()
	p.mu.Lock()
	p.begun = now
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.last[p.next] = took{time.Now(), time.Since(now)}
		p.next = (p.next + 1) % paceOf
		p.begun = time.Time{}
	}
}

// stuck tells whether a write hangs.
func (p *pace) stuck() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.begun.IsZero() && time.Since(p.begun) > stuckAfter
}

// slow is how long the write in the middle of the last few took, if that is too long.
func (p *pace) slow() (long time.Duration, slow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []time.Duration
	for _, t := range p.last {
		if time.Since(t.at) < paceFresh {
			all = append(all, t.long)
		}
	}
	if len(all) < paceOf {
		return 0, false
	}
	slices.Sort(all)
	return all[paceOf/2], all[paceOf/2] > slowWrite
}

var errStuck = errors.New("this node's disk hangs: it does not speak as the leader")

// voting is what raft asks of a transport, the parts that it asks for by their presence among them.
type voting interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// patient is a transport over which a node whose disk hangs sends nothing as the leader.
type patient struct {
	voting
	stuck func() bool
}

// AppendEntries sends entries, or a heartbeat.
func (t patient) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.stuck() {
		return errStuck
	}
	return t.voting.AppendEntries(id, target, args, resp)
}

// AppendEntriesPipeline opens a way for entries one after the other.
func (t patient) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.voting.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return patientPipeline{p, t.stuck}, nil
}

type patientPipeline struct {
	raft.AppendPipeline
	stuck func() bool
}

// AppendEntries sends entries.
func (p patientPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.stuck() {
		return nil, errStuck
	}
	return p.AppendPipeline.AppendEntries(args, resp)
}
