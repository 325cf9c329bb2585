package gitsync

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// maxMergeHistory bounds the commits that are looked at for where two lines parted.
const maxMergeHistory = 20_000

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
	parted, err := m.parted(ctx, base, head)
	if err != nil {
		return "", nil, err
	}
	before := source.EmptyTree
	if parted != "" {
		at, err := m.Commit(ctx, parted)
		if err != nil {
			return "", nil, err
		}
		before = at.Tree
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
	var pack bytes.Buffer
	w, err := bare.NewPackWriter(&pack, len(merged.Objects)+1)
	if err != nil {
		return "", nil, err
	}
	for _, o := range merged.Objects {
		kind := bare.Blob
		if o.Kind == "tree" {
			kind = bare.Tree
		}
		if err := w.Add(kind, o.Raw); err != nil {
			return "", nil, err
		}
	}
	if err := w.Add(bare.Commit, raw); err != nil {
		return "", nil, err
	}
	if err := w.Close(); err != nil {
		return "", nil, err
	}
	m.incoming.RLock()
	defer m.incoming.RUnlock()
	in, err := m.repo.Receive(ctx, &pack, nil)
	if err != nil {
		return "", nil, err
	}
	return id, nil, in.Publish()
}

// parted is the newest commit that both lines have, "" if there is none.
func (m *Mirror) parted(ctx context.Context, a, b source.ID) (source.ID, error) {
	ha, err := toHash(a)
	if err != nil {
		return "", err
	}
	hb, err := toHash(b)
	if err != nil {
		return "", err
	}
	ours, err := bare.Log(ctx, m.repo, ha, maxMergeHistory)
	if err != nil {
		return "", err
	}
	has := make(map[bare.Hash]bool, len(ours))
	for _, h := range ours {
		has[h] = true
	}
	theirs, err := bare.Log(ctx, m.repo, hb, maxMergeHistory)
	if err != nil {
		return "", err
	}
	for _, h := range theirs {
		if has[h] {
			return source.ID(h.String()), nil
		}
	}
	return "", nil
}

// pullRefs are below what forges have the heads of pull requests and merge requests.
var pullRefs = []string{"refs/pull/", "refs/merge-requests/"}

// Prune forgets the refs of pull requests but those to keep, by full name.
func (m *Mirror) Prune(keep []string) error {
	if m.opt.URL == "" {
		return nil // who pushed them here may take them away
	}
	var moves []bare.Move
	for _, r := range m.Refs() {
		below := slices.ContainsFunc(pullRefs, func(prefix string) bool { return strings.HasPrefix(r.Name, prefix) })
		if below && !slices.Contains(keep, r.Name) {
			moves = append(moves, bare.Move{Name: r.Name, Force: true})
		}
	}
	if len(moves) == 0 {
		return nil
	}
	return m.repo.UpdateRefs(moves)
}
