package ledger

import (
	"encoding/binary"
	"fmt"
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
	page, err := mapPage(filepath.Join(dir, "stepping"))
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
