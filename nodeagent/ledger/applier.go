package ledger

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
)

const (
	// applyAtOnce is how many entries are stepped under one hold of the state's lock.
	applyAtOnce = 64
	// queueLimit is how many committed entries may wait to be stepped; beyond it raft waits.
	queueLimit = 8192
	// keepRejected is how many rejected entries are remembered for people.
	keepRejected = 64
)

// Rejected is an entry that changed nothing.
type Rejected struct {
	Index uint64
	From  cluster.From
	Why   string
}

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

// fsm is the side of the ledger that raft sees. It only queues: a step that takes long never holds up raft.
type fsm[S State, O any] struct{ l *Ledger[S, O] }

// ApplyBatch queues committed entries.
func (f fsm[S, O]) ApplyBatch(logs []*raft.Log) []any {
	var entries [][]byte
	for _, log := range logs {
		if log.Type == raft.LogCommand {
			entries = append(entries, log.Data)
		}
	}
	if len(entries) > 0 {
		f.l.queue.add(entries)
	}
	return make([]any, len(logs))
}

// Apply queues one committed entry.
func (f fsm[S, O]) Apply(log *raft.Log) any {
	f.ApplyBatch([]*raft.Log{log})
	return nil
}

// Snapshot copies the state as it is and what waits behind it. Holding the state's lock for reading keeps the
// applier between two entries, and raft calls no Apply meanwhile, so the two fit together.
func (f fsm[S, O]) Snapshot() (raft.FSMSnapshot, error) {
	l := f.l
	l.mu.RLock()
	defer l.mu.RUnlock()
	var state bytes.Buffer
	if err := l.state.Encode(&state); err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	hash := l.state.Hash()
	s := &snapshot{
		head:    snapshotHeader{Applied: l.applied, Time: l.time, Hash: hex.EncodeToString(hash[:])},
		state:   state.Bytes(),
		entries: l.queue.all(),
	}
	for d := range l.state.Blobs() {
		s.blobs = append(s.blobs, d)
	}
	return s, nil
}

// Restore replaces the state by a snapshot's.
func (f fsm[S, O]) Restore(r io.ReadCloser) error {
	l := f.l
	s, err := readSnapshot(r)
	if err != nil {
		return err
	}
	state, err := l.opt.Machine.Decode(bytes.NewReader(s.state))
	if err != nil {
		return fmt.Errorf("snapshot: state: %w", err)
	}
	if got := state.Hash(); hex.EncodeToString(got[:]) != s.head.Hash {
		return fmt.Errorf("snapshot: state after entry %d has hash %x, %s was written", s.head.Applied, got, s.head.Hash)
	}
	missing := 0
	for _, d := range s.blobs {
		if !l.opt.Content.Has(d) {
			missing++
		}
	}
	if missing > 0 {
		l.opt.Log.Error("content store lacks blobs that the state refers to", "missing", missing, "of", len(s.blobs))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.applied, l.time = state, s.head.Applied, s.head.Time
	l.queue.reset(s.entries)
	l.clock.advance(l.time)
	l.changed()
	return nil
}

// apply steps the queued entries one after the other until the queue is closed.
func (l *Ledger[S, O]) apply() {
	for {
		batch, resets := l.queue.head()
		if batch == nil {
			return
		}
		l.step(batch, resets)
	}
}

func (l *Ledger[S, O]) step(batch [][]byte, resets uint64) {
	l.mu.Lock()
	if l.queue.since(resets) { // a snapshot was restored meanwhile
		l.mu.Unlock()
		return
	}
	var bytes int64
	type answer struct {
		seq uint64
		res result[O]
	}
	var answers []answer
	for _, raw := range batch {
		bytes += int64(len(raw))
		h, o := l.stepOneLocked(raw)
		if h.from.Node == l.opt.Node && h.from.Boot == l.opt.Boot {
			answers = append(answers, answer{h.from.Seq, result[O]{outcome: o, index: l.applied}})
		}
	}
	l.queue.remove(len(batch))
	l.clock.advance(l.time)
	l.mu.Unlock()

	for _, a := range answers {
		l.waiters.answer(a.seq, a.res)
	}
	l.changed()
	l.compact(len(batch), bytes)
}

// stepOneLocked steps one entry; its number is one more than the last one's.
func (l *Ledger[S, O]) stepOneLocked(raw []byte) (header, O) {
	l.applied++
	h, in, err := decodeEntry(raw)
	l.time = max(l.time, h.time)
	var o O
	switch {
	case err != nil:
		o = l.opt.Machine.Refuse(err.Error())
	case l.skip[l.applied]:
		o = l.opt.Machine.Refuse("skipped by hand")
	default:
		o = l.opt.Machine.Step(l.state, cluster.Entry{Index: l.applied, Time: l.time, Input: in}, l.opt.Content)
	}
	if why := l.opt.Machine.Rejected(o); why != "" {
		l.rejected = append(l.rejected, Rejected{Index: l.applied, From: h.from, Why: why})
		if n := len(l.rejected); n > keepRejected {
			l.rejected = slices.Delete(l.rejected, 0, n-keepRejected)
		}
		l.opt.Log.Warn("entry rejected", "index", l.applied, "from", string(h.from.Node), "why", why)
	}
	return h, o
}
