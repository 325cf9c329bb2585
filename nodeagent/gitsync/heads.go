package gitsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// Branches asks the host for its branches, by name. A host that lists no default branch is not believed: an empty list may be one that
// was not read whole.
func (m *Mirror) Branches(ctx context.Context) ([]source.Ref, error) {
	r, err := m.dial()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	a, err := advertised(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("list branches of %s: %w", redacted(m.opt.URL), err)
	}
	if _, ok := a.refs[m.opt.Branch]; !ok {
		return nil, fmt.Errorf("list branches of %s: it lists no %s, so the list is not believed", redacted(m.opt.URL), m.opt.Branch)
	}
	var out []source.Ref
	for name, h := range a.refs {
		if strings.HasPrefix(name, "refs/heads/") {
			out = append(out, source.Ref{Name: name, ID: source.ID(h.String())})
		}
	}
	slices.SortFunc(out, func(a, b source.Ref) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// TakeHeads brings commits that the host has at refs, of pull requests say, and that this mirror lacks. No ref moves and none is made:
// who wants a commit kept pins it. They come beside what is followed, so that one which breaks a limit holds up nothing else; if
// they do not come all together each is tried by itself. The error names those that did not come.
func (m *Mirror) TakeHeads(ctx context.Context, refs []source.Ref) error {
	refs = slices.DeleteFunc(slices.Clone(refs), func(r source.Ref) bool { return m.Has(r.ID) })
	if len(refs) == 0 {
		return nil
	}
	if m.opt.URL == "" {
		return errNoURL
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.opt.Timeout, fmt.Errorf("not done after %s", m.opt.Timeout))
	defer cancel()
	m.taking.Lock()
	defer m.taking.Unlock()
	m.incoming.RLock()
	err := m.takeHeads(ctx, refs)
	if err != nil && len(refs) > 1 && ctx.Err() == nil {
		var errs []error
		for _, r := range refs {
			if err := m.takeHeads(ctx, []source.Ref{r}); err != nil {
				errs = append(errs, err)
			}
		}
		err = errors.Join(errs...)
	}
	m.incoming.RUnlock()
	m.compactIfNeeded()
	return err
}

func (m *Mirror) takeHeads(ctx context.Context, refs []source.Ref) error {
	r, err := m.dial()
	if err != nil {
		return err
	}
	defer r.Close()
	a, err := advertised(ctx, r)
	if err != nil {
		return err
	}
	ask := bare.Ask{Have: m.haves(), Shallow: m.repo.Shallow()}
	var errs []error
	for _, ref := range refs {
		h, err := toHash(ref.ID)
		switch {
		case err != nil:
			errs = append(errs, err)
		case a.refs[ref.Name] != h:
			errs = append(errs, fmt.Errorf("%s is not at %s on the host", ref.Name, ref.ID.Short()))
		case !m.repo.Has(h) && !slices.Contains(ask.Want, h):
			ask.Want = append(ask.Want, h)
		}
	}
	if len(ask.Want) > 0 {
		if err := m.take(ctx, r, a, ask); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", refs[0].Name, cause(ctx, err)))
		}
	}
	return errors.Join(errs...)
}
