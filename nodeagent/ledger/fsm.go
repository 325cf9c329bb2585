package ledger

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// fsm is the side of the ledger that raft sees. It only queues: a step that takes long never holds up raft.
type fsm[S State, O any] struct{ l *Ledger[S, O] }

// ApplyBatch queues committed entries.
func (f fsm[S, O]) ApplyBatch(logs []*raft.Log) []any {
	l := f.l
	select {
	case <-l.feed.ready:
	case <-l.over:
		return make([]any, len(logs))
	}
	var entries [][]byte
	for _, log := range l.feed.take(logs) {
		if log.Type == raft.LogCommand {
			entries = append(entries, l.numbered(log.Data)...)
		}
	}
	last := logs[len(logs)-1]
	l.disk.page.store(last.Index)
	if len(entries) > 0 {
		l.queue.add(entries)
	}
	l.followers.committed(position{last.Index, last.Term})
	if len(l.servers()) > 1 {
		l.hasten()
	}
	return make([]any, len(logs))
}

// Apply queues one committed entry.
func (f fsm[S, O]) Apply(log *raft.Log) any {
	f.ApplyBatch([]*raft.Log{log})
	return nil
}

// numbered takes one of raft's entries apart into ours. One that is not what encodeBatch wrote is an entry that cannot be
// decoded, on every node alike. What a node says of its state is heard, and is none.
func (l *Ledger[S, O]) numbered(data []byte) [][]byte {
	raw, err := splitBatch(data)
	if err != nil {
		return [][]byte{data}
	}
	if s, ok := decodeSaid(raw[0]); ok && len(raw) == 1 {
		l.heard(s)
		return nil
	}
	return raw
}

// Snapshot copies the state as it is and what waits behind it. Holding the state's lock for reading keeps the
// applier between two entries, and raft calls no Apply meanwhile, so the two fit together.
func (f fsm[S, O]) Snapshot() (raft.FSMSnapshot, error) {
	l := f.l
	if err := l.feed.level(); err != nil {
		return nil, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	entries, ok := l.queue.all()
	if !ok {
		return nil, errors.New("a snapshot of another node is being taken over")
	}
	return &snapshot{
		head:    snapshotHeader{Applied: l.applied, Time: l.time},
		entries: entries,
		state:   l.opt.Machine.Snapshot(l.state),
	}, nil
}

// Restore replaces the state by a snapshot's: at once when the ledger is opened, and in the applier's turn, with the
// blobs it refers to, when it comes from another node.
func (f fsm[S, O]) Restore(r io.ReadCloser) error {
	l := f.l
	at, err := positionOf(r)
	if err != nil {
		return err
	}
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
	l.takeOver(&takeover[S]{front: s, state: state}, at)
	return nil
}

// positionOf is where in raft's log the snapshot stands that r reads, which raft does not say.
func positionOf(r io.Reader) (position, error) {
	if w, ok := r.(raft.ReadCloserWrapper); ok {
		if s, ok := w.WrappedReadCloser().(*snapshotReader); ok {
			return s.at, nil
		}
	}
	return position{}, fmt.Errorf("snapshot: opened as %T, expected one of this ledger's", r)
}
