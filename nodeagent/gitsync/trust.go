package gitsync

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// What is read to judge signatures: exact bytes, and history as it is.

// Raw returns the exact bytes of a commit or an annotated tag, and which of the two it is.
func (m *Mirror) Raw(id source.ID) (kind string, raw []byte, err error) {
	h, err := toHash(id)
	if err != nil {
		return "", nil, err
	}
	k, raw, err := m.repo.Read(h)
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("read %s: %w", id.Short(), err)
	case k != bare.Commit && k != bare.Tag:
		return "", nil, fmt.Errorf("read %s: it is a %s, expected a commit or a tag", id.Short(), k)
	}
	return k.String(), raw, nil
}

// Objects are the directories and files of the mirror as they were pushed. They were not checked as Tree checks them.
func (m *Mirror) Objects() source.Objects { return objects{m} }

// Since lists the commits that tip reaches and last (of "": all of them) does not, each after its parents, and which parents of theirs last reaches.
// cut says that the history of last is not here to its end, so that some of them may be its ancestors. More than max
// commits are an error with a method TooMuch.
func (m *Mirror) Since(ctx context.Context, last, tip source.ID, max int) (commits, known []source.ID, cut bool, err error) {
	var from bare.Hash
	if last != "" {
		if from, err = toHash(last); err != nil {
			return nil, nil, false, err
		}
	}
	to, err := toHash(tip)
	if err != nil {
		return nil, nil, false, err
	}
	s, err := bare.Since(ctx, m.repo, from, to, max)
	if err != nil {
		err = fmt.Errorf("history from %s to %s: %w", last.Short(), tip.Short(), err)
		if _, long := errors.AsType[*bare.LimitError](err); long {
			err = &tooMuchError{err}
		}
		return nil, nil, false, err
	}
	return toIDs(s.Commits), toIDs(s.Known), s.Cut, nil
}

// RefsBelow lists at most max refs whose names begin with prefix, by name.
func (m *Mirror) RefsBelow(prefix string, max int) []source.Ref {
	var out []source.Ref
	for _, r := range m.Refs() {
		if strings.HasPrefix(r.Name, prefix) && len(out) < max {
			out = append(out, r)
		}
	}
	return out
}

// tooMuchError says that something is longer than the caller wants to read: it will be so the next time too.
type tooMuchError struct{ error }

func (e *tooMuchError) Unwrap() error { return e.error }

func (e *tooMuchError) TooMuch() bool { return true }
