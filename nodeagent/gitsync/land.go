package gitsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// Land moves ref from old ("" creates it) to a commit, given by its raw bytes, whose tree and parents the repository has, by
// compare-and-swap: of this server, or of the host at the URL. It returns the commit's id. An error that is ErrMoved says that the ref is elsewhere; a *RefusedError is
// the host's last word; after any other the id is given too: the commit is here, and may be there, which the next fetch tells.
func (m *Mirror) Land(ctx context.Context, ref string, old source.ID, raw []byte) (source.ID, error) {
	ref = source.FullRefName(ref)
	id := source.ObjectID("commit", raw)
	c, err := source.ParseCommit(id, raw)
	if err != nil {
		return "", err
	}
	for _, p := range c.Parents {
		if !m.Has(p) {
			return "", fmt.Errorf("commit %s: its parent %s is not here", id.Short(), p.Short())
		}
	}
	if m.opt.URL == "" {
		return id, m.landHere(ctx, source.RefUpdate{Name: ref, Old: old, New: id}, raw)
	}
	if err := m.store(ctx, nil, raw); err != nil {
		return "", err
	}
	if err := m.PushCommit(ctx, ref, old, id); err != nil {
		return id, err
	}
	m.Wake() // to see it there
	return id, nil
}

// PushCommit moves a ref of the host from old ("" creates it) to a commit of the mirror whose tree and parents the host has. Errors are as
// those of Land.
func (m *Mirror) PushCommit(ctx context.Context, ref string, old, commit source.ID) (err error) {
	if m.opt.URL == "" {
		return errNoURL
	}
	move := bare.Move{Name: ref}
	if move.New, err = toHash(commit); err != nil {
		return err
	}
	if old != "" {
		if move.Old, err = toHash(old); err != nil {
			return err
		}
	}
	raw, err := m.repo.ReadKind(move.New, bare.Commit)
	if err != nil {
		return err
	}
	m.fetching.Lock()
	defer m.fetching.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, pushTime, fmt.Errorf("not done after %s", pushTime))
	defer cancel()
	if err := asRefusal(cause(ctx, m.push(ctx, move, raw))); err != nil {
		return fmt.Errorf("push %s to %s: %w", ref, redacted(m.opt.URL), err)
	}
	return nil
}

// pushTime bounds a push: somebody waits for it, and a commit that could not be pushed is pushed later.
const pushTime = 10 * time.Second

// packOf is a pack of one commit.
func packOf(raw []byte) (*bytes.Buffer, error) {
	var pack bytes.Buffer
	w, err := bare.NewPackWriter(&pack, 1)
	if err != nil {
		return nil, err
	}
	return &pack, errors.Join(w.Add(bare.Commit, raw), w.Close())
}

func (m *Mirror) landHere(ctx context.Context, u source.RefUpdate, raw []byte) error {
	pack, err := packOf(raw)
	if err != nil {
		return err
	}
	return m.Receive(ctx, []source.RefUpdate{u}, pack, nil)
}

// maxExpand bounds the commits that are looked at for one whose id begins so.
const maxExpand = 50_000

// Expand finds the commit that somebody names: by a ref, by its id, or by at least 4 digits of that, as far as it can be reached from
// a ref. An error says that there is none, or several.
func (m *Mirror) Expand(ctx context.Context, name string) (source.ID, error) {
	if id := source.ID(name); id.Valid() {
		if !m.Has(id) {
			return "", fmt.Errorf("commit %s is not in the repository", id.Short())
		}
		return id, nil
	}
	if full := source.FullRefName(name); source.CheckRefName(full) == nil {
		if id, err := m.Head(full); err == nil {
			return id, nil
		}
	}
	if len(name) < 4 || len(name) > 40 || strings.Trim(name, "0123456789abcdef") != "" {
		return "", fmt.Errorf("commit %q: expected a branch, or at least 4 hex digits of an id", name)
	}
	seen := map[bare.Hash]bool{}
	var found source.ID
	for _, r := range m.Refs() {
		tip, err := toHash(r.ID)
		if err != nil {
			return "", err
		}
		if seen[tip] || len(seen) >= maxExpand {
			continue
		}
		list, err := bare.Log(ctx, m.repo, tip, maxExpand-len(seen))
		if err != nil {
			continue // a tag of something else
		}
		for _, h := range list {
			if seen[h] {
				continue
			}
			seen[h] = true
			if id := source.ID(h.String()); strings.HasPrefix(string(id), name) {
				if found != "" {
					return "", fmt.Errorf("commit %q: %s and %s begin so", name, found.Short(), id.Short())
				}
				found = id
			}
		}
	}
	if found == "" {
		return "", fmt.Errorf("commit %q: none begins so", name)
	}
	return found, nil
}
