package gitsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// The errors callers ask for.
var (
	ErrMissing = bare.ErrMissing // an object is not in the mirror
	ErrCorrupt = bare.ErrCorrupt // bytes on disk are not what their id says
	ErrMoved   = bare.ErrMoved   // a ref is not where the caller thought
	ErrNoRef   = errors.New("no such ref")
)

// hiddenRefs are the mirror's own: no client sees or moves them.
const hiddenRefs = "refs/shoal/"

// Mirror is a bare repository that is fetched into and pushed to. Its methods are safe for concurrent use.
type Mirror struct {
	opt  Options
	repo *bare.Repo

	check   sync.Mutex // guards checker
	checker source.Checker
	trees   treeCache

	fetching sync.Mutex // one fetch at a time
	wake     chan struct{}
	updates  chan Update

	clientOnce sync.Once // guards making client
	client     *http.Client
	clientErr  error

	closing    context.Context // of background work: ends with Close
	close      context.CancelFunc
	background sync.WaitGroup
	compacting atomic.Bool
	collected  atomic.Int64 // bytes of the repository after the last collection
	// incoming is held for reading while a pack comes in until refs name it, for writing while objects are dropped.
	incoming sync.RWMutex

	rebuilt string // why the repository was begun anew at Open, or ""
}

// Open opens or makes the mirror. It does not touch the network. What a crash left half done is removed. A
// repository found damaged is set aside and begun anew if there is a URL to fill it from, with all pinned commits
// that can still be read; Rebuilt tells. Without a URL the damage is an error that is ErrCorrupt, and nothing
// is changed.
func Open(ctx context.Context, opt Options) (*Mirror, error) {
	opt = opt.WithDefaults()
	if err := opt.Check(); err != nil {
		return nil, err
	}
	repo, why, err := openOrRebuild(ctx, opt)
	if err != nil {
		return nil, err
	}
	m := &Mirror{opt: opt, repo: repo, wake: make(chan struct{}, 1), updates: make(chan Update, 1), rebuilt: why}
	m.closing, m.close = context.WithCancel(context.WithoutCancel(ctx))
	m.trees.limit = 8 << 20
	m.collected.Store(repo.Size())
	return m, nil
}

// Close lets go of the repository. Trees that were handed out may fail from now on.
func (m *Mirror) Close() {
	m.close()
	m.background.Wait()
	m.repo.Close()
}

// Rebuilt says why the repository was set aside and begun anew at Open, or "".
func (m *Mirror) Rebuilt() string { return m.rebuilt }

// Dir is where the bare repository lies.
func (m *Mirror) Dir() string { return m.repo.Dir() }

// Head returns the commit a ref stands for, short name or full. An absent one is an error that is ErrNoRef.
func (m *Mirror) Head(ref string) (source.ID, error) {
	h, ok := m.repo.Ref(source.FullRefName(ref))
	if !ok {
		return "", fmt.Errorf("%s: %w", ref, ErrNoRef)
	}
	return source.ID(h.String()), nil
}

// Refs lists the refs that clients may see, by name.
func (m *Mirror) Refs() []source.Ref {
	all := m.repo.Refs()
	var refs []source.Ref
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(name, hiddenRefs) {
			refs = append(refs, source.Ref{Name: name, ID: source.ID(all[name].String())})
		}
	}
	return refs
}

// DefaultRef is the full name of the default branch, which may not exist yet.
func (m *Mirror) DefaultRef() string { return m.opt.Branch }

// Has says whether an object is in the mirror.
func (m *Mirror) Has(id source.ID) bool {
	h, err := toHash(id)
	return err == nil && m.repo.Has(h)
}

// Shallow lists the commits where history ends although they name parents.
func (m *Mirror) Shallow() []source.ID { return toIDs(m.repo.Shallow()) }

// Commit returns what a commit says about itself.
func (m *Mirror) Commit(ctx context.Context, id source.ID) (source.Commit, error) {
	h, err := toHash(id)
	if err != nil {
		return source.Commit{}, err
	}
	raw, err := m.repo.ReadKind(h, bare.Commit)
	if err != nil {
		return source.Commit{}, fmt.Errorf("read commit: %w", err)
	}
	return source.ParseCommit(id, raw)
}

