package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/shoal-dev/shoal/engine/source"
)

// history is a Git repository of this machine, read by go-git without a git binary. Nothing is written to it.
type history struct {
	store storer.Storer
	top   string // the work tree, "" for a bare repository
}

// revision is a commit somebody named.
type revision struct {
	commit source.Commit
	branch string // "refs/heads/main" if it was named by a branch, of this repository or of a remote; else ""
}

// openHistory opens the repository that dir is in, or that dir is.
func openHistory(dir string) (*history, error) {
	repo, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true}) // a bare one, or the top of one
	if errors.Is(err, git.ErrRepositoryNotExists) {
		repo, err = git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true, DetectDotGit: true})
	}
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return nil, fmt.Errorf("%s is not in a Git repository: a commit cannot be looked up there", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the repository of %s: %w", dir, err)
	}
	h := &history{store: repo.Storer}
	if w, err := repo.Worktree(); err == nil {
		h.top = w.Filesystem.Root()
	}
	return h, nil
}

// below is the path of dir in the trees of the repository, "." for all of it.
func (h *history) below(dir string) (string, error) {
	if h.top == "" {
		return ".", nil
	}
	top, err := filepath.EvalSymlinks(h.top)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	rel, err := filepath.Rel(top, dir)
	return filepath.ToSlash(rel), err
}

var (
	steps   = regexp.MustCompile(`([~^]\d*)+$`)
	shortID = regexp.MustCompile(`^[0-9a-f]{4,40}$`)
)

// maxSteps bounds how far back a revision may go, as main~1000 does.
const maxSteps = 100_000

// resolve finds the commit that a revision names: a branch, a tag, a remote's branch (origin/main), HEAD, an id or the
// first 4 digits of one or more, each followed by any number of ~N and ^N, as in Git. A name goes before an id.
func (h *history) resolve(rev string) (revision, error) {
	base, back := rev, ""
	if i := steps.FindStringIndex(rev); i != nil {
		base, back = rev[:i[0]], rev[i[0]:]
	}
	id, branch, err := h.base(base)
	if err != nil {
		return revision{}, err
	}
	for back != "" {
		op, digits := back[0], back[1:]
		if i := strings.IndexAny(digits, "~^"); i >= 0 {
			digits, back = digits[:i], digits[i:]
		} else {
			back = ""
		}
		n := 1
		if digits != "" {
			if n, err = strconv.Atoi(digits); err != nil || n > maxSteps {
				return revision{}, fmt.Errorf("revision %q: %c%s goes too far back", rev, op, digits)
			}
		}
		if id, err = h.step(id, op, n); err != nil {
			return revision{}, fmt.Errorf("revision %q: %w", rev, err)
		}
		branch = ""
	}
	c, err := h.commit(id)
	if err != nil {
		return revision{}, fmt.Errorf("revision %q: %w", rev, err)
	}
	return revision{c, branch}, nil
}

// step goes to the nth parent (^), or n times to the first (~).
func (h *history) step(id plumbing.Hash, op byte, n int) (plumbing.Hash, error) {
	which, times := 1, n
	if op == '^' {
		which, times = n, min(n, 1) // ^0 is the commit itself
	}
	for range times {
		c, err := h.commit(id)
		if err != nil {
			return id, err
		}
		if which > len(c.Parents) {
			return id, fmt.Errorf("commit %s has %d parents", c.ID.Short(), len(c.Parents))
		}
		id = plumbing.NewHash(string(c.Parents[which-1]))
	}
	return id, nil
}

// base finds a name or an id.
func (h *history) base(name string) (id plumbing.Hash, branch string, err error) {
	for _, pattern := range []string{"%s", "refs/%s", "refs/tags/%s", "refs/heads/%s", "refs/remotes/%s", "refs/remotes/%s/HEAD"} {
		full := fmt.Sprintf(pattern, name)
		if full != "HEAD" && source.CheckRefName(full) != nil || pattern == "%s" && full != "HEAD" && !strings.HasPrefix(full, "refs/") {
			continue
		}
		ref, err := storer.ResolveReference(h.store, plumbing.ReferenceName(full))
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			continue
		}
		if err != nil {
			return id, "", fmt.Errorf("revision %q: %w", name, err)
		}
		id, err = h.peel(ref.Hash())
		return id, branchOf(ref.Name()), err
	}
	if !shortID.MatchString(name) {
		return id, "", h.unknown(name)
	}
	if id, err = h.prefixed(name); err != nil {
		return id, "", err
	}
	return id, "", nil
}

// branchOf is the branch that a ref stands for: refs/remotes/origin/main follows refs/heads/main.
func branchOf(ref plumbing.ReferenceName) string {
	if ref.IsBranch() {
		return ref.String()
	}
	if rest, ok := strings.CutPrefix(ref.String(), "refs/remotes/"); ok {
		if _, branch, ok := strings.Cut(rest, "/"); ok {
			return "refs/heads/" + branch
		}
	}
	return ""
}

// unknown says what there is instead of a revision that is not there.
func (h *history) unknown(name string) error {
	const most = 10
	var names []string
	if refs, err := h.store.IterReferences(); err == nil {
		_ = refs.ForEach(func(r *plumbing.Reference) error {
			if r.Name().IsBranch() || r.Name().IsTag() || r.Name().IsRemote() {
				names = append(names, r.Name().Short())
			}
			return nil
		})
	}
	slices.Sort(names)
	if len(names) > most {
		names = append(names[:most], "...")
	}
	there := "it has no branch yet"
	if len(names) > 0 {
		there = "it has " + strings.Join(names, ", ")
	}
	return unknownRevision{fmt.Sprintf("no commit %q in this repository: expected a branch, a tag, or an id of at least 4 digits; %s", name, there)}
}

