package ledger

import (
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

// head waits for entries and returns the first few without removing them, and the number of resets so far; none
// once the queue is closed.
func (q *queue) head() ([][]byte, uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.entries) == 0 && !q.closed {
		q.moved.Wait()
	}
	if q.closed {
		return nil, 0
	}
	return slices.Clone(q.entries[:min(applyAtOnce, len(q.entries))]), q.resets
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

func (q *queue) all() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.entries)
}

func (q *queue) reset(entries [][]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries = entries
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
