package ledger

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// compact counts what was stepped and has a snapshot taken when that is enough.
func (l *Ledger[S, O]) compact(entries int, bytes int64) {
	n, b := l.sinceEntries.Add(int64(entries)), l.sinceBytes.Add(bytes)
	if n < int64(l.opt.SnapshotEntries) && b < l.opt.SnapshotBytes {
		return
	}
	if !l.snapshotting.CompareAndSwap(false, true) {
		return
	}
	l.sinceEntries.Store(0)
	l.sinceBytes.Store(0)
	l.running.Go(func() {
		defer l.snapshotting.Store(false)
		if err := l.Snapshot(); err != nil && !l.closed.Load() {
			l.opt.Log.Warn("snapshot not taken, will retry later", "err", err)
		}
	})
}

// Snapshot writes the state to disk and lets go of the log before the snapshot that was taken before.
func (l *Ledger[S, O]) Snapshot() error {
	if err := l.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return l.writeCheckpoint()
}
