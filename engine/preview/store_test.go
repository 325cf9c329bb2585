package preview

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
)

// store is Git objects in maps.
type store struct {
	trees map[source.ID][]source.Item
	blobs map[source.ID][]byte
}

func newStore() store {
	return store{map[source.ID][]source.Item{}, map[source.ID][]byte{}}
}

func (s store) Items(id source.ID) ([]source.Item, error) {
	if items, ok := s.trees[id]; ok {
		return items, nil
	}
	return nil, fs.ErrNotExist
}

func (s store) Blob(id source.ID) ([]byte, error) {
	if b, ok := s.blobs[id]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

// file is one file of a tree that is written out: kind is 0 for a plain one.
type file struct {
	kind source.Kind
	text string
}

// put stores files by their paths and returns the tree.
func (s store) put(files map[string]file) source.ID {
	var items []source.Item
	below := map[string]map[string]file{}
	for p, f := range files {
		dir, rest, deep := strings.Cut(p, "/")
		if deep {
			if below[dir] == nil {
				below[dir] = map[string]file{}
			}
			below[dir][rest] = f
			continue
		}
		if f.kind == 0 {
			f.kind = source.File
		}
		id := source.ObjectID("blob", []byte(f.text))
		s.blobs[id] = []byte(f.text)
		items = append(items, source.Item{Name: p, ID: id, Kind: f.kind})
	}
	for dir, files := range below {
		items = append(items, source.Item{Name: dir, ID: s.put(files), Kind: source.Dir})
	}
	slices.SortFunc(items, func(a, b source.Item) int { return strings.Compare(inOrder(a), inOrder(b)) })
	id := source.ObjectID("tree", source.EncodeTree(items))
	s.trees[id] = items
	return id
}

// flat lists what a tree holds, a line a file.
func flat(t *testing.T, o source.Objects, id source.ID, at string) string {
	t.Helper()
	items, err := o.Items(id)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, it := range items {
		if it.Kind == source.Dir {
			b.WriteString(flat(t, o, it.ID, at+it.Name+"/"))
			continue
		}
		raw, err := o.Blob(it.ID)
		if err != nil {
			t.Fatal(err)
		}
		mark := map[source.Kind]string{source.Exec: "*", source.Link: "@"}[it.Kind]
		b.WriteString(at + it.Name + mark + "=" + strings.ReplaceAll(string(raw), "\n", "|") + "\n")
	}
	return b.String()
}
