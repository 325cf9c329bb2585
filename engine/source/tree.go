package source

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// ID is a Git object id in lower-case hex (40 digits for SHA-1). Equal ids mean equal contents, so an ID can
// key a cache without the object being read.
type ID string

// Short is the first 12 digits, for people.
func (id ID) Short() string { return string(id[:min(12, len(id))]) }

// Valid says whether id has the form of an id: 40 lower-case hex digits.
func (id ID) Valid() bool {
	if len(id) != 40 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Entry is one name in a directory of a Tree.
type Entry struct {
	Name string
	ID   ID
	Mode fs.FileMode // fs.ModeDir for a directory, fs.ModeSymlink for a link; otherwise a regular file, 0o644 or 0o755
}

// Tree is the tree of one commit, or of a working directory. It is immutable, has passed Check, and never
// touches a host's file system by a path that comes from the repository. Paths are slash-separated and
// relative to the repository's root; "." is the root. An absent path gives an error that is fs.ErrNotExist.
// A Tree may be used from one goroutine at a time.
type Tree interface {
	// Commit is the commit's id, or "" for a working directory that was not committed.
	Commit() ID
	// Lookup returns the entry at path; its ID is that of the blob or tree.
	Lookup(path string) (Entry, error)
	// ReadDir lists a directory, sorted by name.
	ReadDir(path string) ([]Entry, error)
	// ReadFile returns a whole file. The caller must not change it. A symbolic link is an error: it is listed
	// and never followed.
	ReadFile(path string) ([]byte, error)
}

// Objects gives Git objects by their ids. An absent one is an error that is fs.ErrNotExist.
type Objects interface {
	// Items is the tree with this id, in Git's order. The caller must not change it.
	Items(id ID) ([]Item, error)
	// Blob is the contents of a file, or the target of a symbolic link. The caller must not change it.
	Blob(id ID) ([]byte, error)
}

// ErrLink is returned by ReadFile for a symbolic link.
var ErrLink = errors.New("is a symbolic link: links are not followed, put the file itself here")

// New returns the tree with id root of commit, read from o as it is asked for. The caller has checked it.
func New(commit, root ID, o Objects) Tree { return &tree{commit: commit, root: root, objects: o} }

type tree struct {
	commit, root ID
	objects      Objects
}

func (t *tree) Commit() ID { return t.commit }

func (t *tree) Lookup(p string) (Entry, error) {
	it, err := t.find("lookup", p)
	if err != nil {
		return Entry{}, err
	}
	return it.entry(), nil
}

func (t *tree) ReadDir(p string) ([]Entry, error) {
	it, err := t.find("readdir", p)
	if err != nil {
		return nil, err
	}
	if it.Kind != Dir {
		return nil, &fs.PathError{Op: "readdir", Path: p, Err: errors.New("not a directory")}
	}
	items, err := t.objects.Items(it.ID)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: p, Err: err}
	}
	entries := make([]Entry, len(items))
	for i, it := range items {
		entries[i] = it.entry()
	}
	sortEntries(entries)
	return entries, nil
}

func (t *tree) ReadFile(p string) ([]byte, error) {
	it, err := t.find("read", p)
	if err != nil {
		return nil, err
	}
	switch it.Kind {
	case File, Exec:
	case Link:
		return nil, &fs.PathError{Op: "read", Path: p, Err: ErrLink}
	default:
		return nil, &fs.PathError{Op: "read", Path: p, Err: errors.New("is a directory")}
	}
	b, err := t.objects.Blob(it.ID)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: p, Err: err}
	}
	return b, nil
}

// find walks down to p. It follows no link, so a path through one does not exist.
func (t *tree) find(op, p string) (Item, error) {
	if !fs.ValidPath(p) {
		return Item{}, &fs.PathError{Op: op, Path: p, Err: fs.ErrInvalid}
	}
	at := Item{Name: ".", ID: t.root, Kind: Dir}
	if p == "." {
		return at, nil
	}
	for rest := p; ; {
		name, below, more := strings.Cut(rest, "/")
		if at.Kind != Dir {
			return Item{}, &fs.PathError{Op: op, Path: p, Err: fs.ErrNotExist}
		}
		items, err := t.objects.Items(at.ID)
		if err != nil {
			return Item{}, &fs.PathError{Op: op, Path: p, Err: err}
		}
		i := findItem(items, name)
		if i < 0 {
			return Item{}, &fs.PathError{Op: op, Path: p, Err: fs.ErrNotExist}
		}
		at = items[i]
		if !more {
			return at, nil
		}
		rest = below
	}
}

// Walk calls visit with every distinct object of t that want asks for, children before their directory, with
// its kind ("tree" or "blob") and its exact bytes. It stops at the first error. Objects that want refuses are
// not looked into. It works for trees made by this package.
func Walk(t Tree, want func(ID) bool, visit func(id ID, kind string, raw []byte) error) (root ID, err error) {
	own, ok := t.(*tree)
	if !ok {
		return "", fmt.Errorf("walk: a %T was not made by this package", t)
	}
	seen := map[ID]bool{}
	var walk func(at Item, p string) error
	walk = func(at Item, p string) error {
		if seen[at.ID] || !want(at.ID) {
			return nil
		}
		seen[at.ID] = true
		if at.Kind != Dir {
			b, err := own.objects.Blob(at.ID)
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			return visit(at.ID, "blob", b)
		}
		items, err := own.objects.Items(at.ID)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		for _, it := range items {
			if err := walk(it, path.Join(p, it.Name)); err != nil {
				return err
			}
		}
		return visit(at.ID, "tree", EncodeTree(items))
	}
	return own.root, walk(Item{Name: ".", ID: own.root, Kind: Dir}, ".")
}
