package bare

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing"
	githash "github.com/go-git/go-git/v5/plumbing/hash"
)

// Hash is an object's id in bytes.
type Hash = plumbing.Hash

// Kind is what an object is, with the numbers of the pack format.
type Kind uint8

const (
	Commit Kind = 1
	Tree   Kind = 2
	Blob   Kind = 3
	Tag    Kind = 4

	ofsDelta Kind = 6
	refDelta Kind = 7
)

// String is Git's word.
func (k Kind) String() string {
	switch k {
	case Commit:
		return "commit"
	case Tree:
		return "tree"
	case Blob:
		return "blob"
	case Tag:
		return "tag"
	}
	return "kind " + strconv.Itoa(int(k))
}

// ErrCorrupt is wrapped by errors about bytes on disk that are not what their id says.
var ErrCorrupt = errors.New("the repository is damaged")

// ErrMissing is wrapped by errors about an object that is not there.
var ErrMissing = errors.New("object is not in the repository")

// hashOf computes an id with a SHA-1 that detects the known collision attacks.
func hashOf(k Kind, raw []byte) (h Hash) {
	s := newHasher(k, int64(len(raw)))
	s.Write(raw)
	s.Sum(h[:0])
	return h
}

func newHasher(k Kind, size int64) githash.Hash {
	s := githash.New(crypto.SHA1)
	fmt.Fprintf(s, "%s %d\x00", k, size)
	return s
}

// links calls visit with each id that an object names. It reads trees more kindly than the engine does: old
// history may hold modes that nobody writes today, and only what is rendered has to be strict.
func links(k Kind, raw []byte, visit func(Hash)) error {
	switch k {
	case Tree:
		items, err := treeItems(raw)
		if err != nil {
			return err
		}
		for _, it := range items {
			if !it.module {
				visit(it.id)
			}
		}
	case Commit, Tag:
		head, _, _ := bytes.Cut(raw, []byte("\n\n"))
		n := 0
		for line := range bytes.Lines(head) {
			key, value, _ := bytes.Cut(bytes.TrimRight(line, "\n"), []byte(" "))
			switch string(key) {
			case "tree", "parent", "object":
				var h Hash
				if len(value) != 40 {
					return fmt.Errorf("%s: %q is no id", k, key)
				}
				if _, err := hex.Decode(h[:], value); err != nil {
					return fmt.Errorf("%s: %q is no id", k, key)
				}
				visit(h)
				n++
			}
		}
		if n == 0 {
			return fmt.Errorf("%s: names no object", k)
		}
	}
	return nil
}

// treeItems reads a tree as kindly as links does.
func treeItems(raw []byte) ([]treeItem, error) {
	var items []treeItem
	for len(raw) > 0 {
		space := bytes.IndexByte(raw[:min(len(raw), 8)], ' ')
		end := bytes.IndexByte(raw, 0)
		if space <= 0 || end < space || len(raw) < end+21 {
			return nil, errors.New("tree: a line is cut short")
		}
		mode := bytes.TrimLeft(raw[:space], "0") // very old tools wrote 040000
		items = append(items, treeItem{
			name: string(raw[space+1 : end]), id: Hash(raw[end+1 : end+21]),
			dir: string(mode) == "40000", module: string(mode) == "160000",
		})
		raw = raw[end+21:]
	}
	return items, nil
}
