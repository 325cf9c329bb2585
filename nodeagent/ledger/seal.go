package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft-wal/types"
)

// A new leader may have a follower drop the end of its log. raft-wal (0.4) then seals the segment it was writing, but
// writes no index into it: it reads the segment by what it has in memory, and none of its entries can be read after the
// next start. So the index is added here, before the list of segments that calls it sealed is made durable.

// sealed returns s with an index in every sealed segment.
func (v *files) sealed(s types.PersistentState) (types.PersistentState, error) {
	s.Segments = slices.Clone(s.Segments)
	for i, seg := range s.Segments {
		if seg.SealTime.IsZero() || seg.IndexStart != 0 {
			delete(v.indexed, seg.ID)
			continue
		}
		if v.indexed[seg.ID] == 0 {
			at, err := v.index(seg)
			if err != nil {
				return s, fmt.Errorf("index of segment %d: %w", seg.ID, err)
			}
			if v.indexed == nil {
				v.indexed = map[uint64]uint64{}
			}
			v.indexed[seg.ID] = at
		}
		s.Segments[i].IndexStart = v.indexed[seg.ID] // raft-wal does not know of it until it is opened again
	}
	return s, nil
}

// index appends an index of the entries up to MaxIndex to a segment and returns where it begins. A crash right after
// leaves a segment that is not sealed, with a torn end.
func (v *files) index(seg types.SegmentInfo) (uint64, error) {
	path := filepath.Join(v.dir, fmt.Sprintf("%020d-%016x.wal", seg.BaseIndex, seg.ID))
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	offsets := frames(b[:scanTail(b).good])
	want := int(seg.MaxIndex - seg.BaseIndex + 1)
	if len(offsets) < want {
		return 0, fmt.Errorf("it holds %d entries, expected %d", len(offsets), want)
	}
	at := scanTail(b).good
	frame := make([]byte, (frameHead+4*want+7)/8*8)
	frame[0] = frameIndex
	binary.LittleEndian.PutUint32(frame[4:], uint32(4*want))
	for i, o := range offsets[:want] {
		binary.LittleEndian.PutUint32(frame[frameHead+4*i:], o)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteAt(frame, int64(at))
	if err == nil {
		err = v.sync(f)
	}
	return uint64(at + frameHead), errors.Join(err, f.Close())
}

// frames are the places of the entries in a segment's bytes.
func frames(b []byte) (offsets []uint32) {
	for at := segmentHead; at+frameHead <= len(b); {
		size := int(binary.LittleEndian.Uint32(b[at+4:]))
		switch b[at] {
		case frameCommit:
			size = 0 // it has a checksum there
		case frameEntry:
			offsets = append(offsets, uint32(at))
		}
		at += (frameHead + size + 7) / 8 * 8
	}
	return offsets
}
