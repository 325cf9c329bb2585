package ledger

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/desired"
)

// A snapshot is the state after entry Applied and the raw entries that were committed behind it but not stepped yet:
// one line of JSON, the state's own encoding, the entries, the digests of all blobs the state refers to (32 bytes each).
type snapshotHeader struct {
	Format  int    `json:"format"`
	Applied uint64 `json:"applied"` // number of the entry that made this state
	Time    int64  `json:"time"`    // ring time of that entry, ms
	Hash    string `json:"hash"`    // of the state
	State   int64  `json:"state"`   // bytes of it
	Entries int    `json:"entries"`
	Blobs   int    `json:"blobs"`
}

const (
	snapshotFormat = 1
	// Bounds that a reader believes a header up to; far above what a ring of 50 nodes writes.
	maxSnapshotState   = 4 << 30
	maxSnapshotEntries = 1 << 20
	maxSnapshotBlobs   = 1 << 24
)

// snapshot is what fsm.Snapshot took, until raft has written it.
type snapshot struct {
	head    snapshotHeader
	state   []byte
	entries [][]byte
	blobs   []desired.Digest
}

var _ raft.FSMSnapshot = (*snapshot)(nil)

// Persist writes the snapshot to sink.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.write(sink); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close() // raft cancels the sink if we return an error
}

// Release lets the copy go.
func (s *snapshot) Release() { s.state, s.entries, s.blobs = nil, nil, nil }

func (s *snapshot) write(w io.Writer) error {
	s.head.Format = snapshotFormat
	s.head.State, s.head.Entries, s.head.Blobs = int64(len(s.state)), len(s.entries), len(s.blobs)
	line, err := json.Marshal(s.head)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	out.Write(append(line, '\n')) // a bufio.Writer keeps its first error for Flush
	out.Write(s.state)
	for _, e := range s.entries {
		out.Write(binary.AppendUvarint(nil, uint64(len(e))))
		out.Write(e)
	}
	for _, d := range s.blobs {
		raw, err := hex.DecodeString(string(d))
		if err != nil || len(raw) != 32 {
			return fmt.Errorf("state refers to %.70q, expected a digest", d)
		}
		out.Write(raw)
	}
	return out.Flush()
}

// readSnapshot reads what write wrote. The state's bytes are checked by whoever decodes them.
func readSnapshot(r io.Reader) (*snapshot, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("snapshot: header: %w", err)
	}
	var s snapshot
	if err := json.Unmarshal(line, &s.head); err != nil {
		return nil, fmt.Errorf("snapshot: header: %w", err)
	}
	h := s.head
	if h.Format != snapshotFormat {
		return nil, fmt.Errorf("snapshot: format %d, expected %d", h.Format, snapshotFormat)
	}
	if h.State < 0 || h.State > maxSnapshotState || h.Entries < 0 || h.Entries > maxSnapshotEntries || h.Blobs < 0 || h.Blobs > maxSnapshotBlobs {
		return nil, fmt.Errorf("snapshot: header claims %d bytes of state, %d entries, %d blobs", h.State, h.Entries, h.Blobs)
	}
	if s.state, err = readBytes(in, h.State); err != nil {
		return nil, fmt.Errorf("snapshot: state: %w", err)
	}
	for range h.Entries {
		size, err := binary.ReadUvarint(in)
		if err == nil && size > MaxEntry+1024 {
			err = fmt.Errorf("entry of %d bytes", size)
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot: entries: %w", err)
		}
		e, err := readBytes(in, int64(size))
		if err != nil {
			return nil, fmt.Errorf("snapshot: entries: %w", err)
		}
		s.entries = append(s.entries, e)
	}
	var raw [32]byte
	for range h.Blobs {
		if _, err := io.ReadFull(in, raw[:]); err != nil {
			return nil, fmt.Errorf("snapshot: blobs: %w", err)
		}
		s.blobs = append(s.blobs, desired.Digest(hex.EncodeToString(raw[:])))
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("snapshot: bytes follow its end")
	}
	return &s, nil
}

// readBytes reads n bytes without trusting n to be true: memory grows with what is there.
func readBytes(r io.Reader, n int64) ([]byte, error) {
	var b bytes.Buffer
	got, err := io.Copy(&b, io.LimitReader(r, n))
	if err == nil && got < n {
		err = io.ErrUnexpectedEOF
	}
	return b.Bytes(), err
}
