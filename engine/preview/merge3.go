package preview

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
)

// Bounds of a merge. What is beyond in one file is a conflict; a tree beyond is an error.
const (
	maxEntries   = 500_000     // names that are looked at, in directories that differ
	maxConflicts = 1000        // that are listed
	maxNew       = 64 << 20    // bytes of objects that are made
	maxText      = 1 << 20     // bytes of a file that is merged by lines
	maxEdits     = 2000        // lines in which two versions of a file may differ
	maxWork      = 300_000_000 // steps in comparing lines, of all files
)

// Conflict is a path at which two sides cannot both be had.
type Conflict struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// NewObject is an object that a merge makes.
type NewObject struct {
	ID   source.ID
	Kind string // "blob" or "tree"
	Raw  []byte
}

// Merge is the outcome of Merge3.
type Merge struct {
	Tree      source.ID // "" if there are conflicts
	Objects   []NewObject
	Conflicts []Conflict // sorted by path; of very many the first
}

// Merge3 merges two trees that were made from a third: what one side changed since base is taken, and where both changed a
// file its lines are merged. base is "" or source.EmptyTree if they have nothing in common. It is what
//
//	git -c merge.renames=false merge-tree --write-tree
//
// makes of them, unless lines that are alike leave a choice of what changed: then one may see a conflict where the other
// does not. Renames are not looked for, so a file that one side renames and the other edits is a conflict. Neither are
// .gitattributes. Only directories that both sides changed are looked into. An error is about reading o, or says which bound the
// trees break.
func Merge3(o source.Objects, base, ours, theirs source.ID) (Merge, error) {
	m := merger{objects: o, work: maxWork}
	var top [3]*source.Item
	for i, id := range [3]source.ID{base, ours, theirs} {
		if id != "" && id != source.EmptyTree {
			top[i] = &source.Item{Name: ".", ID: id, Kind: source.Dir}
		}
	}
	root, err := m.dir(".", 0, top)
	if err != nil {
		return Merge{}, err
	}
	if len(m.conflicts) > 0 {
		slices.SortStableFunc(m.conflicts, func(a, b Conflict) int { return strings.Compare(a.Path, b.Path) })
		return Merge{Conflicts: m.conflicts}, nil
	}
	out := Merge{Tree: source.EmptyTree, Objects: m.made}
	if root != nil {
		out.Tree = root.ID
	}
	return out, nil
}

// Over gives the objects of a merge beside those it was made from, so that it can be read before it is stored.
func (m Merge) Over(o source.Objects) source.Objects {
	own := overlay{below: o, own: map[source.ID]NewObject{}}
	for _, n := range m.Objects {
		own.own[n.ID] = n
	}
	return own
}

type overlay struct {
	below source.Objects
	own   map[source.ID]NewObject
}

func (o overlay) Items(id source.ID) ([]source.Item, error) {
	if n, ok := o.own[id]; ok && n.Kind == "tree" {
		return source.ParseTree(n.Raw)
	}
	if id == source.EmptyTree {
		return nil, nil
	}
	return o.below.Items(id)
}

func (o overlay) Blob(id source.ID) ([]byte, error) {
	if n, ok := o.own[id]; ok && n.Kind == "blob" {
		return n.Raw, nil
	}
	return o.below.Blob(id)
}

type merger struct {
	objects   source.Objects
	conflicts []Conflict
	made      []NewObject
	bytes     int
	entries   int
	work      int
}

// The three sides of a merge, as indexes.
const (
	inBase, inOurs, inTheirs = 0, 1, 2
)

// same says whether two names stand for the same thing, or both for nothing.
func same(a, b *source.Item) bool {
	return a == nil && b == nil || a != nil && b != nil && a.ID == b.ID && a.Kind == b.Kind
}

// simple is the outcome where only one side changed something, or both did the same.
func simple(v [3]*source.Item) (out *source.Item, ok bool) {
	switch {
	case same(v[inOurs], v[inTheirs]), same(v[inBase], v[inTheirs]):
		return v[inOurs], true
	case same(v[inBase], v[inOurs]):
		return v[inTheirs], true
	}
	return nil, false
}

func (m *merger) conflict(p, format string, a ...any) {
	if len(m.conflicts) < maxConflicts {
		m.conflicts = append(m.conflicts, Conflict{p, fmt.Sprintf(format, a...)})
	}
}

