package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
)

// FSOptions says what FromFS takes. The zero value takes all but .git.
type FSOptions struct {
	// Ignore leaves a path out, and all below it if it is a directory; nil leaves nothing out. The reader of
	// .gitignore stands with the caller.
	Ignore func(p string, dir bool) bool
	Limits Limits
}

// FromFS reads a working directory, or the files of a test, into memory and returns it as a Tree with the ids
// Git would give it. Every .git is left out, empty directories are not there, as in Git, and a file is
// executable if its owner may execute it. Symbolic links need fsys to be an fs.ReadLinkFS; one that leaves fsys is
// an error. Devices, sockets and pipes are errors. What it returns has passed Check.
func FromFS(fsys fs.FS, opt FSOptions) (Tree, error) {
	r := fsReader{fsys: fsys, opt: opt, limits: opt.Limits.WithDefaults(), memory: memory{
		trees: map[ID][]Item{}, blobs: map[ID][]byte{},
	}}
	root, _, err := r.dir(".", 0)
	if err != nil {
		return nil, err
	}
	c := Checker{Limits: opt.Limits}
	if err := c.Check(r.memory, root); err != nil {
		return nil, err
	}
	return New("", root, r.memory), nil
}

// memory is a store of objects in maps.
type memory struct {
	trees map[ID][]Item
	blobs map[ID][]byte
}

func (m memory) Items(id ID) ([]Item, error) {
	if items, ok := m.trees[id]; ok {
		return items, nil
	}
	return nil, fs.ErrNotExist
}

func (m memory) Blob(id ID) ([]byte, error) {
	if b, ok := m.blobs[id]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

type fsReader struct {
	fsys   fs.FS
	opt    FSOptions
	limits Limits
	memory memory
	files  int
	bytes  int64
}

func (r *fsReader) dir(p string, level int) (id ID, empty bool, err error) {
	if level >= r.limits.Depth {
		return "", false, &Fault{p, fmt.Sprintf("more than %d directories deep", r.limits.Depth)}
	}
	list, err := fs.ReadDir(r.fsys, p)
	if err != nil {
		return "", false, err
	}
	var items []Item
	for _, d := range list {
		at := path.Join(p, d.Name())
		if d.Name() == ".git" || r.opt.Ignore != nil && r.opt.Ignore(at, d.IsDir()) {
			continue
		}
		it := Item{Name: d.Name()}
		switch {
		case d.IsDir():
			it.Kind = Dir
			var empty bool
			if it.ID, empty, err = r.dir(at, level+1); err != nil {
				return "", false, err
			}
			if empty {
				continue
			}
		case d.Type() == fs.ModeSymlink:
			it.Kind = Link
			target, err := fs.ReadLink(r.fsys, at)
			if err != nil {
				return "", false, err
			}
			it.ID = r.blob([]byte(target))
		case d.Type().IsRegular():
			if it.Kind, it.ID, err = r.file(at, d); err != nil {
				return "", false, err
			}
		default:
			return "", false, &Fault{at, "is neither a file, a directory nor a symbolic link"}
		}
		items = append(items, it)
	}
	slices.SortFunc(items, compareItems)
	id = ObjectID("tree", EncodeTree(items))
	r.memory.trees[id] = items
	return id, len(items) == 0, nil
}

func (r *fsReader) file(p string, d fs.DirEntry) (Kind, ID, error) {
	if r.files++; r.files > r.limits.Files {
		return 0, "", &Fault{p, fmt.Sprintf("more than %d files in the directory", r.limits.Files)}
	}
	f, err := r.fsys.Open(p)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	// One byte more than allowed tells a file that is too long, also one that grows while it is read.
	b, err := io.ReadAll(io.LimitReader(f, min(r.limits.File, r.limits.Bytes-r.bytes)+1))
	if err != nil {
		return 0, "", &fs.PathError{Op: "read", Path: p, Err: err}
	}
	r.bytes += int64(len(b))
	switch {
	case int64(len(b)) > r.limits.File:
		return 0, "", &Fault{p, fmt.Sprintf("more than %d bytes", r.limits.File)}
	case r.bytes > r.limits.Bytes:
		return 0, "", &Fault{p, fmt.Sprintf("more than %d bytes in all files", r.limits.Bytes)}
	}
	kind := File
	if info.Mode()&0o100 != 0 {
		kind = Exec
	}
	return kind, r.blob(b), nil
}

func (r *fsReader) blob(b []byte) ID {
	id := ObjectID("blob", b)
	r.memory.blobs[id] = b
	return id
}

// IsFault says whether err is about the tree itself rather than about reading it.
func IsFault(err error) bool {
	var f *Fault
	return errors.As(err, &f)
}
