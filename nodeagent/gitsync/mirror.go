package gitsync

import (
	"context"
	"errors"
	"fmt"
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

	follow   atomic.Pointer[[]string] // the branches that are fetched, full names
	fetching sync.Mutex               // one fetch at a time
	taking   sync.Mutex               // one TakeFrom at a time
	claim    atomic.Pointer[source.Claim]
	refused  map[bare.Hash]int // guarded by fetching: tags that are no approvals, and how often they did not come
	claimAt  int64             // guarded by fetching: claim is at least as new, in ms of deadline.Now; 0: it is from the disk
	wake     chan struct{}
	updates  chan Update
	seen     atomic.Int64 // when the last fetch of Run that worked began, in ms of deadline.Now
	failing  atomic.Bool  // one came after it that did not

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
	m.follow.Store(&opt.Branches)
	if err := m.openClaim(); err != nil {
		m.Close()
		return nil, err
	}
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

// Follow says which branches are fetched from now on beside the default one, by full name; those that are new are
// fetched at once. What is not followed any more stays where it is. Names that no branch can have are left out.
func (m *Mirror) Follow(refs []string) {
	branches := []string{m.opt.Branch}
	for _, name := range refs {
		if source.CheckRefName(name) == nil && !strings.HasPrefix(name, hiddenRefs) {
			branches = append(branches, name)
		}
	}
	slices.Sort(branches)
	branches = slices.Compact(branches)
	before := *m.follow.Swap(&branches)
	if slices.ContainsFunc(branches, func(b string) bool { return !slices.Contains(before, b) }) && m.every() <= m.opt.Interval {
		m.Wake()
	}
}

// Builtin says that the mirror is the repository itself: there is no host to fetch from.
func (m *Mirror) Builtin() bool { return m.opt.URL == "" }

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