// unknownRevision says that a repository has no such commit, which another may have.
type unknownRevision struct{ text string }

func (e unknownRevision) Error() string { return e.text }

// prefixed finds the one commit whose id begins with digits.
func (h *history) prefixed(digits string) (found plumbing.Hash, err error) {
	if len(digits) == 40 {
		if found, err = h.peel(plumbing.NewHash(digits)); errors.Is(err, plumbing.ErrObjectNotFound) {
			err = h.unknown(digits)
		}
		return found, err
	}
	type finder interface {
		HashesWithPrefix(prefix []byte) ([]plumbing.Hash, error)
	}
	whole, _ := hex.DecodeString(digits[:len(digits)&^1])
	var ids []plumbing.Hash
	if f, ok := h.store.(finder); ok {
		if ids, err = f.HashesWithPrefix(whole); err != nil {
			return found, fmt.Errorf("look for commit %s: %w", digits, err)
		}
	}
	var fits []string
	for _, id := range ids {
		if !strings.HasPrefix(id.String(), digits) {
			continue
		}
		commit, err := h.peel(id)
		if err == nil && !slices.Contains(fits, commit.String()) {
			found, fits = commit, append(fits, commit.String())
		}
	}
	switch len(fits) {
	case 0:
		return found, h.unknown(digits)
	case 1:
		return found, nil
	}
	slices.Sort(fits)
	return found, fmt.Errorf("%s fits %d commits: %s", digits, len(fits), strings.Join(fits, ", "))
}

// peel is the commit that an annotated tag, or a tag of tags, stands for.
func (h *history) peel(id plumbing.Hash) (plumbing.Hash, error) {
	for range 8 {
		o, err := h.store.EncodedObject(plumbing.AnyObject, id)
		if err != nil {
			return id, fmt.Errorf("object %s: %w", id, err)
		}
		switch o.Type() {
		case plumbing.CommitObject:
			return id, nil
		case plumbing.TagObject:
			raw, err := h.read(id, plumbing.TagObject, 1<<20)
			if err != nil {
				return id, err
			}
			target, ok := strings.CutPrefix(strings.SplitN(string(raw), "\n", 2)[0], "object ")
			if !ok || !source.ID(target).Valid() {
				return id, fmt.Errorf("tag %s: expected \"object <id>\" first", id)
			}
			id = plumbing.NewHash(target)
		default:
			return id, fmt.Errorf("object %s is a %s, expected a commit", id, o.Type())
		}
	}
	return id, fmt.Errorf("tag %s: a tag of a tag of a tag", id)
}

func (h *history) commit(id plumbing.Hash) (source.Commit, error) {
	raw, err := h.read(id, plumbing.CommitObject, source.MaxFile)
	if err != nil {
		return source.Commit{}, fmt.Errorf("commit %s: %w (a shallow clone has only the newest: git fetch --unshallow)", source.ID(id.String()).Short(), err)
	}
	return source.ParseCommit(source.ID(id.String()), raw)
}

// manifests is the directory of a commit's shoal.cue: the nearest one from below upwards, or the top if there is none.
// What is checked out does not matter.
func (h *history) manifests(c source.Commit, below string) string {
	all := source.New(c.ID, c.Tree, h)
	for at := below; at != "."; at = path.Dir(at) {
		if _, err := all.Lookup(path.Join(at, "shoal.cue")); err == nil {
			return at
		}
	}
	return "."
}

// tree is a directory of a commit, checked as a node would check it.
func (h *history) tree(c source.Commit, dir string) (source.Tree, error) {
	root := c.Tree
	if dir != "." {
		e, err := source.New(c.ID, c.Tree, h).Lookup(dir)
		if err != nil {
			return nil, fmt.Errorf("commit %s: %w", c.ID.Short(), err)
		}
		root = e.ID
	}
	var checker source.Checker
	if err := checker.Check(h, root); err != nil {
		return nil, fmt.Errorf("commit %s: %w", c.ID.Short(), err)
	}
	return source.New(c.ID, root, h), nil
}

// Items and Blob make it source.Objects.
func (h *history) Items(id source.ID) ([]source.Item, error) {
	raw, err := h.read(plumbing.NewHash(string(id)), plumbing.TreeObject, source.MaxFile)
	if err != nil {
		return nil, err
	}
	return source.ParseTree(raw)
}

func (h *history) Blob(id source.ID) ([]byte, error) {
	return h.read(plumbing.NewHash(string(id)), plumbing.BlobObject, source.MaxFile)
}

// read is the bytes of an object, which are at most limit long.
func (h *history) read(id plumbing.Hash, kind plumbing.ObjectType, limit int64) ([]byte, error) {
	o, err := h.store.EncodedObject(kind, id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, fmt.Errorf("%s %s: %w", kind, id, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, id, err)
	}
	if o.Size() > limit {
		return nil, fmt.Errorf("%s %s is %d bytes long; at most %d", kind, id, o.Size(), limit)
	}
	r, err := o.Reader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw := make([]byte, o.Size())
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, id, err)
	}
	return raw, nil
}
