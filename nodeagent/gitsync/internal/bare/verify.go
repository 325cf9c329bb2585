package bare

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"path/filepath"

	githash "github.com/go-git/go-git/v5/plumbing/hash"
)

const (
	// wholeCheck is how many bytes of packs Verify sums up, newest packs first: at 400 MB/s about 0.2 s.
	wholeCheck = 64 << 20
	// deepCheck is how many objects of the tips' trees Verify looks for.
	deepCheck = 100_000
)

// Verify is the check at start. It sums up packs, newest first, to wholeCheck bytes (a crash harms what was
// written last), and sees that every ref's commit can be read and its tree is there down to the last file, to
// deepCheck objects. Errors that wrap ErrCorrupt name what is wrong. What it did not reach is still checked when
// it is read.
func (r *Repo) Verify(ctx context.Context) error {
	left := int64(wholeCheck)
	for _, p := range *r.packs.Load() {
		if left -= p.size; left < 0 {
			break
		}
		if err := p.verify(ctx); err != nil {
			return err
		}
	}
	seen := map[Hash]bool{}
	for name, h := range r.Refs() {
		if err := r.verifyTip(ctx, h, seen); err != nil {
			return fmt.Errorf("%s: %w: %w", name, ErrCorrupt, err)
		}
	}
	return nil
}

func (p *pack) verify(ctx context.Context) error {
	sum := githash.New(crypto.SHA1)
	if _, err := io.Copy(sum, contextReader{ctx, io.NewSectionReader(p.file, 0, p.size-20)}); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(p.path), err)
	}
	if Hash(sum.Sum(nil)) != p.pack {
		return fmt.Errorf("%s: %w: the checksum does not match", filepath.Base(p.path), ErrCorrupt)
	}
	return nil
}

func (r *Repo) verifyTip(ctx context.Context, h Hash, seen map[Hash]bool) error {
	commit, _, err := Peel(r, h)
	if err != nil {
		return err
	}
	n, err := readNode(r, commit)
	if err != nil {
		return err
	}
	for _, p := range n.parents {
		if !r.Has(p) {
			return fmt.Errorf("commit %s, parent of %s: %w", p, commit, ErrMissing)
		}
	}
	dirs := []Hash{n.tree}
	for len(dirs) > 0 && len(seen) < deepCheck {
		if err := canceled(ctx); err != nil {
			return err
		}
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		if seen[dir] {
			continue
		}
		seen[dir] = true
		raw, err := r.ReadKind(dir, Tree)
		if err != nil {
			return err
		}
		items, err := treeItems(raw)
		if err != nil {
			return err
		}
		for _, it := range items {
			switch {
			case it.module || seen[it.id]:
			case it.dir:
				dirs = append(dirs, it.id)
			default:
				seen[it.id] = true
				if !r.Has(it.id) {
					return fmt.Errorf("file %s: %w", it.id, ErrMissing)
				}
			}
		}
	}
	return nil
}

// OpenDamaged opens what can be opened of a repository, to read from: packs that do not open are passed over.
// It writes nothing and takes no lock.
func OpenDamaged(dir string, limits Limits) (*Repo, error) {
	r := &Repo{dir: dir, limits: limits.WithDefaults()}
	if err := r.refs.load(dir); err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack"))
	if err != nil {
		return nil, err
	}
	var packs []*pack
	for _, path := range paths {
		if p, err := openPack(path[:len(path)-len(".pack")]); err == nil {
			packs = append(packs, p)
		}
	}
	r.packs.Store(&packs)
	return r, nil
}
