package ledger

import (
	"context"
	"fmt"
	"sync"
)

// rounds lets all who ask at the same time share one question to the voters. Who comes while one is under way waits for
// the next: an answer must be younger than the question.
type rounds struct {
	mu      sync.Mutex // guards below
	running bool
	next    *round // of those who came since the running one began; nil if nobody did
}

// round is one question and its answer.
type round struct {
	done  chan struct{} // closed when the rest is set
	term  uint64
	index uint64
	err   error
}

// Verify proves by a round to a majority of the voters, which begins after the call, that this node leads. It returns
// the term, and the number of the last entry that was committed: whatever was acknowledged before the call, by this or
// an earlier leader, has no higher one. ErrNotLeader says that it could not be proved.
func (l *Ledger[S, O]) Verify(ctx context.Context) (term, index uint64, err error) {
	r := l.rounds.join(l.verify)
	select {
	case <-r.done:
		return r.term, r.index, r.err
	case <-ctx.Done():
		return 0, 0, fmt.Errorf("verify leader: %w", context.Cause(ctx))
	case <-l.over:
		return 0, 0, fmt.Errorf("verify leader: %w", l.usable())
	}
}

// join returns the round that the caller waits for, and begins it if none is under way.
func (q *rounds) join(ask func() (term, index uint64, err error)) *round {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = &round{done: make(chan struct{})}
	}
	r := q.next
	if !q.running {
		q.running, q.next = true, nil
		go q.run(r, ask) // ends when nobody waits for another round
	}
	return r
}

func (q *rounds) run(r *round, ask func() (term, index uint64, err error)) {
	for r != nil {
		r.term, r.index, r.err = ask()
		close(r.done)
		q.mu.Lock()
		r, q.next = q.next, nil
		q.running = r != nil
		q.mu.Unlock()
	}
}

// verify is one round.
func (l *Ledger[S, O]) verify() (term, index uint64, err error) {
	before, leads := l.Leadership()
	if !leads {
		return 0, 0, fmt.Errorf("verify leader: %w", ErrNotLeader)
	}
	if err := l.majority(context.Background(), before.Term); err != nil {
		return 0, 0, fmt.Errorf("verify leader: %w", err)
	}
	if now, leads := l.Leadership(); !leads || now.Term != before.Term {
		return 0, 0, fmt.Errorf("verify leader: %w", ErrNotLeader)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return before.Term, l.applied + l.queue.length(), nil
}