// Tree returns the tree of a commit after it passed source's check; a tree that does not is a *source.Fault.
// Directories and files are read when they are asked for. Trees of any number may be read at once.
func (m *Mirror) Tree(ctx context.Context, commit source.ID) (source.Tree, error) {
	c, err := m.Commit(ctx, commit)
	if err != nil {
		return nil, err
	}
	m.check.Lock()
	err = m.checker.Check(objects{m}, c.Tree)
	m.check.Unlock()
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit.Short(), err)
	}
	return source.New(commit, c.Tree, objects{m}), nil
}

// Log returns at most max commits from tip back, newest first. It ends early where the mirror's history does.
func (m *Mirror) Log(ctx context.Context, tip source.ID, max int) ([]source.Commit, error) {
	h, err := toHash(tip)
	if err != nil {
		return nil, err
	}
	list, err := bare.Log(ctx, m.repo, h, max)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	commits := make([]source.Commit, len(list))
	for i, h := range list {
		if commits[i], err = m.Commit(ctx, source.ID(h.String())); err != nil {
			return nil, err
		}
	}
	return commits, nil
}

// IsAncestor says whether old is tip or one of its ancestors, as far as the mirror's history reaches.
func (m *Mirror) IsAncestor(ctx context.Context, old, tip source.ID) (bool, error) {
	a, err := toHash(old)
	if err != nil {
		return false, err
	}
	b, err := toHash(tip)
	if err != nil {
		return false, err
	}
	is, _, err := bare.IsAncestor(ctx, m.repo, a, b)
	return is, err
}

// Relation says how tip stands to old, for source.Policy to judge. Both must be in the mirror.
func (m *Mirror) Relation(ctx context.Context, old, tip source.ID) (source.Relation, error) {
	a, err := toHash(old)
	if err != nil {
		return 0, err
	}
	b, err := toHash(tip)
	if err != nil {
		return 0, err
	}
	if a == b {
		return source.Same, nil
	}
	forward, sureF, err := bare.IsAncestor(ctx, m.repo, a, b)
	if err != nil {
		return 0, fmt.Errorf("relation: %w", err)
	}
	if forward {
		return source.Forward, nil
	}
	backward, sureB, err := bare.IsAncestor(ctx, m.repo, b, a)
	switch {
	case err != nil:
		return 0, fmt.Errorf("relation: %w", err)
	case backward:
		return source.Backward, nil
	case sureF && sureB:
		return source.Diverged, nil
	}
	return source.Unrelated, nil
}

// Receive takes a push: it reads pack (nil if the updates only delete), checks it whole, puts its objects safely
// on disk, asks accept, and then moves all refs by compare-and-swap or none. When it returns nil, the push
// survives any crash. Objects of a push that was not accepted stay unseen until the next compaction.
func (m *Mirror) Receive(ctx context.Context, updates []source.RefUpdate, pack io.Reader, accept func(context.Context) error) error {
	moves, err := m.moves(updates)
	if err != nil {
		return err
	}
	m.incoming.RLock()
	defer m.incoming.RUnlock()
	if pack != nil {
		in, err := m.repo.Receive(ctx, pack, nil)
		if err != nil {
			return err
		}
		if err := in.Publish(); err != nil {
			return err
		}
	}
	for _, mv := range moves {
		if mv.New.IsZero() {
			continue
		}
		k, _, err := m.repo.Read(mv.New)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", mv.Name, err)
		case k != bare.Commit && (k != bare.Tag || strings.HasPrefix(mv.Name, "refs/heads/")):
			return fmt.Errorf("%s: %s is a %s, expected a commit", mv.Name, mv.New, k)
		}
	}
	if accept != nil {
		if err := accept(ctx); err != nil {
			return err
		}
	}
	if err := m.repo.UpdateRefs(moves); err != nil {
		return err
	}
	m.compactIfNeeded()
	return nil
}

// moves turns updates into moves after a look at their names and old values, before anything is read.
func (m *Mirror) moves(updates []source.RefUpdate) ([]bare.Move, error) {
	moves := make([]bare.Move, len(updates))
	seen := map[string]bool{}
	for i, u := range updates {
		if err := source.CheckRefName(u.Name); err != nil {
			return nil, err
		}
		if strings.HasPrefix(u.Name, hiddenRefs) {
			return nil, fmt.Errorf("%s: names below %s are Shoal's own", u.Name, hiddenRefs)
		}
		if seen[u.Name] {
			return nil, fmt.Errorf("%s: stands twice in one push", u.Name)
		}
		seen[u.Name] = true
		moves[i].Name = u.Name
		for _, v := range []struct {
			id source.ID
			to *bare.Hash
		}{{u.Old, &moves[i].Old}, {u.New, &moves[i].New}} {
			if v.id == "" {
				continue
			}
			h, err := toHash(v.id)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", u.Name, err)
			}
			*v.to = h
		}
		if now, _ := m.repo.Ref(u.Name); now != moves[i].Old {
			return nil, fmt.Errorf("%s: %w", u.Name, ErrMoved)
		}
	}
	return moves, nil
}

