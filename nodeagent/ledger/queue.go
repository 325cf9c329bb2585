package ledger

import (
	"context"
	"slices"
	"sync"
)

// queue holds the entries that are committed and not stepped yet.
type queue struct {
	mu      sync.Mutex // guards all below
	moved   sync.Cond  // broadcast whenever something below changed
	entries [][]byte
	added   uint64 // entries ever added
	removed uint64 // entries ever removed
	resets  uint64 // how often the queue was replaced by a snapshot's
	closed  bool

	// before, if it is not nil, comes before the entries: it returns why it cannot be done yet, or "".
	before func(context.Context) string
}

func newQueue() *queue {
	q := &queue{}
	q.moved.L = &q.mu
	return q
}

// add appends entries; it waits while the queue is full.
func (q *queue) add(entries [][]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.entries) >= queueLimit && !q.closed {
		q.moved.Wait()
	}
	q.entries = append(q.entries, entries...)
	q.added += uint64(len(entries))
	q.moved.Broadcast()
}

// head waits for something to do and returns the first few entries without removing them, or what comes before them,
// and the number of resets so far; neither once the queue is closed.
func (q *queue) head() (entries [][]byte, before func(context.Context) string, resets uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.entries) == 0 && q.before == nil && !q.closed {
		q.moved.Wait()
	}
	if q.closed {
		return nil, nil, 0
	}
	if q.before != nil {
		return nil, q.before, q.resets
	}
	return slices.Clone(q.entries[:min(applyAtOnce, len(q.entries))]), nil, q.resets
}

// done says that what came before the entries was done.
func (q *queue) done(resets uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.resets == resets {
		q.before = nil
		q.moved.Broadcast()
	}
}

// since says whether the queue was reset after head returned resets.
func (q *queue) since(resets uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.resets != resets
}

func (q *queue) remove(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.entries[:n])
	if q.entries = q.entries[n:]; len(q.entries) == 0 {
		q.entries = nil // let the array go
	}
	q.removed += uint64(n)
	q.moved.Broadcast()
}

// all returns what waits; false if the state does not stand before it yet.
func (q *queue) all() ([][]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.entries), q.before == nil
}

// reset replaces all that waits by what comes behind a snapshot.
func (q *queue) reset(entries [][]byte, before func(context.Context) string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries, q.before = entries, before
	q.removed = q.added
	q.added += uint64(len(entries))
	q.resets++
	q.moved.Broadcast()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.moved.Broadcast()
}

// drained waits until all that is queued now was stepped.
func (q *queue) drained(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.moved.Broadcast()
	})
	defer stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	for target := q.added; q.removed < target || q.before != nil; q.moved.Wait() {
		if q.closed {
			return ErrClosed
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// length is how many entries wait.
func (q *queue) length() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return uint64(len(q.entries))
}
