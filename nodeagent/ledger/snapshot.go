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
// one line of JSON, the entries, the digests of all blobs the state refers to (32 bytes each), and to the end the
// state's own encoding.
type snapshotHeader struct {
	Format  int    `json:"format"`
	Applied uint64 `json:"applied"` // number of the entry that made this state
	Time    int64  `json:"time"`    // ring time of that entry, ms
	Hash    string `json:"hash"`    // of the state
	Entries int    `json:"entries"`
	Blobs   int    `json:"blobs"`
}

const (
	snapshotFormat = 1
	// Bounds that a reader believes a header up to; far above what a ring of 50 nodes writes.
	maxSnapshotEntries = 1 << 20
	maxSnapshotBlobs   = 1 << 24
)

// snapshot is what fsm.Snapshot took, until raft has written it.
type snapshot struct {
	head    snapshotHeader
	entries [][]byte
	state   State
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
func (s *snapshot) Release() { s.state, s.entries = nil, nil }

func (s *snapshot) write(w io.Writer) error {
	var blobs []byte
	for d := range s.state.Blobs() {
		raw, err := hex.DecodeString(string(d))
		if err != nil || len(raw) != 32 {
			return fmt.Errorf("state refers to %.70q, expected a digest", d)
		}
		blobs = append(blobs, raw...)
	}
	hash := s.state.Hash()
	s.head.Format, s.head.Hash, s.head.Entries, s.head.Blobs = snapshotFormat, hex.EncodeToString(hash[:]), len(s.entries), len(blobs)/32
	line, err := json.Marshal(s.head)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	_, _ = out.Write(append(line, '\n')) // a bufio.Writer keeps its first error for Flush
	for _, e := range s.entries {
		_, _ = out.Write(binary.AppendUvarint(nil, uint64(len(e))))
		_, _ = out.Write(e)
	}
	_, _ = out.Write(blobs)
	if err := s.state.Encode(out); err != nil {
		return err
	}
	return out.Flush()
}

// front is all of a snapshot before the state.
type front struct {
	head    snapshotHeader
	entries [][]byte
	blobs   []desired.Digest
}

// readFront reads a snapshot up to the state, which follows in the reader that it returns.
func readFront(r io.Reader) (*front, *bufio.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot: header: %w", err)
	}
	var f front
	if err := json.Unmarshal(line, &f.head); err != nil {
		return nil, nil, fmt.Errorf("snapshot: header: %w", err)
	}
	h := f.head
	if h.Format != snapshotFormat {
		return nil, nil, fmt.Errorf("snapshot: format %d, expected %d", h.Format, snapshotFormat)
	}
	if h.Entries < 0 || h.Entries > maxSnapshotEntries || h.Blobs < 0 || h.Blobs > maxSnapshotBlobs {
		return nil, nil, fmt.Errorf("snapshot: header claims %d entries, %d blobs", h.Entries, h.Blobs)
	}
	for range h.Entries {
		size, err := binary.ReadUvarint(in)
		if err == nil && size > maxRaw {
			err = fmt.Errorf("entry of %d bytes", size)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("snapshot: entries: %w", err)
		}
		e, err := readBytes(in, int64(size))
		if err != nil {
			return nil, nil, fmt.Errorf("snapshot: entries: %w", err)
		}
		f.entries = append(f.entries, e)
	}
	var raw [32]byte
	for range h.Blobs {
		if _, err := io.ReadFull(in, raw[:]); err != nil {
			return nil, nil, fmt.Errorf("snapshot: blobs: %w", err)
		}
		f.blobs = append(f.blobs, desired.Digest(hex.EncodeToString(raw[:])))
	}
	return &f, in, nil
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
