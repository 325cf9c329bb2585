package gitsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// openOrRebuild opens the repository and verifies it. One that is damaged is set aside as <dir>.damaged, of which
// one is kept for whoever wants to look, and a new one takes its place with every pinned commit that is whole.
func openOrRebuild(ctx context.Context, opt Options) (*bare.Repo, string, error) {
	repo, err := bare.Open(opt.Dir, opt.Branch, opt.Limits)
	if err == nil {
		err = repo.Verify(ctx)
		if err == nil {
			return repo, "", nil
		}
		repo.Close()
	}
	if !errors.Is(err, bare.ErrCorrupt) || opt.URL == "" {
		return nil, "", err
	}
	why := err.Error()
	aside := strings.TrimRight(opt.Dir, "/") + ".damaged"
	if err := os.RemoveAll(aside); err != nil {
		return nil, "", fmt.Errorf("set the damaged repository aside: %w", err)
	}
	if err := os.Rename(opt.Dir, aside); err != nil {
		return nil, "", fmt.Errorf("set the damaged repository aside: %w", err)
	}
	repo, err = bare.Open(opt.Dir, opt.Branch, opt.Limits)
	if err != nil {
		return nil, "", err
	}
	kept, lost := salvage(ctx, aside, repo, opt)
	opt.Log.WarnContext(ctx, "git mirror was damaged and is begun anew", "why", why, "kept", kept, "lost", lost)
	return repo, why, nil
}

// salvage carries pinned commits over, each alone so that one that is damaged loses no other. Their history
// before the pin is left: the new repository is shallow there.
func salvage(ctx context.Context, from string, to *bare.Repo, opt Options) (kept, lost int) {
	old, err := bare.OpenDamaged(from, opt.Limits)
	if err != nil {
		return 0, 0
	}
	defer old.Close()
	refs := old.Refs()
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		if !strings.HasPrefix(name, pinRefs) {
			continue
		}
		if err := carry(ctx, old, to, name, refs[name]); err != nil {
			opt.Log.WarnContext(ctx, "pinned commit is lost", "ref", name, "err", err)
			lost++
			continue
		}
		kept++
	}
	return kept, lost
}

func carry(ctx context.Context, old, to *bare.Repo, name string, tip bare.Hash) error {
	a, err := bare.Missing(ctx, old, bare.Ask{Want: []bare.Hash{tip}, Depth: 1})
	if err != nil {
		return err
	}
	var pack bytes.Buffer
	if err := a.WriteTo(ctx, &pack); err != nil {
		return err
	}
	in, err := to.Receive(ctx, &pack, a.Shallow)
	if err != nil {
		return err
	}
	if err := to.SetShallow(a.Shallow, nil); err != nil {
		in.Discard()
		return err
	}
	if err := in.Publish(); err != nil {
		return err
	}
	return to.UpdateRefs([]bare.Move{{Name: name, New: tip, Force: true}})
}
