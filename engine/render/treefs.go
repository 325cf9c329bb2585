package render

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// treeFS is a tree as CUE's @embed wants it, noting all that is read.
type treeFS struct {
	tree  source.Tree
	reads *reads
}

// Open implements fs.FS.
func (t treeFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	t.reads.whole(name)
	e, err := t.tree.Lookup(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := &treeFile{info: treeInfo{name: path.Base(name), mode: e.Mode}}
	if e.Mode.IsDir() {
		entries, err := t.tree.ReadDir(name)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		f.entries = entries
		return f, nil
	}
	data, err := t.tree.ReadFile(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f.info.size = int64(len(data))
	f.Reader = bytes.NewReader(data)
	return f, nil
}

type treeFile struct {
	*bytes.Reader
	info    treeInfo
	entries []source.Entry
}

func (f *treeFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *treeFile) Close() error               { return nil }

func (f *treeFile) Read(b []byte) (int, error) {
	if f.Reader == nil {
		return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: fs.ErrInvalid}
	}
	return f.Reader.Read(b)
}

// ReadDir implements fs.ReadDirFile.
func (f *treeFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(f.entries) {
		if n > 0 && len(f.entries) == 0 {
			return nil, io.EOF
		}
		n = len(f.entries)
	}
	out := make([]fs.DirEntry, n)
	for i, e := range f.entries[:n] {
		out[i] = fs.FileInfoToDirEntry(treeInfo{name: e.Name, mode: e.Mode})
	}
	f.entries = f.entries[n:]
	return out, nil
}

type treeInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i treeInfo) Name() string       { return i.name }
func (i treeInfo) Size() int64        { return i.size }
func (i treeInfo) Mode() fs.FileMode  { return i.mode }
func (i treeInfo) ModTime() time.Time { return time.Time{} }
func (i treeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i treeInfo) Sys() any           { return nil }
