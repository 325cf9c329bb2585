package gitsync

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// maxMergeHistory bounds the commits of a head that its base does not have.
const maxMergeHistory = 10_000

// maxBases bounds in how many commits two lines may have parted, and how often those may have crossed in turn.
const maxBases = 4

// Merge makes the commit that merges head into base, as git would without looking for renames, and stores it: no ref stands for it, so
// who wants it kept pins it. c gives the people and the message; the same arguments give the same id. conflicts are the paths at which
// both sides cannot be had, in words; then there is no commit.
func (m *Mirror) Merge(ctx context.Context, base, head source.ID, c source.Commit) (id source.ID, conflicts []string, err error) {
	ours, err := m.Commit(ctx, base)
	if err != nil {
		return "", nil, err
	}
	theirs, err := m.Commit(ctx, head)
	if err != nil {
		return "", nil, err
	}
	before, conflicts, err := m.before(ctx, base, head, 0)
	if err != nil || len(conflicts) > 0 {
		return "", conflicts, err
	}
	merged, err := preview.Merge3(objects{m}, before, ours.Tree, theirs.Tree)
	if err != nil {
		return "", nil, fmt.Errorf("merge %s into %s: %w", head.Short(), base.Short(), err)
	}
	for _, x := range merged.Conflicts {
		conflicts = append(conflicts, x.Path+": "+x.Why)
	}
	if len(conflicts) > 0 {
		return "", conflicts, nil
	}
	c.Tree, c.Parents = merged.Tree, []source.ID{base, head}
	raw := source.EncodeCommit(c)
	id = source.ObjectID("commit", raw)
	if m.Has(id) {
		return id, nil, nil
	}
	return id, nil, m.store(ctx, merged.Objects, raw)
}

// store puts objects into the mirror, and a commit unless that is nil.
func (m *Mirror) store(ctx context.Context, objects []preview.NewObject, commit []byte) error {
	n := len(objects)
	if commit != nil {
		n++
	}
	if n == 0 {
		return nil
	}
	var pack bytes.Buffer
	w, err := bare.NewPackWriter(&pack, n)
	if err != nil {
		return err
	}
	for _, o := range objects {
		kind := bare.Blob
		if o.Kind == "tree" {
			kind = bare.Tree
		}
		if err := w.Add(kind, o.Raw); err != nil {
			return err
		}
	}
	if commit != nil {
		if err := w.Add(bare.Commit, commit); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	m.incoming.RLock()
	defer m.incoming.RUnlock()
	in, err := m.repo.Receive(ctx, &pack, nil)
	if err != nil {
		return err
	}
	return in.Publish()
}

// before is the tree that two lines have in common: that of the newest commit which both have. Where their histories cross there are several
// such commits, and it is what those come to merged. conflicts say why there is none.
func (m *Mirror) before(ctx context.Context, a, b source.ID, level int) (tree source.ID, conflicts []string, err error) {
	bases, cut, err := m.bases(ctx, a, b)
	if err == nil && cut { // they may have parted before the history that was fetched begins
		if _, err = m.Deepen(ctx); err == nil {
			bases, _, err = m.bases(ctx, a, b)
		}
	}
	if err != nil {
		return "", nil, err
	}
	if len(bases) == 0 {
		return "", []string{"its history: it has no commit in common with that of its base"}, nil
	}
	if len(bases) > maxBases || len(bases) > 1 && level >= maxBases {
		return "", []string{"its history: it crosses that of its base too often"}, nil
	}
	first, err := m.Commit(ctx, bases[0])
	if err != nil {
		return "", nil, err
	}
	tree = first.Tree
	for _, next := range bases[1:] {
		other, err := m.Commit(ctx, next)
		if err != nil {
			return "", nil, err
		}
		common, conflicts, err := m.before(ctx, bases[0], next, level+1)
		if err != nil || len(conflicts) > 0 {
			return "", conflicts, err
		}
		merged, err := preview.Merge3(objects{m}, common, tree, other.Tree)
		if err != nil {
			return "", nil, err
		}
		if len(merged.Conflicts) > 0 {
			return "", []string{"its history: it crosses that of its base, which conflicts there in " + merged.Conflicts[0].Path}, nil
		}
		if err := m.store(ctx, merged.Objects, nil); err != nil {
			return "", nil, err
		}
		tree = merged.Tree
	}
	return tree, nil, nil
}

// bases are the commits that two lines have in common and that no other such commit comes after, by id. cut says that this mirror's history
// may not reach back to them.
func (m *Mirror) bases(ctx context.Context, a, b source.ID) (bases []source.ID, cut bool, err error) {
	own, known, cut, err := m.Since(ctx, a, b, maxMergeHistory)
	if err != nil || cut && len(known) == 0 {
		return nil, cut, err
	}
	if len(own) == 0 { // a has all of b
		return []source.ID{b}, false, nil
	}
	slices.Sort(known)
	known = slices.Compact(known)
	if len(known) > 4*maxBases {
		return known, false, nil
	}
	for _, k := range known {
		after := false
		for _, o := range known {
			if is, err := m.IsAncestor(ctx, k, o); err != nil {
				return nil, false, err
			} else if is && o != k {
				after = true
			}
		}
		if !after {
			bases = append(bases, k)
		}
	}
	return bases, false, nil
}
