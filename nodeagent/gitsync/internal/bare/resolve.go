package bare

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
)

// resolver gives the deltas of a scanned pack their kinds and ids.
type resolver struct {
	file    io.ReaderAt
	entries []entry
	limits  Limits
	budget  *int64 // inflated bytes still allowed
	links   *linkSet
	byBase  []int32          // ofsDeltas by baseAt, then offset
	byID    map[Hash][]int32 // refDeltas by base
	parent  map[int32]int32  // delta -> its base, once it is resolved
	left    int
	held    int64 // bytes of the contents on the stack
	inflate inflater
}

// frame is an object whose deltas are being resolved.
type frame struct {
	at       int32
	raw      []byte // nil once it was let go; made again when needed
	children []int32
}

// resolve goes down from each whole object through the deltas upon it. Of an object with one delta left
// nothing is kept, and the contents that are kept are bounded: past the bound the oldest are let go and made
// again, which counts against the budget.
func (r *resolver) resolve() error {
	r.parent = map[int32]int32{}
	r.byID = map[Hash][]int32{}
	for i := range r.entries {
		switch e := &r.entries[i]; e.kind {
		case ofsDelta:
			r.byBase = append(r.byBase, int32(i))
			r.left++
		case refDelta:
			r.byID[e.base] = append(r.byID[e.base], int32(i))
			r.left++
		}
	}
	if r.left == 0 {
		return nil
	}
	slices.SortFunc(r.byBase, func(a, b int32) int {
		return cmp.Or(cmp.Compare(r.entries[a].baseAt, r.entries[b].baseAt), cmp.Compare(a, b))
	})
	for i := range r.entries {
		if r.entries[i].delta {
			continue
		}
		if children := r.children(int32(i)); len(children) > 0 {
			if err := r.down(frame{at: int32(i), children: children}); err != nil {
				return err
			}
		}
	}
	if r.left > 0 {
		for i := range r.entries {
			if e := &r.entries[i]; e.kind == refDelta {
				return fmt.Errorf("pack: object at offset %d: its delta base %s is not in the pack (thin packs are not taken)", e.off, e.base)
			} else if e.kind == ofsDelta {
				return fmt.Errorf("pack: object at offset %d: no delta base at offset %d", e.off, e.baseAt)
			}
		}
	}
	return nil
}

// children returns the deltas upon an object whose id is known.
func (r *resolver) children(i int32) []int32 {
	e := &r.entries[i]
	from, _ := slices.BinarySearchFunc(r.byBase, e.off, func(d int32, off int64) int { return cmp.Compare(r.entries[d].baseAt, off) })
	to := from
	for to < len(r.byBase) && r.entries[r.byBase[to]].baseAt == e.off {
		to++
	}
	list := r.byBase[from:to]
	if refs := r.byID[e.id]; len(refs) > 0 {
		list = slices.Concat(list, refs)
		delete(r.byID, e.id) // an object that stands twice resolves its deltas once
	}
	return list
}

func (r *resolver) down(root frame) error {
	stack := []frame{root}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.children) == 0 {
			r.held -= int64(len(top.raw))
			stack = stack[:len(stack)-1]
			continue
		}
		if top.raw == nil {
			raw, err := r.make(top.at)
			if err != nil {
				return err
			}
			top.raw = raw
			r.held += int64(len(raw))
		}
		child := top.children[0]
		top.children = top.children[1:]
		e := &r.entries[child]
		if len(stack) > r.limits.Depth {
			return &LimitError{fmt.Sprintf("object at offset %d", e.off), fmt.Sprintf("is more than %d deltas deep", r.limits.Depth)}
		}
		raw, err := r.apply(top.raw, e)
		if err != nil {
			return err
		}
		if len(top.children) == 0 {
			r.held -= int64(len(top.raw))
			top.raw = nil
		}
		e.kind = r.entries[top.at].kind
		e.id = hashOf(e.kind, raw)
		if e.kind != Blob {
			if err := r.links.add(e.id, e.kind, raw); err != nil {
				return fmt.Errorf("%s: %w", e.id, err)
			}
		}
		r.parent[child] = top.at
		r.left--
		if children := r.children(child); len(children) > 0 {
			r.held += int64(len(raw))
			stack = append(stack, frame{child, raw, children})
			for i := 0; i < len(stack)-1 && r.held > 2*r.limits.Object; i++ {
				r.held -= int64(len(stack[i].raw))
				stack[i].raw = nil
			}
		}
	}
	return nil
}

// make gives the contents of an object whose bases are all resolved.
func (r *resolver) make(i int32) ([]byte, error) {
	chain := []int32{i}
	for {
		base, ok := r.parent[chain[len(chain)-1]]
		if !ok {
			break
		}
		chain = append(chain, base)
	}
	raw, err := r.inflate.at(r.file, &r.entries[chain[len(chain)-1]])
	for k := len(chain) - 2; k >= 0 && err == nil; k-- {
		raw, err = r.apply(raw, &r.entries[chain[k]])
	}
	if err == nil {
		err = r.spend(len(raw))
	}
	return raw, err
}

func (r *resolver) apply(base []byte, e *entry) ([]byte, error) {
	delta, err := r.inflate.at(r.file, e)
	if err != nil {
		return nil, fmt.Errorf("pack: object at offset %d: %w", e.off, err)
	}
	raw, err := applyDelta(base, delta, r.limits.Object)
	if err != nil {
		return nil, fmt.Errorf("pack: object at offset %d: %w", e.off, err)
	}
	return raw, r.spend(len(raw))
}

func (r *resolver) spend(n int) error {
	if *r.budget -= int64(n); *r.budget < 0 {
		return tooBig("the pack", r.limits.Inflated, "inflated bytes")
	}
	return nil
}

// inflater reads single objects of a pack file; it is kept to save its buffers.
type inflater struct {
	z io.ReadCloser
	b *bufio.Reader
}

// at returns the inflated bytes of the entry at e.off: of the object, or of the delta.
func (f *inflater) at(file io.ReaderAt, e *entry) ([]byte, error) {
	var again entry
	return f.read(file, e.off, &again, e.size)
}

// read fills e from the header at off, and inflates at most limit bytes.
func (f *inflater) read(file io.ReaderAt, off int64, e *entry, limit int64) ([]byte, error) {
	section := io.NewSectionReader(file, off, 1<<62)
	if f.b == nil {
		f.b = bufio.NewReaderSize(section, 4<<10)
	} else {
		f.b.Reset(section)
	}
	e.off = off
	if err := readHeader(f.b, e); err != nil {
		return nil, short(err)
	}
	if e.size > limit {
		return nil, tooBig("it", limit, "bytes")
	}
	if err := resetZlib(&f.z, f.b); err != nil {
		return nil, short(err)
	}
	raw := make([]byte, e.size)
	if _, err := io.ReadFull(f.z, raw); err != nil {
		return nil, short(err)
	}
	if _, err := f.z.Read(make([]byte, 1)); err != io.EOF { // also checks the stream's checksum
		return nil, fmt.Errorf("inflates to other than %d bytes", e.size)
	}
	return raw, nil
}
