package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// maxBrought bounds what a plan brings along, in bytes: the agent takes 64 MiB, in which bytes are a third longer.
const maxBrought = 45 << 20

// planTrees finds the trees that are planned, and collects what the agent lacks of them.
type planTrees struct {
	client  *api.Client
	dir     string // "": that in which the command was given
	objects []api.GitObject
	size    int
	seen    map[source.ID]bool
	local   []error // why revisions were not found here; the agent may know them
}

// find names a tree to the agent: a commit, or the working tree for "".
func (t *planTrees) find(ctx context.Context, rev string) (*api.Tree, error) {
	dir := t.dir
	if dir == "" {
		dir = "."
	}
	if rev == "" {
		root, err := repositoryRoot(dir)
		if err != nil {
			return nil, err
		}
		tree, err := (&local{dir: root}).tree(ctx)
		if err != nil {
			return nil, err
		}
		return t.bring(ctx, tree, api.Tree{Name: "the working tree"}, nil)
	}
	h, err := openHistory(dir)
	if err != nil && t.dir == "" {
		t.local = append(t.local, err)
		return &api.Tree{Name: rev, Revision: rev}, nil
	}
	if err != nil {
		return nil, err
	}
	at, err := h.resolve(rev)
	if _, unknown := errors.AsType[unknownRevision](err); unknown {
		t.local = append(t.local, err)
		return &api.Tree{Name: rev, Revision: rev}, nil
	}
	if err != nil {
		return nil, err
	}
	below, err := h.below(dir)
	if err != nil {
		return nil, err
	}
	tree, err := h.tree(at.commit, h.manifests(at.commit, below))
	if err != nil {
		return nil, err
	}
	return t.bring(ctx, tree, api.Tree{Name: rev, Commit: string(at.commit.ID), Branch: at.branch, Message: at.commit.Message}, h)
}

// explain adds why a revision that the agent does not know either was not found here.
func (t *planTrees) explain(err error) error {
	if !errors.Is(err, api.ErrNotFound) {
		return err
	}
	said := map[string]bool{}
	var all []error
	for _, e := range append(t.local, err) {
		if !said[e.Error()] {
			said[e.Error()], all = true, append(all, e)
		}
	}
	return errors.Join(all...)
}

// bring collects the objects of a tree that the agent lacks. Directories that it has are not looked into.
func (t *planTrees) bring(ctx context.Context, tree source.Tree, named api.Tree, h *history) (*api.Tree, error) {
	root, err := source.Walk(tree, func(source.ID) bool { return false }, nil)
	if err != nil {
		return nil, err
	}
	named.Root = string(root)
	lacking, err := t.lacking(ctx, tree, root)
	if err != nil {
		return nil, err
	}
	_, err = source.Walk(tree, func(id source.ID) bool { return lacking[id] }, func(id source.ID, kind string, raw []byte) error {
		if source.ObjectID(kind, raw) != id && h != nil { // a tree of an old Git, which writes modes otherwise
			if raw, err = h.read(plumbing.NewHash(string(id)), plumbing.TreeObject, source.MaxFile); err != nil {
				return err
			}
		}
		if t.size += len(raw); t.size > maxBrought {
			return fmt.Errorf("over %d MiB of it are not on the node yet; push a branch with it first", maxBrought>>20)
		}
		t.objects = append(t.objects, api.GitObject{Kind: kind, Data: raw})
		return nil
	})
	return &named, err
}

// lacking asks the agent for what of a tree it does not have, level by level.
func (t *planTrees) lacking(ctx context.Context, tree source.Tree, root source.ID) (map[source.ID]bool, error) {
	if t.seen == nil {
		t.seen = map[source.ID]bool{}
	}
	type place struct {
		path string
		dir  bool
	}
	lacking := map[source.ID]bool{}
	for level := map[source.ID]place{root: {".", true}}; len(level) > 0; {
		ids := make([]string, 0, len(level))
		for id := range level {
			ids = append(ids, string(id))
		}
		absent, err := t.client.Lacking(ctx, ids)
		if err != nil {
			return nil, err
		}
		next := map[source.ID]place{}
		for _, id := range absent {
			id := source.ID(id)
			at, asked := level[id]
			if !asked || t.seen[id] {
				continue
			}
			t.seen[id], lacking[id] = true, true
			if !at.dir {
				continue
			}
			entries, err := tree.ReadDir(at.path)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if !t.seen[e.ID] {
					next[e.ID] = place{path.Join(at.path, e.Name), e.Mode&fs.ModeDir != 0}
				}
			}
		}
		level = next
	}
	return lacking, nil
}
