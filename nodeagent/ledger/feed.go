package ledger

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// feed is what went from raft's log into the queue. After a start the entries that are known to be committed are taken
// from the log at once, before there is a leader who says so; raft hands them over again later, and they are left out.
//
// (raft's own RestoreCommittedLogs would do the same, but in 1.8 it forgets the configurations it passes: a node that
// knows all its entries to be committed would know no members.)
type feed struct {
	ready chan struct{} // closed when the log's known part was queued

	mu    sync.Mutex // guards below
	taken uint64     // the last entry of raft's log that was queued, or is in the state by a snapshot
	given uint64     // the last that raft handed over
	ahead uint64     // the last command that was queued before raft handed it over
}

// take returns what of logs is new, and notes it.
func (f *feed) take(logs []*raft.Log) []*raft.Log {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given = logs[len(logs)-1].Index
	for len(logs) > 0 && logs[0].Index <= f.taken {
		logs = logs[1:]
	}
	f.taken = max(f.taken, f.given)
	return logs
}

// restored notes that a snapshot is the state.
func (f *feed) restored(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken, f.given, f.ahead = index, index, 0
}

// deleted tells where the log begins, 0 if it is empty, and up to where raft handed over what was committed: what comes before
// the one is not behind the other.
func (l *Ledger[S, O]) deleted() (first, given uint64) {
	first, err := l.disk.FirstIndex()
	if err != nil {
		first = 1 // nothing was deleted, as far as is known
	}
	l.feed.mu.Lock()
	defer l.feed.mu.Unlock()
	return first, l.feed.given
}

// level says whether raft handed over all that was queued. Only then is a snapshot of the queue and the state one of the
// entries that raft takes it for.
func (f *feed) level() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.given < f.ahead {
		return fmt.Errorf("entries up to %d were applied, %d is known to be committed again", f.ahead, f.given)
	}
	return nil
}

// feedKnown queues what is known to be committed, and lets raft's own deliveries pass.
func (l *Ledger[S, O]) feedKnown(committed uint64) error {
	defer close(l.feed.ready)
	l.feed.mu.Lock()
	first := l.feed.taken + 1
	l.feed.mu.Unlock()
	var last raft.Log
	for index := first; index <= committed; index++ {
		var entry raft.Log
		if err := l.disk.read(index, &entry); err != nil {
			if errors.Is(err, raft.ErrLogNotFound) { // raft will say what is wrong with such a log
				return nil
			}
			return fmt.Errorf("read entry %d: %w", index, err)
		}
		if last = entry; entry.Type == raft.LogCommand {
			l.queue.add(l.numbered(entry.Data))
		}
		l.feed.mu.Lock()
		l.feed.taken = index
		if entry.Type == raft.LogCommand {
			l.feed.ahead = index
		}
		l.feed.mu.Unlock()
	}
	l.followers.committed(position{last.Index, last.Term})
	return nil
}
