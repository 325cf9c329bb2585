package nodeagent

import (
	"context"
	"errors"

	"github.com/shoal-dev/shoal/engine/source"
)

// The repository in memory has no keys/, so nothing of it is judged.

func (u *upstream) Raw(id source.ID) (string, []byte, error) {
	c, err := u.Commit(context.Background(), id)
	if err != nil {
		return "", nil, err
	}
	c.Tree = source.EmptyTree
	c.Committer = c.Author
	return "commit", source.EncodeCommit(c), nil
}

func (u *upstream) Objects() source.Objects { return noFiles{} }

func (u *upstream) Since(context.Context, source.ID, source.ID, int) (commits, known []source.ID, cut bool, err error) {
	return nil, nil, false, errors.New("signatures are read where none is asked for")
}

func (u *upstream) Deepen(context.Context) (bool, error) { return false, nil }

func (u *upstream) RefsBelow(string, int) []source.Ref { return nil }

// noFiles is a store whose directories are empty.
type noFiles struct{}

func (noFiles) Items(source.ID) ([]source.Item, error) { return nil, nil }
func (noFiles) Blob(source.ID) ([]byte, error)         { return nil, errors.New("no such file") }
