package peers

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

const (
	maxAsk   = 8 << 10 // of a request to join or to renew, in bytes
	maxReply = 1 << 20 // of its answer: authorities, keys, members
)

// writeFrame sends v as JSON behind its length in four bytes.
func writeFrame(w io.Writer, head []byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeBytes(w, head, body)
}

func writeBytes(w io.Writer, head, body []byte) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(head)+len(body)))
	_, err := w.Write(append(append(b, head...), body...))
	return err
}

// readFrame reads what writeFrame sent, if it is at most limit bytes.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > uint32(limit) {
		return nil, fmt.Errorf("a message of %d bytes, at most %d are taken", n, limit)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
