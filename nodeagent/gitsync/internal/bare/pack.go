package bare

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// pack is one open pack file and its index. Both files never change; they are closed once nobody holds the pack,
// by the finalizers of os.File, since a reader may still be at it when a compaction drops it from the list.
type pack struct {
	*index
	file *os.File
	size int64
	path string // without the ending
}

// inflaters are kept for reuse: each holds about 50 KiB.
var inflaters = sync.Pool{New: func() any { return new(inflater) }}

// openPack opens path.pack and path.idx, and checks that they fit each other by header, length and checksum.
func openPack(path string) (*pack, error) {
	file, err := os.Open(path + ".pack")
	if err != nil {
		return nil, err
	}
	p := &pack{file: file, path: path}
	if err := p.open(); err != nil {
		p.close()
		return nil, fmt.Errorf("%s: %w: %w", filepath.Base(path), ErrCorrupt, err)
	}
	return p, nil
}

func (p *pack) open() error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	idx, err := os.Open(p.path + ".idx")
	if err != nil {
		return err
	}
	info, err = idx.Stat()
	if err == nil {
		p.index, err = openIndex(idx, info.Size())
	}
	if err != nil {
		idx.Close()
		return err
	}
	var head [12]byte
	var trailer Hash
	if p.size < 32 {
		return errors.New("pack: cut short")
	}
	if _, err := p.file.ReadAt(head[:], 0); err != nil {
		return err
	}
	if _, err := p.file.ReadAt(trailer[:], p.size-20); err != nil {
		return err
	}
	if string(head[:4]) != "PACK" || trailer != p.pack {
		return errors.New("pack: its end is not what the index expects")
	}
	return nil
}

func (p *pack) close() {
	p.file.Close()
	if p.index != nil {
		if c, ok := p.r.(io.Closer); ok {
			c.Close()
		}
	}
}

// object reads the object at off, through at most limits.Depth deltas.
func (p *pack) object(off int64, limits Limits) (Kind, []byte, error) {
	f := inflaters.Get().(*inflater)
	defer inflaters.Put(f)
	var deltas [][]byte
	held := int64(0)
	for {
		var e entry
		raw, err := f.read(p.file, off, &e, limits.Object)
		if err != nil {
			return 0, nil, err
		}
		if !e.delta {
			for _, delta := range slices.Backward(deltas) {
				if raw, err = applyDelta(raw, delta, limits.Object); err != nil {
					return 0, nil, err
				}
			}
			return e.kind, raw, nil
		}
		deltas = append(deltas, raw)
		if held += int64(len(raw)); len(deltas) > limits.Depth || held > 4*limits.Object {
			return 0, nil, errors.New("a delta chain beyond the limits")
		}
		off = e.baseAt
		if e.kind == refDelta {
			if off, err = p.find(e.base); err != nil {
				return 0, nil, err
			} else if off < 0 {
				return 0, nil, fmt.Errorf("no delta base %s", e.base)
			}
		}
	}
}
