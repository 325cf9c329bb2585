package ledger

import (
	"encoding/binary"
	"errors"
)

// batchFormat is the first byte of an entry of raft's log that holds several of ours, each with its length before it
// (uvarint). They come into the log together or not at all, so what a node sent in one batch cannot come apart.
const batchFormat = 2

const (
	// batchEntries is how many entries are sent at once.
	batchEntries = 512
	// batchBytes is how many bytes are sent at once, one entry always.
	batchBytes = MaxEntry
)

// encodeBatch joins raw entries into one of raft's; a single one stands as it is.
func encodeBatch(raw [][]byte) []byte {
	if len(raw) == 1 {
		return raw[0]
	}
	size := 1
	for _, r := range raw {
		size += len(r) + binary.MaxVarintLen32
	}
	b := append(make([]byte, 0, size), batchFormat)
	for _, r := range raw {
		b = binary.AppendUvarint(b, uint64(len(r)))
		b = append(b, r...)
	}
	return b
}

// splitBatch is the opposite of encodeBatch. The entries share b's memory.
func splitBatch(b []byte) ([][]byte, error) {
	if len(b) == 0 || b[0] != batchFormat {
		return [][]byte{b}, nil
	}
	var raw [][]byte
	for b = b[1:]; len(b) > 0; {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, errors.New("batch is cut off")
		}
		end := n + int(size)
		raw = append(raw, b[n:end:end])
		b = b[end:]
	}
	if len(raw) == 0 {
		return nil, errors.New("batch is empty")
	}
	return raw, nil
}
