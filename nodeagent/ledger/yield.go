package ledger

import (
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// leaving are the nodes that are about to leave the ring, and until when that is believed.
type leaving struct {
	mu    sync.Mutex
	until map[place.NodeID]time.Time
}

// Yield tells the leader that a node is about to leave the ring. For so long it is not to vote: its seat goes to another,
// and the leadership too if it is the leader. It stays a member, which a node that has left is not: so it is there while
// its successor takes over. On a node that does not lead Yield has no effect; whoever wants a seat given up says it again and
// again, to whoever leads.
func (l *Ledger[S, O]) Yield(node place.NodeID, lasts time.Duration) {
	l.leaving.mu.Lock()
	if l.leaving.until == nil {
		l.leaving.until = map[place.NodeID]time.Time{}
	}
	l.leaving.until[node] = time.Now().Add(lasts)
	l.leaving.mu.Unlock()
	l.changed()
}

// yields tells whether a node is about to leave.
func (l *Ledger[S, O]) yields(node place.NodeID, now time.Time) bool {
	l.leaving.mu.Lock()
	defer l.leaving.mu.Unlock()
	until, said := l.leaving.until[node]
	if said && now.After(until) {
		delete(l.leaving.until, node)
		return false
	}
	return said
}
