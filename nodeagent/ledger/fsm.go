package ledger

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

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
