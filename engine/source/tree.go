// Package source is a commit as a value: names, Git object ids and contents.
package source

import "io/fs"

// ID is a Git object id in lower-case hex (40 digits for SHA-1). Equal ids mean equal contents, so an ID can
// key a cache without the object being read.
type ID string

// Entry is one name in a directory of a Tree.
type Entry struct {
	Name string
	ID   ID
	Mode fs.FileMode // fs.ModeDir for a directory; otherwise a regular file, 0o644 or 0o755
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
	// ReadFile returns a whole file. The caller must not change it.
	ReadFile(path string) ([]byte, error)
}
