package gitsync

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// Receive takes a push: it reads pack (nil if the updates only delete), checks it whole, puts its objects safely
// on disk, asks accept and Options.Agree, and then moves all refs by compare-and-swap or none. When it returns nil, the push
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
	if m.opt.Agree != nil {
		if err := m.opt.Agree(ctx, updates); err != nil {
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
