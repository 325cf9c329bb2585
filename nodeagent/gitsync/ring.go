package gitsync

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// TakeFrom brings commits or tags that this mirror lacks from another node's mirror, with all of their history that is
// there. client reaches that node, whose repository is at base. No ref moves.
func (m *Mirror) TakeFrom(ctx context.Context, client *http.Client, base string, ids []source.ID) error {
	u, err := url.Parse(base)
	if err != nil {
		return fmt.Errorf("take from %s: %w", base, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.opt.Timeout, fmt.Errorf("not done after %s", m.opt.Timeout))
	defer cancel()
	m.taking.Lock() // two that lack the same would fetch it twice
	defer m.taking.Unlock()
	m.incoming.RLock()
	defer m.incoming.RUnlock()
	var ask bare.Ask
	for _, id := range ids {
		h, err := toHash(id)
		if err != nil {
			return fmt.Errorf("take from %s: %w", u.Host, err)
		}
		if !m.repo.Has(h) && !slices.Contains(ask.Want, h) {
			ask.Want = append(ask.Want, h)
		}
	}
	if len(ask.Want) == 0 {
		return nil
	}
	r := &httpRemote{base: u, client: client}
	a, err := advertised(ctx, r)
	if err != nil {
		return fmt.Errorf("take from node: %w", err)
	}
	ask.Have, ask.Shallow = m.haves(), m.repo.Shallow()
	if err := m.take(ctx, r, a, ask); err != nil {
		return fmt.Errorf("take from node: %w", err)
	}
	return nil
}

// Adopt makes the branches and tags of this mirror those that the ring has agreed on; their objects must be here. stand
// is where they stood before the caller asked what the ring has agreed on: if one that is to move was moved since, by a
// push of which the ring may have heard later than that, none moves, and the error is ErrMoved. Then both are to be asked anew.
func (m *Mirror) Adopt(refs, stand []source.Ref) error {
	agreed, err := byName(refs)
	if err != nil {
		return err
	}
	now, err := byName(stand)
	if err != nil {
		return err
	}
	var moves []bare.Move
	for name, at := range now {
		if _, there := agreed[name]; !there && (strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/")) {
			moves = append(moves, bare.Move{Name: name, Old: at})
		}
	}
	for name, to := range agreed {
		if at := now[name]; at != to {
			moves = append(moves, bare.Move{Name: name, Old: at, New: to})
		}
	}
	if len(moves) == 0 {
		return nil
	}
	if err := m.repo.UpdateRefs(moves); err != nil {
		return err
	}
	m.compactIfNeeded()
	return nil
}

func byName(refs []source.Ref) (map[string]bare.Hash, error) {
	out := map[string]bare.Hash{}
	for _, r := range refs {
		h, err := toHash(r.ID)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		out[r.Name] = h
	}
	return out, nil
}
