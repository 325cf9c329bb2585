package ledger

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft-wal/types"
)

const (
	metaMagic = "shoalmt1"
	metaSlot  = 64 << 10 // bytes of one copy
	metaHead  = 8 + 8 + 4 + 4
)

// meta keeps what the log must know beside its segments: their list, and raft's term and vote. It is one file of
// four slots that is written in place and never grows, so that a full disk cannot stop an election. Two slots, with
// the same record twice, are written at a time, by turns: a write that a crash tore leaves the turn before, and a
// flipped bit leaves the other copy. A record is
//
//	magic    8 bytes "shoalmt1"
//	turn     8 bytes, little-endian, one more each time
//	length   4 bytes
//	crc32c   4 bytes, of turn, length and payload
//	payload  JSON of metaRecord
type meta struct {
	fault  func(error) // told of a write that failed; nil while the file is made
	sealed func(types.PersistentState) (types.PersistentState, error)

	mu   sync.Mutex // guards all below
	f    *os.File
	turn uint64
	rec  metaRecord
}

type metaRecord struct {
	Segments types.PersistentState `json:"segments"`
	Stable   map[string][]byte     `json:"stable"`
}

var _ types.MetaStore = (*meta)(nil)

// openMeta opens the file in dir, or makes it if the directory holds no segment either.
func openMeta(dir string) (*meta, error) {
	path := filepath.Join(dir, "meta")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeMeta(dir, path); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	m := &meta{f: f}
	if err := m.read(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

func makeMeta(dir, path string) error {
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		return err
	}
	if len(segments) > 0 {
		return &DamagedError{Path: dir, Why: "it holds segments, but the file meta, which lists them, is gone"}
	}
	f, err := os.OpenFile(path+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4*metaSlot)) // not a hole: the blocks must be there when the disk is full
	m := &meta{f: f}
	if err == nil {
		err = m.writeLocked(metaRecord{})
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// read takes the whole copy with the highest turn.
func (m *meta) read() error {
	found := false
	for slot := range int64(4) {
		buf := make([]byte, metaSlot)
		if _, err := m.f.ReadAt(buf, slot*metaSlot); err != nil {
			continue // a file cut short: the other copies may be whole
		}
		turn, rec, ok := decodeMeta(buf)
		if ok && (!found || turn > m.turn) {
			m.turn, m.rec, found = turn, rec, true
		}
	}
	if !found {
		return &DamagedError{Path: m.f.Name(), Why: "none of its four copies is whole"}
	}
	return nil
}

func decodeMeta(buf []byte) (uint64, metaRecord, bool) {
	if len(buf) < metaHead || string(buf[:8]) != metaMagic {
		return 0, metaRecord{}, false
	}
	turn := binary.LittleEndian.Uint64(buf[8:])
	size := binary.LittleEndian.Uint32(buf[16:])
	if uint64(size) > uint64(len(buf)-metaHead) {
		return 0, metaRecord{}, false
	}
	payload := buf[metaHead : metaHead+int(size)]
	if metaSum(buf[8:20], payload) != binary.LittleEndian.Uint32(buf[20:]) {
		return 0, metaRecord{}, false
	}
	var rec metaRecord
	if json.Unmarshal(payload, &rec) != nil {
		return 0, metaRecord{}, false
	}
	return turn, rec, true
}

func metaSum(head, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
}

func encodeMeta(turn uint64, rec metaRecord) ([]byte, error) {
	payload, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	if len(payload) > metaSlot-metaHead {
		return nil, fmt.Errorf("list of %d segments takes %d bytes, more than the file has room for", len(rec.Segments.Segments), len(payload))
	}
	b := append(make([]byte, 0, metaHead+len(payload)), metaMagic...)
	b = binary.LittleEndian.AppendUint64(b, turn)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, metaSum(b[8:20], payload))
	return append(b, payload...), nil
}

// writeLocked makes rec the record, durably.
func (m *meta) writeLocked(rec metaRecord) error {
	b, err := encodeMeta(m.turn+1, rec)
	if err != nil {
		return fmt.Errorf("write %s: %w", m.f.Name(), err)
	}
	if err := m.writePair(b, int64((m.turn+1)%2*2)); err != nil {
		err = fmt.Errorf("write %s: %w", m.f.Name(), err)
		if m.fault != nil {
			m.fault(err)
		}
		return err
	}
	m.turn++
	m.rec = rec
	return nil
}

// writePair writes b to a slot and the next one.
func (m *meta) writePair(b []byte, slot int64) error {
	for i := range int64(2) {
		if _, err := m.f.WriteAt(b, (slot+i)*metaSlot); err != nil {
			return err
		}
	}
	return m.f.Sync()
}

// Load returns the list of segments.
func (m *meta) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rec.Segments, nil
}

// CommitState replaces the list of segments.
func (m *meta) CommitState(s types.PersistentState) error {
	s, err := m.sealed(s)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writeLocked(metaRecord{Segments: s, Stable: m.rec.Stable})
}

// GetStable returns a value, nil if there is none.
func (m *meta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rec.Stable[string(key)], nil
}

// SetStable keeps a value.
func (m *meta) SetStable(key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stable := map[string][]byte{string(key): value}
	for k, v := range m.rec.Stable {
		if k != string(key) {
			stable[k] = v
		}
	}
	return m.writeLocked(metaRecord{Segments: m.rec.Segments, Stable: stable})
}

// Close does nothing: the log is opened anew after a full disk, the file stays open until shut.
func (m *meta) Close() error { return nil }

func (m *meta) shut() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.f.Close()
}
