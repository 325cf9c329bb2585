package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// objects is the mirror as source sees it.
type objects struct{ m *Mirror }

func (o objects) Items(id source.ID) ([]source.Item, error) {
	if items, ok := o.m.trees.get(id); ok {
		return items, nil
	}
	raw, err := o.read(id, bare.Tree)
	if err != nil {
		return nil, err
	}
	items, err := source.ParseTree(raw)
	if err != nil {
		return nil, &source.Fault{Path: "tree " + string(id), Text: err.Error()}
	}
	o.m.trees.put(id, items)
	return items, nil
}

func (o objects) Blob(id source.ID) ([]byte, error) { return o.read(id, bare.Blob) }

func (o objects) read(id source.ID, k bare.Kind) ([]byte, error) {
	h, err := toHash(id)
	if err != nil {
		return nil, err
	}
	raw, err := o.m.repo.ReadKind(h, k)
	if errors.Is(err, bare.ErrMissing) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return raw, err
}

// Prepare finds what a client lacks that wants and has these objects, and whose own history ends at shallow. It
// returns where that history ends and goes on from now on, and what writes the pack.
func (m *Mirror) Prepare(ctx context.Context, want, have, shallow []source.ID, depth int) (ends, goesOn []source.ID, send func(io.Writer) error, err error) {
	ask := bare.Ask{Depth: depth}
	for _, l := range []struct {
		from []source.ID
		to   *[]bare.Hash
	}{{want, &ask.Want}, {have, &ask.Have}, {shallow, &ask.Shallow}} {
		for _, id := range l.from {
			h, err := toHash(id)
			if err != nil {
				return nil, nil, nil, err
			}
			*l.to = append(*l.to, h)
		}
	}
	a, err := bare.Missing(ctx, m.repo, ask)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("find missing objects: %w", err)
	}
	return toIDs(a.Shallow), toIDs(a.Unshallow), func(w io.Writer) error { return a.WriteTo(ctx, w) }, nil
}

func toHash(id source.ID) (h bare.Hash, err error) {
	if !id.Valid() {
		return h, fmt.Errorf("%.80q is no object id", string(id))
	}
	for i := range h {
		h[i] = unhex(id[2*i])<<4 | unhex(id[2*i+1])
	}
	return h, nil
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}

func toIDs(list []bare.Hash) []source.ID {
	ids := make([]source.ID, len(list))
	for i, h := range list {
		ids[i] = source.ID(h.String())
	}
	return ids
}
