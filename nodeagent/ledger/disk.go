package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
)

// ErrFull says that the disk has no room for the next part of the log. Entries are taken again once there is.
var ErrFull = errors.New("no space left for the ledger's log")

// FailedError says that the log could not be written or read. The handle is not tried again, for after a failed
// fsync nobody knows what the disk holds; the agent opens the ledger anew when it starts again.
type FailedError struct{ Cause error }

func (e *FailedError) Error() string { return "ledger's log failed: " + e.Cause.Error() }

// Unwrap gives the cause.
func (e *FailedError) Unwrap() error { return e.Cause }

// DamagedError says that the log holds bytes that were acknowledged once and are not what was written.
type DamagedError struct {
	Path  string // the file, or the directory of the log
	After uint64 // the last entry of raft's log before the damage; 0 if there is none
	Why   string
}

func (e *DamagedError) Error() string {
	if e.After == 0 {
		return fmt.Sprintf("%s is damaged: %s; restore it from a copy, or begin anew with `shoal reset`", e.Path, e.Why)
	}
	return fmt.Sprintf("%s is damaged after entry %d of the log: %s; restore it from a copy, or let `shoal recover --cut` go on without what follows", e.Path, e.After, e.Why)
}

type diskOptions struct {
	dir     string
	segment int  // bytes
	cut     bool // drop what follows damage, after saving it
	log     *slog.Logger
}

// disk is raft's log, its few stable values and its snapshots, all in one directory. It adds to raft-wal
//
//   - a checksum on every entry, in Extensions, compared on every read: raft-wal trusts the disk;
//   - beside the last entry of each batch, the commit index that was known then (commit.go);
//   - a check of the unsealed segment before it is opened (scan.go), and an index where raft-wal forgets it (seal.go);
//   - what to do when a write fails: nothing is retried on a handle that failed. A full disk is waited for, with
//     the log opened anew; anything else is the end of this log until the agent starts again;
//   - entries stay until two snapshots are past them, so that a damaged snapshot costs nothing.
//
// raft panics if it cannot read an entry or save its term. Pods must outlive a bad disk, and so must the agent that
// tends them: there, the goroutine of raft that asked is ended instead (giveUp), and the ledger shuts raft down.
type disk struct {
	opt   diskOptions
	meta  *meta
	snaps *snaps
	files *files
	page  *commitPage
	pace  pace

	mu   sync.Mutex // held by who writes; guards full
	full bool       // the log must be opened anew before the next write

	wal     atomic.Pointer[wal.WAL]
	isFull  atomic.Bool
	fault   atomic.Pointer[FailedError]
	failed  chan struct{} // closed when fault is set
	started atomic.Bool   // raft's goroutines are the callers
}

var (
	_ raft.LogStore          = (*disk)(nil)
	_ raft.StableStore       = (*disk)(nil)
	_ raft.MonotonicLogStore = (*disk)(nil)
)

func openDisk(o diskOptions) (*disk, error) {
	logDir := filepath.Join(o.dir, "log")
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return nil, err
	}
	d := &disk{opt: o, failed: make(chan struct{})}
	var err error
	if d.snaps, err = openSnaps(o); err != nil {
		return nil, err
	}
	if d.meta, err = openMeta(logDir); err != nil {
		return nil, err
	}
	d.meta.fault = d.fail
	if d.page, err = openCommitPage(o.dir); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.files = &files{dir: logDir, log: o.log, size: o.segment, fault: d.fail, sync: (*os.File).Sync}
	d.meta.sealed = d.files.sealed
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.check(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	committed, err := d.committed()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.page.store(committed) // what a cut took away is not committed any more
	d.files.fillSpare()
	return d, nil
}

// committed is the last entry known to be committed when the ledger was last open, 0 if none is known.
func (d *disk) committed() (uint64, error) {
	last, err := d.LastIndex()
	if err != nil || last == 0 {
		return 0, err
	}
	var l raft.Log
	if err := d.wal.Load().GetLog(last, &l); err != nil {
		return 0, err
	}
	known := d.page.load()
	if len(l.Extensions) == 12 {
		known = max(known, binary.LittleEndian.Uint64(l.Extensions[4:]))
	}
	return min(known, last), nil
}

