package bare

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Reader is a store of objects that history can be walked in.
type Reader interface {
	Read(Hash) (Kind, []byte, error)
	IsShallow(Hash) bool // history ends here although parents are named
}

// node is what a walk needs of a commit.
type node struct {
	id      Hash
	tree    Hash
	parents []Hash
	time    int64 // seconds, of the committer: newer ones are walked first
}

// readNode reads a commit. At a shallow boundary it has no parents.
func readNode(r Reader, id Hash) (*node, error) {
	k, raw, err := r.Read(id)
	if err != nil {
		return nil, err
	}
	if k != Commit {
		return nil, fmt.Errorf("%s is a %s, expected a commit", id, k)
	}
	n := &node{id: id}
	for line := range bytes.Lines(raw) {
		key, value, _ := bytes.Cut(bytes.TrimRight(line, "\n"), []byte(" "))
		if len(key) == 0 {
			break
		}
		var h Hash
		switch string(key) {
		case "tree", "parent":
			if len(value) != 40 {
				return nil, fmt.Errorf("commit %s: %q is no id", id, key)
			}
			if _, err := hex.Decode(h[:], value); err != nil {
				return nil, fmt.Errorf("commit %s: %q is no id", id, key)
			}
			if string(key) == "tree" {
				n.tree = h
			} else {
				n.parents = append(n.parents, h)
			}
		case "committer":
			if f := bytes.Fields(value); len(f) >= 2 {
				n.time, _ = strconv.ParseInt(string(f[len(f)-2]), 10, 64) // 0 if odd: walked late
			}
		}
	}
	if r.IsShallow(id) {
		n.parents = nil
	}
	return n, nil
}

// Peel follows tags from id to the commit they stand for, and returns it with the tags on the way.
func Peel(r Reader, id Hash) (commit Hash, tags []Hash, err error) {
	for range 8 {
		k, raw, err := r.Read(id)
		if err != nil {
			return Hash{}, nil, err
		}
		switch k {
		case Commit:
			return id, tags, nil
		case Tag:
			tags = append(tags, id)
			if err := links(Tag, raw, func(h Hash) { id = h }); err != nil {
				return Hash{}, nil, err
			}
		default:
			return Hash{}, nil, fmt.Errorf("%s is a %s, expected a commit", id, k)
		}
	}
	return Hash{}, nil, errors.New("tags upon tags, more than 8 deep")
}

// IsAncestor says whether old is new or one of its ancestors. Where history ends at a shallow boundary before the
// answer is known, known is false.
func IsAncestor(ctx context.Context, r Reader, old, tip Hash) (is, known bool, err error) {
	if old == tip {
		return true, true, nil
	}
	w := newWalk(r)
	if err := w.push(tip, wanted); err != nil {
		return false, false, err
	}
	cut := false
	for i := 0; w.Len() > 0; i++ {
		if i%256 == 0 {
			if err := canceled(ctx); err != nil {
				return false, false, err
			}
		}
		n := w.pop()
		if n.id == old {
			return true, true, nil
		}
		cut = cut || r.IsShallow(n.id)
		for _, p := range n.parents {
			if err := w.push(p, wanted); err != nil {
				return false, false, err
			}
		}
	}
	return false, !cut, nil
}

// Log returns at most max commits from tip back, newest first.
func Log(ctx context.Context, r Reader, tip Hash, max int) ([]Hash, error) {
	w := newWalk(r)
	if err := w.push(tip, wanted); err != nil {
		return nil, err
	}
	var list []Hash
	for w.Len() > 0 && len(list) < max {
		if err := canceled(ctx); err != nil {
			return nil, err
		}
		n := w.pop()
		list = append(list, n.id)
		for _, p := range n.parents {
			if err := w.push(p, wanted); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

type color uint8

const (
	wanted color = 1
	had    color = 2
)

// walk is a queue of commits, newest first, each once for each color it gains.
type walk struct {
	r     Reader
	queue []*node
	color map[Hash]color
	nodes map[Hash]*node
}

func newWalk(r Reader) *walk { return &walk{r: r, color: map[Hash]color{}, nodes: map[Hash]*node{}} }

func (w *walk) push(id Hash, c color) error {
	before := w.color[id]
	if before|c == before {
		return nil
	}
	n := w.nodes[id]
	if n == nil {
		var err error
		if n, err = readNode(w.r, id); err != nil {
			return err
		}
		w.nodes[id] = n
	}
	w.color[id] = before | c
	heap.Push(w, n)
	return nil
}

func (w *walk) pop() *node { return heap.Pop(w).(*node) }

func (w *walk) Len() int           { return len(w.queue) }
func (w *walk) Less(i, j int) bool { return w.queue[i].time > w.queue[j].time }
func (w *walk) Swap(i, j int)      { w.queue[i], w.queue[j] = w.queue[j], w.queue[i] }
func (w *walk) Push(x any)         { w.queue = append(w.queue, x.(*node)) }
func (w *walk) Pop() any {
	n := w.queue[len(w.queue)-1]
	w.queue = w.queue[:len(w.queue)-1]
	return n
}
