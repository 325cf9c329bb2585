package bare

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// smallPack is the size up to which a pack is merged with others. Bigger ones, such as a first clone, stay as
// they are, deltas and all.
const smallPack = 16 << 20

// Compact merges all small packs into one, in which every object stands once and whole, and drops the old ones.
// Readers and pushes go on meanwhile: readers hold the packs they began with. A crash leaves the old packs, or
// both. One Compact runs at a time.
func (r *Repo) Compact(ctx context.Context) error {
	r.compact.Lock()
	defer r.compact.Unlock()
	small := mergeable(*r.packs.Load())
	if len(small) < 2 {
		return nil
	}
	return r.rewrite(ctx, small, nil)
}

// mergeable chooses what to merge: the smallest packs, as long as the next one is no bigger than twice all before
// it. So a pack is written again only once as much has come on top of it, and each object a few times at most.
func mergeable(packs []*pack) []*pack {
	packs = slices.SortedFunc(slices.Values(packs), func(a, b *pack) int {
		return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.path, b.path))
	})
	sum := int64(0)
	for i, p := range packs {
		if p.size > smallPack || i >= 2 && p.size > 2*sum {
			return packs[:i]
		}
		sum += p.size
	}
	return packs
}

// merge writes the live objects of packs into a new pack and puts it on disk beside them; none if nothing is live.
func (r *Repo) merge(ctx context.Context, packs []*pack, live map[Hash]bool) (*pack, error) {
	dir, err := os.MkdirTemp(filepath.Join(r.dir, "objects"), "incoming-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var all []place
	for _, p := range packs {
		places, err := p.places()
		if err != nil {
			return nil, err
		}
		all = append(all, places...)
	}
	slices.SortStableFunc(all, func(a, b place) int { return bytes.Compare(a.id[:], b.id[:]) })
	all = slices.CompactFunc(all, func(a, b place) bool { return a.id == b.id })
	if live != nil {
		all = slices.DeleteFunc(all, func(at place) bool { return !live[at.id] })
	}
	if len(all) == 0 {
		return nil, nil
	}

	file, err := os.OpenFile(filepath.Join(dir, "pack"), os.O_CREATE|os.O_RDWR, 0o400)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	out := &countingWriter{w: file}
	w, err := NewPackWriter(out, len(all))
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(all))
	for i, at := range all {
		if err := canceled(ctx); err != nil {
			return nil, err
		}
		if entries[i], err = at.copyTo(w, out, r.limits); err != nil {
			return nil, fmt.Errorf("object %s in %s: %w", at.id, filepath.Base(at.pack.path), err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	var sum Hash
	if _, err := file.ReadAt(sum[:], out.n-20); err != nil {
		return nil, err
	}
	idx, err := os.OpenFile(filepath.Join(dir, "idx"), os.O_CREATE|os.O_WRONLY, 0o400)
	if err != nil {
		return nil, err
	}
	defer idx.Close()
	if err := writeIndex(idx, entries, sum); err != nil {
		return nil, err
	}
	for _, f := range []*os.File{idx, file} {
		if err := f.Sync(); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(r.packDir(), "pack-"+sum.String())
	for _, end := range []string{"idx", "pack"} {
		if err := os.Rename(filepath.Join(dir, end), path+"."+end); err != nil {
			return nil, err
		}
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return openPack(path)
}

// place is where an object stands.
type place struct {
	id       Hash
	pack     *pack
	off, end int64
	crc      uint32
}

// places lists a pack's objects with the bytes that each takes.
func (p *pack) places() ([]place, error) {
	list := make([]place, p.count)
	for n := range list {
		at := place{pack: p, end: p.size - 20}
		var err error
		if at.id, err = p.id(n); err != nil {
			return nil, err
		}
		if at.off, err = p.offset(n); err != nil {
			return nil, err
		}
		if at.crc, err = p.crc(n); err != nil {
			return nil, err
		}
		list[n] = at
	}
	slices.SortFunc(list, func(a, b place) int { return cmp.Compare(a.off, b.off) })
	for n := 1; n < len(list); n++ {
		list[n-1].end = list[n].off
	}
	return list, nil
}

// copyTo writes the object to w: as it is on disk if it is whole there, else made whole.
func (at place) copyTo(w *PackWriter, out *countingWriter, limits Limits) (entry, error) {
	e := entry{id: at.id, off: out.n}
	var kind [1]byte
	if _, err := at.pack.file.ReadAt(kind[:], at.off); err != nil {
		return e, err
	}
	switch e.kind = Kind(kind[0] >> 4 & 7); e.kind {
	case Commit, Tree, Blob, Tag:
		out.crc = 0
		if _, err := io.Copy(w.w, io.NewSectionReader(at.pack.file, at.off, at.end-at.off)); err != nil {
			return e, err
		}
		if out.crc != at.crc {
			return e, fmt.Errorf("%w: its bytes do not match their checksum", ErrCorrupt)
		}
	default:
		k, raw, err := at.pack.object(at.off, limits)
		if err == nil && hashOf(k, raw) != at.id {
			err = ErrCorrupt
		}
		if err != nil {
			return e, err
		}
		e.kind = k
		out.crc = 0
		if err := w.Add(k, raw); err != nil {
			return e, err
		}
	}
	e.crc = out.crc
	return e, nil
}
