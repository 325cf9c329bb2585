package bare

import (
	"bytes"
	"context"
	"fmt"
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
	var small []*pack
	size := int64(0)
	for _, p := range *r.packs.Load() {
		if p.size <= smallPack && size < 4*smallPack {
			small, size = append(small, p), size+p.size
		}
	}
	if len(small) < 2 {
		return nil
	}
	merged, err := r.merge(ctx, small)
	if err != nil {
		return fmt.Errorf("merge packs: %w", err)
	}
	r.publish.Lock()
	packs := slices.DeleteFunc(slices.Clone(*r.packs.Load()), func(p *pack) bool {
		return slices.Contains(small, p) || p.path == merged.path
	})
	packs = append(packs, merged)
	r.packs.Store(&packs)
	r.publish.Unlock()
	for _, p := range small {
		if p.path == merged.path {
			continue
		}
		for _, end := range []string{".idx", ".pack"} {
			if err := os.Remove(p.path + end); err != nil {
				return fmt.Errorf("drop merged pack: %w", err)
			}
		}
	}
	return syncDir(filepath.Dir(merged.path))
}

// merge writes the objects of packs into a new pack and publishes it.
func (r *Repo) merge(ctx context.Context, packs []*pack) (*pack, error) {
	dir, err := os.MkdirTemp(filepath.Join(r.dir, "objects"), "incoming-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	type place struct {
		id   Hash
		pack *pack
		n    int
	}
	var all []place
	for _, p := range packs {
		for n := range p.count {
			id, err := p.id(n)
			if err != nil {
				return nil, err
			}
			all = append(all, place{id, p, n})
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return bytes.Compare(a.id[:], b.id[:]) })
	all = slices.CompactFunc(all, func(a, b place) bool { return a.id == b.id })

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
		off, err := at.pack.offset(at.n)
		if err != nil {
			return nil, err
		}
		k, raw, err := at.pack.object(off, r.limits)
		if err == nil && hashOf(k, raw) != at.id {
			err = ErrCorrupt
		}
		if err != nil {
			return nil, fmt.Errorf("object %s in %s: %w", at.id, filepath.Base(at.pack.path), err)
		}
		entries[i] = entry{id: at.id, kind: k, off: out.n}
		out.crc = 0
		if err := w.Add(k, raw); err != nil {
			return nil, err
		}
		entries[i].crc = out.crc
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
	path := filepath.Join(r.dir, "objects", "pack", "pack-"+sum.String())
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