// open repairs the end of the log, as far as a crash explains its state, and opens it.
func (d *disk) open() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &DamagedError{Path: d.files.dir, Why: fmt.Sprint(r)}
		}
	}()
	if err := d.repairTail(); err != nil {
		return err
	}
	w, err := wal.Open(d.files.dir,
		wal.WithMetaStore(d.meta),
		wal.WithSegmentFiler(segment.NewFiler(d.files.dir, d.files)),
		wal.WithSegmentSize(d.opt.segment),
		wal.WithLogger(library{log: d.opt.log, name: "log"}))
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	d.wal.Store(w)
	return nil
}

// usable is nil while the log takes entries.
func (d *disk) usable() error {
	if f := d.fault.Load(); f != nil {
		return f
	}
	if d.isFull.Load() {
		return ErrFull
	}
	return nil
}

// fail ends the use of this log.
func (d *disk) fail(err error) {
	if d.fault.CompareAndSwap(nil, &FailedError{err}) {
		close(d.failed)
	}
}

// giveUp is for errors that raft answers with a panic: it ends the goroutine of raft's that is calling.
func (d *disk) giveUp(err error) error {
	d.fail(err)
	if d.started.Load() {
		runtime.Goexit()
	}
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers all of an entry that raft relies on, and what follows it in Extensions.
func checksum(l *raft.Log, rest []byte) []byte {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[0:], l.Index)
	binary.LittleEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
	sum = crc32.Update(sum, castagnoli, rest)
	return binary.LittleEndian.AppendUint32(nil, sum)
}

// StoreLogs appends entries durably.
func (d *disk) StoreLogs(logs []*raft.Log) error {
	stamped := make([]*raft.Log, len(logs))
	for i, l := range logs {
		copied := *l
		var rest []byte
		if i == len(logs)-1 {
			rest = binary.LittleEndian.AppendUint64(nil, d.page.load())
		}
		copied.Extensions = append(checksum(l, rest), rest...)
		stamped[i] = &copied
	}
	defer d.pace.begin()()
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.fault.Load(); f != nil {
		return f
	}
	if d.full {
		if err := d.reopen(); err != nil {
			return err
		}
	}
	err := d.bridge(logs[0].Index)
	if err == nil {
		err = d.wal.Load().StoreLogs(stamped)
	}
	if err == nil {
		return nil
	}
	if f := d.fault.Load(); f != nil {
		return f
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) && !errors.Is(err, wal.ErrSealed) {
		d.fail(err)
		return d.fault.Load()
	}
	d.opt.log.Error("no space for the ledger's log, entries wait", "err", err)
	d.full = true
	d.isFull.Store(true)
	return ErrFull
}

// reopen opens the log anew after a full disk, if there is room for another segment now. raft-wal cannot go on
// after a write that failed: it remembers entries that are not in the file.
func (d *disk) reopen() error {
	if !d.files.hasRoom() {
		return ErrFull
	}
	if err := d.wal.Load().Close(); err != nil {
		d.fail(err)
		return d.fault.Load()
	}
	if err := d.open(); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return ErrFull
		}
		d.fail(err)
		return d.fault.Load()
	}
	d.full = false
	d.isFull.Store(false)
	d.opt.log.Info("there is space for the ledger's log again")
	return nil
}

