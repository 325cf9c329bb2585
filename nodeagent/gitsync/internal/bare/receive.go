package bare

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// Incoming is a pack that was read whole and found in order, and is not yet part of the repository. It must be
// ended by Publish or Discard.
type Incoming struct {
	repo    *Repo
	dir     string
	sum     Hash
	entries []entry // sorted by id
}

// Receive reads a pack to its end, checks it as the package comment says, and syncs it to disk under
// objects/incoming-*. shallow are commits whose parents are not coming, beside those the repository knows. On an
// error nothing is left behind. What follows the pack in the stream may have been read too.
func (r *Repo) Receive(ctx context.Context, pack io.Reader, shallow []Hash) (*Incoming, error) {
	dir, err := os.MkdirTemp(filepath.Join(r.dir, "objects"), "incoming-")
	if err != nil {
		return nil, fmt.Errorf("receive pack: %w", err)
	}
	in := &Incoming{repo: r, dir: dir}
	if err := in.receive(ctx, pack, shallow); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return in, nil
}

func (in *Incoming) receive(ctx context.Context, pack io.Reader, shallow []Hash) error {
	r := in.repo
	file, err := os.OpenFile(filepath.Join(in.dir, "pack"), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 64<<10)
	s := scanner{
		in:     newInput(contextReader{ctx, pack}, out, r.limits.Pack),
		limits: r.limits, budget: r.limits.Inflated,
		links: linkSet{named: map[Hash]Hash{}, max: 2 * r.limits.Objects, shallow: func(h Hash) bool {
			return slices.Contains(shallow, h) || r.IsShallow(h)
		}},
	}
	entries, sum, err := s.scan()
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return err
	}
	in.entries, in.sum = entries, sum
	res := resolver{file: file, entries: entries, limits: r.limits, budget: &s.budget, links: &s.links}
	if err := res.resolve(); err != nil {
		return err
	}
	idx, err := os.OpenFile(filepath.Join(in.dir, "idx"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	defer idx.Close()
	if err := writeIndex(idx, entries, sum); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	if err := in.check(&s.links); err != nil {
		return err
	}
	if err := canceled(ctx); err != nil {
		return err
	}
	// Both syncs at once: together they take little longer than one.
	synced := make(chan error, 1)
	go func() { synced <- idx.Sync() }()
	err = file.Sync()
	if e := <-synced; err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("sync pack: %w", err)
	}
	return nil
}

// check says whether the pack holds nothing twice and names nothing that is not there.
func (in *Incoming) check(links *linkSet) error {
	for i := 1; i < len(in.entries); i++ {
		if in.entries[i].id == in.entries[i-1].id {
			return fmt.Errorf("pack: holds %s %s twice", in.entries[i].kind, in.entries[i].id)
		}
	}
	for h, by := range links.named {
		if _, ok := in.find(h); !ok && !in.repo.Has(h) {
			return fmt.Errorf("pack: object %s, which %s names, is neither in the pack nor in the repository", h, by)
		}
	}
	return nil
}

func (in *Incoming) find(h Hash) (Kind, bool) {
	i := sort.Search(len(in.entries), func(i int) bool { return bytes.Compare(in.entries[i].id[:], h[:]) >= 0 })
	if i < len(in.entries) && in.entries[i].id == h {
		return in.entries[i].kind, true
	}
	return 0, false
}

// Kind returns what h is, in the pack or in the repository.
func (in *Incoming) Kind(h Hash) (Kind, error) {
	if k, ok := in.find(h); ok {
		return k, nil
	}
	k, _, err := in.repo.Read(h)
	return k, err
}

// Discard throws the pack away.
func (in *Incoming) Discard() { os.RemoveAll(in.dir) }

// Publish makes the objects part of the repository, for good: what it returns nil for survives a crash.
func (in *Incoming) Publish() error {
	defer os.RemoveAll(in.dir)
	if len(in.entries) == 0 {
		return nil
	}
	r := in.repo
	r.publish.Lock()
	defer r.publish.Unlock()
	packs := *r.packs.Load()
	path := filepath.Join(r.dir, "objects", "pack", "pack-"+in.sum.String())
	for _, p := range packs {
		if p.path == path {
			return nil // the same pack again
		}
	}
	for _, end := range []string{"idx", "pack"} { // the pack last: it is what counts
		if err := os.Rename(filepath.Join(in.dir, end), path+"."+end); err != nil {
			return fmt.Errorf("publish pack: %w", err)
		}
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("publish pack: %w", err)
	}
	p, err := openPack(path)
	if err != nil {
		return fmt.Errorf("publish pack: %w", err)
	}
	packs = slices.Concat([]*pack{p}, packs)
	r.packs.Store(&packs)
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := canceled(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
