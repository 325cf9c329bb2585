package ledger

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// mark is the number of the entry that is being stepped, in a page shared with the file "stepping". It costs a store
// to memory, and it is there after the process died: of a fault that Go cannot recover from, or for want of memory.
type mark struct {
	page []byte
	died uint64 // what the last run left; 0 if it was not in a step when it ended
}

func openMark(dir string) (*mark, error) {
	f, err := os.OpenFile(filepath.Join(dir, "stepping"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("mark of the entry stepped: %w", err)
	}
	defer f.Close() // the mapping stays
	if info, err := f.Stat(); err == nil && info.Size() < 8 {
		if _, err := f.WriteAt(make([]byte, 8), 0); err != nil { // allocated, not a hole: a store to a hole on a full disk ends the process
			return nil, fmt.Errorf("mark of the entry stepped: %w", err)
		}
	}
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mark of the entry stepped: %w", err)
	}
	m := &mark{page: page, died: binary.LittleEndian.Uint64(page)}
	m.end()
	return m, nil
}

func (m *mark) begin(index uint64) { binary.LittleEndian.PutUint64(m.page, index) }

func (m *mark) end() { binary.LittleEndian.PutUint64(m.page, 0) }

func (m *mark) close() error {
	return syscall.Munmap(m.page)
}
