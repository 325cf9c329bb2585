package gitsync

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage"

	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// localRemote reads another repository on this machine by go-git, without a git binary. It writes nothing there but a claim.
// A repository that is packed anew meanwhile gives an error, and the next fetch finds it in order.
type localRemote struct {
	path  string
	limit int64 // bytes of one object
	store storage.Storer
	cut   map[bare.Hash]bool
}

func (l *localRemote) Advertised(ctx context.Context) (*advert, error) {
	if info, err := os.Stat(l.path); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s: not a directory", l.path)
	}
	repo, err := git.PlainOpenWithOptions(l.path, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.path, err)
	}
	l.store = repo.Storer
	a := &advert{refs: map[string]bare.Hash{}, caps: map[string]bool{"shallow": true}}
	refs, err := l.store.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("%s: read refs: %w", l.path, err)
	}
	err = refs.ForEach(func(r *plumbing.Reference) error {
		switch {
		case r.Name() == plumbing.HEAD && r.Type() == plumbing.SymbolicReference:
			a.head = r.Target().String()
		case r.Type() == plumbing.HashReference:
			a.refs[r.Name().String()] = r.Hash()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: read refs: %w", l.path, err)
	}
	if a.shallow, err = l.store.Shallow(); err != nil {
		return nil, fmt.Errorf("%s: read shallow: %w", l.path, err)
	}
	l.cut = map[bare.Hash]bool{}
	for _, h := range a.shallow {
		l.cut[h] = true
	}
	return a, nil
}

func (l *localRemote) Fetch(ctx context.Context, ask bare.Ask) (*delivery, error) {
	a, err := bare.Missing(ctx, l, ask)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(a.WriteTo(ctx, w)) }() // ends when the reader is closed
	return &delivery{pack: r, ends: a.Shallow, goesOn: a.Unshallow, close: func() { r.Close() }}, nil
}

func (l *localRemote) Close() {}

// Read and IsShallow make it a bare.Reader.
func (l *localRemote) Read(h bare.Hash) (bare.Kind, []byte, error) {
	o, err := l.store.EncodedObject(plumbing.AnyObject, h)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %s: %w", l.path, h, err)
	}
	if o.Size() > l.limit {
		return 0, nil, &bare.LimitError{What: fmt.Sprintf("%s: %s", l.path, h), Got: fmt.Sprintf("is %d bytes long; at most %d", o.Size(), l.limit)}
	}
	r, err := o.Reader()
	if err != nil {
		return 0, nil, err
	}
	defer r.Close()
	raw := make([]byte, o.Size())
	if _, err := io.ReadFull(r, raw); err != nil {
		return 0, nil, fmt.Errorf("%s: %s: %w", l.path, h, err)
	}
	return bare.Kind(o.Type()), raw, nil
}

func (l *localRemote) IsShallow(h bare.Hash) bool { return l.cut[h] }