// Write commits tree to ref, which must be at old ("" creates it), and returns the new commit's id. c gives the
// people and the message; its parents are old alone unless c names others. Only trees made by source.FromFS
// or by a mirror can be written. A tree equal to that of old is not committed again: old is returned.
func (m *Mirror) Write(ctx context.Context, ref string, old source.ID, tree source.Tree, c source.Commit) (source.ID, error) {
	ref = source.FullRefName(ref)
	if old != "" && len(c.Parents) == 0 {
		c.Parents = []source.ID{old}
	}
	type object struct {
		kind bare.Kind
		raw  []byte
	}
	var list []object
	root, err := source.Walk(tree, func(id source.ID) bool { return !m.Has(id) }, func(_ source.ID, kind string, raw []byte) error {
		k := bare.Blob
		if kind == "tree" {
			k = bare.Tree
		}
		list = append(list, object{k, raw})
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("write commit: %w", err)
	}
	if old != "" {
		before, err := m.Commit(ctx, old)
		if err != nil {
			return "", err
		}
		if before.Tree == root && len(c.Parents) == 1 {
			return old, nil
		}
	}
	c.Tree = root
	raw := source.EncodeCommit(c)
	list = append(list, object{bare.Commit, raw})
	var pack bytes.Buffer
	w, err := bare.NewPackWriter(&pack, len(list))
	if err != nil {
		return "", err
	}
	for _, o := range list {
		if err := w.Add(o.kind, o.raw); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	id := source.ObjectID("commit", raw)
	if err := m.Receive(ctx, []source.RefUpdate{{Name: ref, Old: old, New: id}}, &pack, nil); err != nil {
		return "", fmt.Errorf("write commit: %w", err)
	}
	return id, nil
}

// Prepare finds what a client lacks that wants and has these objects, and whose own history ends at shallow. It
// returns where that history ends and goes on from now on, and what writes the pack.
func (m *Mirror) Prepare(ctx context.Context, want, have, shallow []source.ID, depth int) (ends, goesOn []source.ID, send func(io.Writer) error, err error) {
	ask := bare.Ask{Depth: depth}
	for _, l := range []struct {
		from []source.ID
		to   *[]bare.Hash
	}{{want, &ask.Want}, {have, &ask.Have}, {shallow, &ask.Shallow}} {
		for _, id := range l.from {
			h, err := toHash(id)
			if err != nil {
				return nil, nil, nil, err
			}
			*l.to = append(*l.to, h)
		}
	}
	a, err := bare.Missing(ctx, m.repo, ask)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("find missing objects: %w", err)
	}
	return toIDs(a.Shallow), toIDs(a.Unshallow), func(w io.Writer) error { return a.WriteTo(ctx, w) }, nil
}

// objects is the mirror as source sees it.
type objects struct{ m *Mirror }

func (o objects) Items(id source.ID) ([]source.Item, error) {
	if items, ok := o.m.trees.get(id); ok {
		return items, nil
	}
	raw, err := o.read(id, bare.Tree)
	if err != nil {
		return nil, err
	}
	items, err := source.ParseTree(raw)
	if err != nil {
		return nil, &source.Fault{Path: "tree " + string(id), Text: err.Error()}
	}
	o.m.trees.put(id, items)
	return items, nil
}

func (o objects) Blob(id source.ID) ([]byte, error) { return o.read(id, bare.Blob) }

func (o objects) read(id source.ID, k bare.Kind) ([]byte, error) {
	h, err := toHash(id)
	if err != nil {
		return nil, err
	}
	raw, err := o.m.repo.ReadKind(h, k)
	if errors.Is(err, bare.ErrMissing) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return raw, err
}

func toHash(id source.ID) (h bare.Hash, err error) {
	if !id.Valid() {
		return h, fmt.Errorf("%.80q is no object id", string(id))
	}
	for i := range h {
		h[i] = unhex(id[2*i])<<4 | unhex(id[2*i+1])
	}
	return h, nil
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}

func toIDs(list []bare.Hash) []source.ID {
	ids := make([]source.ID, len(list))
	for i, h := range list {
		ids[i] = source.ID(h.String())
	}
	return ids
}
