package ledger

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

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
	return &snapshot{
		head:    snapshotHeader{Applied: l.applied, Time: l.time},
		entries: l.queue.all(),
		state:   l.opt.Machine.Snapshot(l.state),
	}, nil
}

// Restore replaces the state by a snapshot's.
func (f fsm[S, O]) Restore(r io.ReadCloser) error {
	l := f.l
	s, rest, err := readFront(r)
	if err != nil {
		return err
	}
	state, err := l.opt.Machine.Decode(rest)
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

// stallPause is how long the applier waits before it tries a stalled entry again.
const stallPause = time.Second

// apply steps the queued entries one after the other until the queue is closed.
func (l *Ledger[S, O]) apply(ctx context.Context) {
	for {
		batch, resets := l.queue.head()
		if batch == nil {
			return
		}
		if !l.step(batch, resets) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(stallPause):
			}
		}
	}
}

// step steps a batch; false if an entry in it stalled.
func (l *Ledger[S, O]) step(batch [][]byte, resets uint64) bool {
	type answer struct {
		seq     uint64
		outcome O
	}
	var answers []answer
	var bytes int64
	done := 0
	l.mu.Lock()
	if l.queue.since(resets) { // a snapshot was restored meanwhile
		l.mu.Unlock()
		return true
	}
	before := l.stalled
	l.stalled = ""
	for _, raw := range batch {
		h, o := l.stepOneLocked(raw)
		if l.stalled != "" {
			break
		}
		done++
		bytes += int64(len(raw))
		if h.from.Node == l.opt.Node && h.from.Boot == l.opt.Boot {
			answers = append(answers, answer{h.from.Seq, o})
		}
	}
	l.queue.remove(done)
	l.clock.advance(l.time)
	why, at := l.stalled, l.applied+1
	l.mu.Unlock()

	switch {
	case why != "" && why != before:
		l.opt.Log.Error("entry cannot be stepped here, will retry", "index", at, "why", why)
	case why == "" && before != "":
		l.opt.Log.Info("entry that could not be stepped was")
	}
	for _, a := range answers {
		l.waiters.answer(a.seq, a.outcome)
	}
	if done > 0 || why != before {
		l.changed()
	}
	l.compact(done, bytes)
	return why == ""
}

// stepOneLocked steps one entry; its number is one more than the last one's. If it stalls, all is as it was but
// l.stalled.
func (l *Ledger[S, O]) stepOneLocked(raw []byte) (header, O) {
	m := l.opt.Machine
	index := l.applied + 1
	h, in, err := decodeEntry(raw)
	at := max(l.time, h.time)
	var o O
	switch {
	case err != nil:
		o = m.Refuse(err.Error())
	case l.skip[index]:
		o = m.Refuse("skipped by hand")
	default:
		l.mark.begin(index)
		o = m.Step(l.state, cluster.Entry{Index: index, Time: at, Input: in}, l.opt.Content)
		l.mark.end()
	}
	if l.stalled = m.Stalled(o); l.stalled != "" {
		return h, o
	}
	l.applied, l.time = index, at
	if index == l.check.Entry {
		l.compareLocked()
	}
	if why := m.Rejected(o); why != "" {
		l.rejected = append(l.rejected, Rejected{Index: index, From: h.from, Why: why})
		if n := len(l.rejected); n > keepRejected {
			l.rejected = slices.Delete(l.rejected, 0, n-keepRejected)
		}
		l.opt.Log.Warn("entry rejected", "index", index, "from", string(h.from.Node), "why", why)
	}
	return h, o
}
