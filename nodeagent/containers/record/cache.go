package record

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Cache holds what was last read of one record. As Write replaces files and never changes one, a file that is the
// same to stat has the same words: reading it again costs one system call. The zero Cache is empty.
type Cache[T any] struct {
	file  stamp
	value T
}

// stamp tells one file from another that was there under the same name.
type stamp struct {
	inode       uint64
	size        int64
	sec, nano   int64 // of its last change
	csec, cnano int64
}

func stampOf(path string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	//nolint:unconvert // int32 on some machines
	return stamp{st.Ino, st.Size, int64(st.Mtim.Sec), int64(st.Mtim.Nsec), int64(st.Ctim.Sec), int64(st.Ctim.Nsec)}, nil
}

// Read gives the record at path, as Read does. Where there is none, what was known is forgotten.
func (c *Cache[T]) Read(path string) (T, error) {
	var none T
	file, err := stampOf(path)
	if err == nil && file == c.file {
		return c.value, nil
	}
	*c = Cache[T]{}
	if err != nil {
		return none, err
	}
	var value T
	if err := Read(path, &value); err != nil {
		return none, err
	}
	// The file may have been replaced since it was looked at: then its words are newer than the stamp, which the
	// next look finds to be another, and reads again.
	*c = Cache[T]{file, value}
	return value, nil
}

// Names holds the names in a directory, as of when they were last read. The zero Names is empty.
type Names struct {
	dir   stamp
	names []string
}

// coarse is more than the steps in which the kernel's clock for files may go on: 10 ms at 100 Hz.
const coarse = 50 * time.Millisecond

// Read lists the directory at path, sorted. The caller must not change what it gets.
func (c *Names) Read(path string) ([]string, error) {
	dir, err := stampOf(path)
	if err == nil && dir == c.dir {
		return c.names, nil
	}
	*c = Names{}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	// A directory that has just changed may change again without another time on it.
	if time.Since(time.Unix(dir.csec, dir.cnano)) > coarse {
		*c = Names{dir, names}
	}
	return names, nil
}