// StoreLog appends one entry durably.
func (d *disk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

// GetLog reads one entry.
func (d *disk) GetLog(index uint64, l *raft.Log) error {
	err := d.read(index, l)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	return d.giveUp(err)
}

func (d *disk) read(index uint64, l *raft.Log) error {
	if err := d.wal.Load().GetLog(index, l); err != nil {
		return err
	}
	sum, rest := l.Extensions[:min(4, len(l.Extensions))], l.Extensions[min(4, len(l.Extensions)):]
	if string(sum) != string(checksum(l, rest)) || l.Index != index {
		return fmt.Errorf("entry %d: checksum differs", index)
	}
	l.Extensions = nil
	return nil
}

// FirstIndex is the first entry in the log, 0 if it is empty.
func (d *disk) FirstIndex() (uint64, error) { return d.wal.Load().FirstIndex() }

// LastIndex is the last entry in the log, 0 if it is empty.
func (d *disk) LastIndex() (uint64, error) { return d.wal.Load().LastIndex() }

// IsMonotonic says that the log may not have gaps.
func (d *disk) IsMonotonic() bool { return true }

// DeleteRange removes entries from either end. Those at the head, which a snapshot covers, stay until two snapshots do.
func (d *disk) DeleteRange(first, last uint64) error {
	if last <= d.snaps.newest() {
		last = min(last, d.snaps.oldest())
	}
	if last < first {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wal.Load().DeleteRange(first, last)
}

// bridge drops what DeleteRange kept for an older snapshot when raft goes on behind a snapshot that came from a
// peer: the log may have no gaps.
func (d *disk) bridge(next uint64) error {
	w := d.wal.Load()
	last, err := w.LastIndex()
	if err != nil || last == 0 || next <= last+1 || next > d.snaps.newest()+1 {
		return err
	}
	first, err := w.FirstIndex()
	if err != nil {
		return err
	}
	return w.DeleteRange(first, last)
}

// check reads every entry once. A damaged one that a good snapshot is past is dropped with all before it; after
// one that is needed, the log is of no use.
func (d *disk) check() error {
	first, err := d.FirstIndex()
	if err != nil {
		return err
	}
	last, err := d.LastIndex()
	if err != nil {
		return err
	}
	needed := d.snaps.newest() + 1
	if first > needed && last > 0 {
		return &DamagedError{Path: d.files.dir, After: needed - 1, Why: fmt.Sprintf("the log begins at entry %d, the snapshot ends at %d", first, needed-1)}
	}
	if last == 0 && needed == 1 && d.opt.cut && len(d.meta.rec.Stable) > 0 {
		return &DamagedError{Path: d.files.dir, Why: "no entry stands before the damage: there is nothing to go on from"}
	}
	var l raft.Log
	for index := max(first, 1); index <= last && last > 0; index++ {
		err := d.read(index, &l)
		if err == nil {
			continue
		}
		kept, qerr := d.files.keepAside(d.opt.dir)
		if qerr != nil {
			return errors.Join(err, qerr)
		}
		switch {
		case index < needed:
			d.opt.log.Error("log is damaged before the snapshot, which makes up for it", "entry", index, "kept", kept, "err", err)
			if err := d.wal.Load().DeleteRange(first, index); err != nil {
				return err
			}
			first = index + 1
		case d.opt.cut:
			if index == 1 {
				return &DamagedError{Path: d.files.dir, Why: "no entry stands before the damage: there is nothing to go on from"}
			}
			d.opt.log.Error("log is cut before a damaged entry", "entry", index, "lost", last-index+1, "kept", kept, "err", err)
			return d.wal.Load().DeleteRange(index, last)
		default:
			return &DamagedError{Path: d.files.dir, After: index - 1, Why: err.Error()}
		}
	}
	return nil
}

// Set, Get, SetUint64 and GetUint64 keep raft's term and vote.
func (d *disk) Set(key, val []byte) error { return d.meta.SetStable(key, val) }

// Get returns a stable value, empty if there is none.
func (d *disk) Get(key []byte) ([]byte, error) { return d.meta.GetStable(key) }

// SetUint64 keeps a number durably.
func (d *disk) SetUint64(key []byte, val uint64) error {
	if err := d.meta.SetStable(key, binary.LittleEndian.AppendUint64(nil, val)); err != nil {
		return d.giveUp(err)
	}
	return nil
}

// GetUint64 returns a number, 0 if there is none.
func (d *disk) GetUint64(key []byte) (uint64, error) {
	b, err := d.meta.GetStable(key)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("stable value %q has %d bytes, expected 8", key, len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Close closes the files. raft must be shut down.
func (d *disk) Close() error {
	var err error
	if w := d.wal.Load(); w != nil {
		err = w.Close()
	}
	if d.page != nil {
		err = errors.Join(err, d.page.close())
	}
	return errors.Join(err, d.meta.shut())
}
