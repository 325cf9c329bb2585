package ledger

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
)

// entryFormat is the first byte of every entry.
const entryFormat = 1

// maxRaw bounds an entry with its header.
const maxRaw = MaxEntry + 1024

// header is what the ledger adds to an input: when its leader took it, and from whom.
type header struct {
	time int64 // the leader's clock, ms since 1970
	from cluster.From
}

// An entry's bytes are
//
//	format   1 byte
//	time     varint
//	node     uvarint length, bytes
//	boot     uvarint length, bytes
//	seq      uvarint
//	input    JSON of cluster.Input, to the end
//
// The header is not part of the JSON, so that an input is encoded before its place in the order is known.
func encodeEntry(h header, input []byte) []byte {
	b := make([]byte, 0, len(input)+len(h.from.Node)+len(h.from.Boot)+32)
	b = append(b, entryFormat)
	b = binary.AppendVarint(b, h.time)
	b = binary.AppendUvarint(b, uint64(len(h.from.Node)))
	b = append(b, h.from.Node...)
	b = binary.AppendUvarint(b, uint64(len(h.from.Boot)))
	b = append(b, h.from.Boot...)
	b = binary.AppendUvarint(b, h.from.Seq)
	return append(b, input...)
}

func encodeInput(in cluster.Input) ([]byte, error) {
	in.From = cluster.From{}
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode input: %w", err)
	}
	if len(b) > MaxEntry {
		return nil, fmt.Errorf("input of %d bytes: %w (%d)", len(b), ErrTooLarge, MaxEntry)
	}
	return b, nil
}

// ErrTooLarge says that an input is larger than MaxEntry.
var ErrTooLarge = errors.New("larger than the ledger takes")

// decodeEntry is the opposite of encodeEntry.
func decodeEntry(b []byte) (header, cluster.Input, error) {
	h, rest, err := decodeHeader(b)
	if err != nil {
		return header{}, cluster.Input{}, err
	}
	var in cluster.Input
	if err := json.Unmarshal(rest, &in); err != nil {
		return header{}, cluster.Input{}, fmt.Errorf("entry: %w", err)
	}
	in.From = h.from
	return h, in, nil
}

func decodeHeader(b []byte) (header, []byte, error) {
	if len(b) == 0 || b[0] != entryFormat {
		return header{}, nil, fmt.Errorf("entry: first byte %.1x, expected format %d", b, entryFormat)
	}
	b = b[1:]
	var h header
	var n int
	if h.time, n = binary.Varint(b); n <= 0 {
		return header{}, nil, errors.New("entry: time is cut off")
	}
	b = b[n:]
	node, b, ok := cutString(b)
	if !ok {
		return header{}, nil, errors.New("entry: node is cut off")
	}
	boot, b, ok := cutString(b)
	if !ok {
		return header{}, nil, errors.New("entry: boot is cut off")
	}
	if h.from.Seq, n = binary.Uvarint(b); n <= 0 {
		return header{}, nil, errors.New("entry: sequence is cut off")
	}
	h.from.Node, h.from.Boot = place.NodeID(node), boot
	return h, b[n:], nil
}

func cutString(b []byte) (string, []byte, bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, false
	}
	return string(b[n : n+int(size)]), b[n+int(size):], true
}
