package gitsync

import (
	"context"
	"fmt"
	"math"

	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// Deepen fetches the history of the followed branches to its beginning, where the first fetch took a part of it. It says
// whether there is more of it now. What bounds a fetch bounds this too.
func (m *Mirror) Deepen(ctx context.Context) (more bool, err error) {
	before := len(m.repo.Shallow())
	if m.opt.URL == "" || before == 0 {
		return false, nil
	}
	m.fetching.Lock()
	defer m.fetching.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, m.opt.Timeout, fmt.Errorf("not done after %s", m.opt.Timeout))
	defer cancel()
	m.incoming.RLock()
	err = m.deepen(ctx)
	m.incoming.RUnlock()
	if err != nil {
		return false, fmt.Errorf("fetch the whole history of %s: %w", redacted(m.opt.URL), cause(ctx, err))
	}
	m.compactIfNeeded()
	return len(m.repo.Shallow()) < before, nil
}

func (m *Mirror) deepen(ctx context.Context) error {
	r, err := m.dial()
	if err != nil {
		return err
	}
	defer r.Close()
	a, err := advertised(ctx, r)
	if err != nil {
		return err
	}
	ask := bare.Ask{Have: m.haves(), Shallow: m.repo.Shallow(), Depth: math.MaxInt32} // as git asks for all of it
	seen := map[bare.Hash]bool{}
	for _, name := range *m.follow.Load() {
		// Tips that are new come with the next fetch; it is the history of those that are here that is wanted.
		if tip, known := m.repo.Ref(name); known && a.refs[name] == tip && !seen[tip] {
			seen[tip] = true
			ask.Want = append(ask.Want, tip)
		}
	}
	if len(ask.Want) == 0 {
		return nil
	}
	return m.take(ctx, r, a, ask)
}