// dir merges directories, of which nil is an empty one. The result is nil if nothing is in it.
func (m *merger) dir(p string, level int, v [3]*source.Item) (*source.Item, error) {
	if out, ok := simple(v); ok {
		return out, nil
	}
	if level >= source.MaxDepth {
		return nil, fmt.Errorf("%s: more than %d directories deep", quoted(p), source.MaxDepth)
	}
	var sides [3]map[string]*source.Item
	all := map[string]bool{}
	for i, d := range v {
		sides[i] = map[string]*source.Item{}
		if d == nil {
			continue
		}
		items, err := m.items(d.ID)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quoted(p), err)
		}
		if m.entries += len(items); m.entries > maxEntries {
			return nil, fmt.Errorf("more than %d names differ", maxEntries)
		}
		for j := range items {
			if sides[i][items[j].Name] != nil {
				return nil, fmt.Errorf("%s: both a file and a directory", quoted(path.Join(p, items[j].Name)))
			}
			sides[i][items[j].Name], all[items[j].Name] = &items[j], true
		}
	}
	var merged []source.Item
	for _, name := range slices.Sorted(maps.Keys(all)) {
		it, err := m.entry(path.Join(p, name), level, [3]*source.Item{sides[0][name], sides[1][name], sides[2][name]})
		if err != nil {
			return nil, err
		}
		if it != nil {
			merged = append(merged, source.Item{Name: name, ID: it.ID, Kind: it.Kind})
		}
	}
	if len(m.conflicts) > 0 || len(merged) == 0 {
		return nil, nil
	}
	slices.SortFunc(merged, func(a, b source.Item) int { return strings.Compare(inOrder(a), inOrder(b)) })
	id, err := m.make("tree", source.EncodeTree(merged))
	return &source.Item{ID: id, Kind: source.Dir}, err
}

// inOrder is by what Git sorts the names of a tree: a directory's ends in a slash.
func inOrder(it source.Item) string {
	if it.Kind == source.Dir {
		return it.Name + "/"
	}
	return it.Name
}

func (m *merger) items(id source.ID) ([]source.Item, error) {
	items, err := m.objects.Items(id)
	if errors.Is(err, fs.ErrNotExist) && id == source.EmptyTree {
		return nil, nil
	}
	return items, err
}

func (m *merger) make(kind string, raw []byte) (source.ID, error) {
	if m.bytes += len(raw); m.bytes > maxNew {
		return "", fmt.Errorf("the merge makes more than %d bytes of objects", maxNew)
	}
	id := source.ObjectID(kind, raw)
	m.made = append(m.made, NewObject{id, kind, raw})
	return id, nil
}

// entry merges what one name stands for. Where it is a file on one side and a directory on another, the files are merged
// for themselves and the directories too: only if both leave something, there is a conflict.
func (m *merger) entry(p string, level int, v [3]*source.Item) (*source.Item, error) {
	if out, ok := simple(v); ok {
		return out, nil
	}
	var files, dirs [3]*source.Item
	for i, it := range v {
		switch {
		case it == nil:
		case it.Kind == source.Dir:
			dirs[i] = it
		default:
			files[i] = it
		}
	}
	file, err := m.file(p, files)
	if err != nil {
		return nil, err
	}
	dir, err := m.dir(p, level+1, dirs)
	if err != nil {
		return nil, err
	}
	if file != nil && dir != nil {
		m.conflict(p, "a file on one side and a directory on the other")
		return nil, nil
	}
	if file != nil {
		return file, nil
	}
	return dir, nil
}

// file merges what is no directory.
func (m *merger) file(p string, v [3]*source.Item) (*source.Item, error) {
	if out, ok := simple(v); ok {
		return out, nil
	}
	b, o, t := v[inBase], v[inOurs], v[inTheirs]
	regular := func(it *source.Item) bool { return it != nil && (it.Kind == source.File || it.Kind == source.Exec) }
	switch {
	case o == nil || t == nil:
		m.conflict(p, "changed on one side and deleted on the other")
		return nil, nil
	case o.Kind == source.Link && t.Kind == source.Link:
		m.conflict(p, "a symbolic link that was changed on both sides")
		return nil, nil
	case !regular(o) || !regular(t):
		m.conflict(p, "a %s on one side and a %s on the other, both changed", o.Kind, t.Kind)
		return nil, nil
	}
	if !regular(b) { // it was not there, or something else
		b = nil
	}
	kind := o.Kind
	if b != nil && o.Kind == b.Kind {
		kind = t.Kind
	}
	if b == nil && o.Kind != t.Kind {
		m.conflict(p, "executable on one side and not on the other, and new on both")
		return nil, nil
	}
	switch {
	case o.ID == t.ID, b != nil && b.ID == t.ID:
		return &source.Item{ID: o.ID, Kind: kind}, nil
	case b != nil && b.ID == o.ID:
		return &source.Item{ID: t.ID, Kind: kind}, nil
	}
	var texts [3][]byte
	for i, it := range [3]*source.Item{b, o, t} {
		if it == nil {
			continue
		}
		var err error
		if texts[i], err = m.objects.Blob(it.ID); err != nil {
			return nil, fmt.Errorf("%s: %w", quoted(p), err)
		}
	}
	merged, why := mergeText(texts[inBase], texts[inOurs], texts[inTheirs], &m.work)
	if why != "" {
		m.conflict(p, "%s", why)
		return nil, nil
	}
	id, err := m.make("blob", merged)
	return &source.Item{ID: id, Kind: kind}, err
}
