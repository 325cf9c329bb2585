package bare

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Collect drops objects that no ref leads to, pins included. Packs younger than grace are left, with all that their
// objects name, since somebody may still be reading a commit that a ref has just left. So are packs of which less
// than half is dead: to write them again would cost their deltas. Anything that cannot be read ends it with nothing
// dropped. The caller sees to it that no pack is on its way in, whose check may rely on what is dropped here.
func (r *Repo) Collect(ctx context.Context, grace time.Duration) (dropped int, err error) {
	r.compact.Lock()
	defer r.compact.Unlock()
	var old, young []*pack
	for _, p := range *r.packs.Load() {
		info, err := p.file.Stat()
		if err != nil {
			return 0, err
		}
		if time.Since(info.ModTime()) < grace {
			young = append(young, p)
		} else {
			old = append(old, p)
		}
	}
	live, err := r.reachable(ctx, young)
	if err != nil {
		return 0, fmt.Errorf("find what is in use: %w", err)
	}
	var poor []*pack
	for _, p := range old {
		dead := 0
		for n := range p.count {
			id, err := p.id(n)
			if err != nil {
				return 0, err
			}
			if !live[id] {
				dead++
			}
		}
		if dead*2 >= p.count {
			poor, dropped = append(poor, p), dropped+dead
		}
	}
	if len(poor) == 0 {
		return 0, nil
	}
	return dropped, r.rewrite(ctx, poor, live)
}

// reachable is every object that refs, or objects of the packs, lead to.
func (r *Repo) reachable(ctx context.Context, packs []*pack) (map[Hash]bool, error) {
	live := map[Hash]bool{}
	var open []Hash // not looked into yet
	add := func(h Hash) {
		if !live[h] {
			live[h] = true
			open = append(open, h)
		}
	}
	for _, h := range r.Refs() {
		add(h)
	}
	for _, p := range packs {
		for n := range p.count {
			id, err := p.id(n)
			if err != nil {
				return nil, err
			}
			add(id)
		}
	}
	for i := 0; len(open) > 0; i++ {
		if i%256 == 0 {
			if err := canceled(ctx); err != nil {
				return nil, err
			}
		}
		h := open[len(open)-1]
		open = open[:len(open)-1]
		k, raw, err := r.Read(h)
		if err != nil {
			return nil, err
		}
		switch k {
		case Tree:
			items, err := treeItems(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", h, err)
			}
			for _, it := range items {
				switch {
				case it.module:
				case it.dir:
					add(it.id)
				default:
					live[it.id] = true // a file names nothing: it is not read
				}
			}
		case Commit, Tag:
			cut := k == Commit && r.IsShallow(h)
			first := true
			if err := links(k, raw, func(l Hash) {
				if first || !cut || r.Has(l) {
					add(l)
				}
				first = false
			}); err != nil {
				return nil, fmt.Errorf("%s: %w", h, err)
			}
		}
	}
	return live, nil
}

// Size is the bytes of all packs.
func (r *Repo) Size() (n int64) {
	for _, p := range *r.packs.Load() {
		n += p.size
	}
	return n
}

// rewrite puts one pack with the live objects of packs in their place; live is nil for all of them.
func (r *Repo) rewrite(ctx context.Context, packs []*pack, live map[Hash]bool) error {
	merged, err := r.merge(ctx, packs, live)
	if err != nil {
		return fmt.Errorf("merge packs: %w", err)
	}
	r.publish.Lock()
	var next []*pack
	for _, p := range *r.packs.Load() {
		gone := merged != nil && p.path == merged.path
		for _, old := range packs {
			gone = gone || p == old
		}
		if !gone {
			next = append(next, p)
		}
	}
	if merged != nil {
		next = append(next, merged)
	}
	r.packs.Store(&next)
	r.publish.Unlock()
	for _, p := range packs {
		if merged != nil && p.path == merged.path {
			continue
		}
		for _, end := range []string{".pack", ".idx"} { // an index alone is removed at start, a pack alone is damage
			if err := os.Remove(p.path + end); err != nil {
				return fmt.Errorf("drop merged pack: %w", err)
			}
		}
	}
	return syncDir(r.packDir())
}
