package ledger

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// commitPage keeps the index of the last entry of raft's log that is known to be committed, so that a node that starts
// without a majority around applies what it knew. It is one number in a page shared with the file "committed": a store
// to memory for each batch, no write and no fsync. After the process died it is exact. After a power loss it may be as
// old as the kernel's last write-back, and then the number that stands beside the newest entry of the log is newer
// (disk.go). It never is ahead of the log, for an entry is on this disk before it is known to be committed.
//
// The number's upper 48 bits are the index, the lower 16 a checksum of it: a page that is not what was written is 0.
type commitPage struct {
	page []byte
	word *atomic.Uint64
}

func openCommitPage(dir string) (*commitPage, error) {
	page, err := mapPage(filepath.Join(dir, "committed"))
	if err != nil {
		return nil, fmt.Errorf("commit index: %w", err)
	}
	return &commitPage{page: page, word: (*atomic.Uint64)(unsafe.Pointer(&page[0]))}, nil // a page is aligned
}

func (c *commitPage) store(index uint64) { c.word.Store(index<<16 | commitSum(index)) }

// load returns the index, 0 if it is not known.
func (c *commitPage) load() uint64 {
	w := c.word.Load()
	if index := w >> 16; w&0xffff == commitSum(index) {
		return index
	}
	return 0
}

func (c *commitPage) close() error { return syscall.Munmap(c.page) }

func commitSum(index uint64) uint64 {
	return uint64(crc32.Checksum(binary.LittleEndian.AppendUint64(nil, index), castagnoli)) & 0xffff
}

// mapPage maps the first 8 bytes of a file, which it makes if it is not there.
func mapPage(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping stays
	if info, err := f.Stat(); err == nil && info.Size() < 8 {
		if _, err := f.WriteAt(make([]byte, 8), 0); err != nil { // allocated, not a hole: a store to a hole on a full disk ends the process
			return nil, err
		}
	}
	return syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}
