package gitsync

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// HostMerge makes the commit c of the tree that the host itself came to when it merged head into base, as GitHub and GitLab keep it at
// a ref of each pull request. The id is "" where the host has no such ref, or one of other commits: it may lag.
func (m *Mirror) HostMerge(ctx context.Context, ref string, base, head source.ID, c source.Commit) (source.ID, error) {
	if m.opt.URL == "" {
		return "", errNoURL
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.opt.Timeout, fmt.Errorf("not done after %s", m.opt.Timeout))
	defer cancel()
	id, err := m.takeMerge(ctx, ref)
	if err != nil || id == "" {
		return "", err
	}
	theirs, err := m.Commit(ctx, id)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", ref, err)
	}
	if len(theirs.Parents) != 2 || theirs.Parents[0] != base || theirs.Parents[1] != head {
		return "", nil
	}
	c.Tree, c.Parents = theirs.Tree, theirs.Parents
	raw := source.EncodeCommit(c)
	if id = source.ObjectID("commit", raw); m.Has(id) {
		return id, nil
	}
	return id, m.store(ctx, nil, raw)
}

// takeMerge brings what the host has at a ref; "": it has no such ref.
func (m *Mirror) takeMerge(ctx context.Context, ref string) (source.ID, error) {
	m.taking.Lock()
	defer m.taking.Unlock()
	m.incoming.RLock()
	defer m.incoming.RUnlock()
	r, err := m.dial()
	if err != nil {
		return "", err
	}
	defer r.Close()
	a, err := advertised(ctx, r)
	if err != nil {
		return "", err
	}
	h, ok := a.refs[ref]
	if !ok {
		return "", nil
	}
	if id := source.ID(h.String()); m.Has(id) {
		return id, nil
	}
	if err := m.take(ctx, r, a, bare.Ask{Have: m.haves(), Shallow: m.repo.Shallow(), Want: []bare.Hash{h}}); err != nil {
		return "", fmt.Errorf("%s: %w", ref, cause(ctx, err))
	}
	return source.ID(h.String()), nil
}
