package ledger

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

const (
	keepSnapshots = 2
	// leastReserve is the room kept for the next snapshot, in bytes; twice the last one if that is more.
	leastReserve = 4 << 20
)

// snaps are the newest two snapshots, in directories of raft's own making. Room for the next is set aside in the
// file "reserve", which is given up while one is written: a snapshot is what frees the log's space on a full disk.
type snaps struct {
	*raft.FileSnapshotStore
	dir string
	log *slog.Logger

	mu     sync.Mutex // guards below
	listed []*raft.SnapshotMeta
}

// openSnaps opens the snapshots under o.dir, removes half-written ones and quarantines those that are damaged.
func openSnaps(o diskOptions) (*snaps, error) {
	store, err := raft.NewFileSnapshotStoreWithLogger(o.dir, keepSnapshots, library{log: o.log, name: "snapshot"})
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	s := &snaps{FileSnapshotStore: store, dir: o.dir, log: o.log}
	if err := s.sift(); err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	if err := s.list(); err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	s.reserve()
	return s, nil
}

func (s *snaps) sift() error {
	base := filepath.Join(s.dir, "snapshots")
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(base, e.Name())
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		cause := s.try(e.Name())
		if cause == nil {
			continue
		}
		to, err := makeQuarantine(s.dir, "snapshot")
		if err != nil {
			return err
		}
		if err := os.Rename(path, filepath.Join(to, e.Name())); err != nil {
			return err
		}
		s.log.Error("snapshot is damaged, quarantined", "file", filepath.Join(to, e.Name()), "err", cause)
	}
	return nil
}

// try reads a snapshot as far as it can be checked without the state machine.
func (s *snaps) try(id string) error {
	_, r, err := s.Open(id)
	if err != nil {
		return err
	}
	defer r.Close()
	_, _, err = readFront(r)
	return err
}

func (s *snaps) list() error {
	metas, err := s.List()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = metas
	return nil
}

// first is the newest snapshot, nil if there is none.
func (s *snaps) first() *raft.SnapshotMeta {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listed) == 0 {
		return nil
	}
	return s.listed[0]
}

// newest is the last entry of raft's log that the newest snapshot covers; 0 if there is none.
func (s *snaps) newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listed) == 0 {
		return 0
	}
	return s.listed[0].Index
}

// oldest is the last entry that every one of keepSnapshots snapshots covers; 0 while there are fewer.
func (s *snaps) oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listed) < keepSnapshots {
		return 0
	}
	return s.listed[len(s.listed)-1].Index
}

// reserve sets room for the next snapshot aside, as far as there is any.
func (s *snaps) reserve() {
	size := int64(leastReserve)
	s.mu.Lock()
	if len(s.listed) > 0 {
		size = max(size, 2*s.listed[0].Size)
	}
	s.mu.Unlock()
	f, err := allocate(filepath.Join(s.dir, "reserve"), size, 0)
	if err != nil {
		s.log.Warn("no space to set aside for the next snapshot", "bytes", size, "err", err)
		return
	}
	if err := f.Close(); err != nil {
		s.log.Warn("reserve of snapshots", "err", err)
	}
}

// snapshotReader reads a snapshot and knows where it stands in raft's log.
type snapshotReader struct {
	io.ReadCloser
	at position
}

// Open opens a snapshot for reading.
func (s *snaps) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, r, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return m, &snapshotReader{r, position{m.Index, m.Term}}, nil
}

// Create begins a snapshot.
func (s *snaps) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	if err := os.Remove(filepath.Join(s.dir, "reserve")); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	sink, err := s.FileSnapshotStore.Create(v, index, term, c, cIndex, t)
	if err != nil {
		s.reserve()
		return nil, err
	}
	return &sinkWithReserve{SnapshotSink: sink, of: s}, nil
}

// sinkWithReserve sets the reserve aside again at its end.
type sinkWithReserve struct {
	raft.SnapshotSink
	of    *snaps
	ended bool
}

// Close makes the snapshot count. A second call does nothing, as raft needs it.
func (k *sinkWithReserve) Close() error {
	if k.ended {
		return nil
	}
	k.ended = true
	defer k.of.reserve()
	if err := k.SnapshotSink.Close(); err != nil {
		return err
	}
	return k.of.list()
}

// Cancel drops the snapshot.
func (k *sinkWithReserve) Cancel() error {
	k.ended = true
	defer k.of.reserve()
	return k.SnapshotSink.Cancel()
}
