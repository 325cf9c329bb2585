package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// The frames of a segment, as raft-wal writes them: an 8-byte header (type, three zero bytes, length or checksum,
// little-endian), a payload, zeros up to a multiple of 8. A commit frame ends each batch that was synced, and its
// checksum covers what follows the commit before (or the head of the file).
const (
	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3

	segmentHead = 32
	frameHead   = 8
)

// tail is what the unsealed segment holds.
type tail struct {
	entries int // whole ones, in batches that were synced
	good    int // bytes up to the end of the last whole batch; 0 if there is none
	batch   int // where the last whole batch begins
	index   int // where the index frame of that batch stands; 0 if it has none
	torn    bool
	damaged bool // a batch that was synced is not what was written
}

// scanTail reads a segment frame by frame. Where a batch breaks off, it is torn: a crash came before its sync. But
// if a whole batch stands behind that place, the broken one had been synced before the next was begun: damage.
func scanTail(b []byte) tail {
	var t tail
	count, index := 0, 0
	at := segmentHead
scan:
	for at+frameHead <= len(b) {
		size := int(binary.LittleEndian.Uint32(b[at+4:]))
		switch b[at] {
		case frameEntry, frameIndex:
			if size > len(b)-at-frameHead {
				break scan
			}
			if b[at] == frameEntry {
				count++
			} else {
				index = at
			}
			at += (frameHead + size + 7) / 8 * 8
		case frameCommit:
			if crc32.Checksum(b[t.good:at], castagnoli) != uint32(size) {
				break scan
			}
			t.batch, t.good, t.entries, t.index = t.good, at+frameHead, count, index
			at += frameHead
			index = 0
		default:
			break scan
		}
	}
	for _, c := range b[t.good:] {
		if c != 0 {
			t.torn = true
			break
		}
	}
	t.damaged = t.torn && wholeBatch(b[t.good:])
	return t
}

// wholeBatch says whether b, which begins at some frame, holds a commit frame and another one behind it that fits
// what lies between. It takes time linear in b for each pair of neighbouring candidates.
func wholeBatch(b []byte) bool {
	last := -1
	for at := 0; at+frameHead <= len(b); at += 8 {
		if b[at] != frameCommit || b[at+1] != 0 || b[at+2] != 0 || b[at+3] != 0 {
			continue
		}
		if last >= 0 && at > last && crc32.Checksum(b[last:at], castagnoli) == binary.LittleEndian.Uint32(b[at+4:]) {
			return true
		}
		last = at + frameHead
	}
	return false
}

// repairTail brings the unsealed segment to a state that raft-wal opens and goes on from: what a crash tore off is
// zeroed, for raft-wal leaves it in place and may take it for frames later; and a seal that the list of segments
// does not know of is undone, for raft-wal would refuse every write to the segment.
func (d *disk) repairTail() error {
	segments := d.meta.rec.Segments.Segments
	if len(segments) == 0 || !segments[len(segments)-1].SealTime.IsZero() {
		return nil
	}
	s := segments[len(segments)-1]
	path := filepath.Join(d.files.dir, fmt.Sprintf("%020d-%016x.wal", s.BaseIndex, s.ID))
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a crash came between the list and the file; raft-wal makes it
	}
	if err != nil {
		return fmt.Errorf("read tail of log: %w", err)
	}
	t := scanTail(b)
	after := s.BaseIndex + uint64(t.entries) - 1
	if t.damaged {
		if !d.opt.cut {
			return &DamagedError{Path: path, After: after, Why: fmt.Sprintf("byte %d and on", t.good)}
		}
		kept, err := d.files.keepAside(d.opt.dir)
		if err != nil {
			return err
		}
		d.opt.log.Error("log is cut where it is damaged", "after", after, "kept", kept)
	}
	if !t.torn && t.index == 0 {
		return nil
	}
	if t.torn && !t.damaged {
		d.opt.log.Warn("end of log was torn by a crash, cut", "after", after, "file", path, "byte", t.good)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("repair tail of log: %w", err)
	}
	if err := errors.Join(writeTail(f, b, t), f.Close()); err != nil {
		return fmt.Errorf("repair tail of log: %w", err)
	}
	return nil
}

func writeTail(f *os.File, b []byte, t tail) error {
	end := t.good
	if t.index > 0 {
		commit := make([]byte, frameHead)
		commit[0] = frameCommit
		binary.LittleEndian.PutUint32(commit[4:], crc32.Checksum(b[t.batch:t.index], castagnoli))
		if _, err := f.WriteAt(commit, int64(t.index)); err != nil {
			return err
		}
		end = t.index + frameHead
	}
	if _, err := f.WriteAt(make([]byte, len(b)-end), int64(end)); err != nil {
		return err
	}
	return f.Sync()
}
