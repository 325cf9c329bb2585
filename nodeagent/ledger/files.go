package ledger

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"
)

// files are the log's segments as files of full size. One more than is needed lies ready as "spare" and becomes the
// next segment by a rename, so that the log goes on for a segment after the disk is full. A write or sync that
// fails for another reason than space is told to fault, once and for all.
type files struct {
	dir   string
	log   *slog.Logger
	size  int // bytes of a segment
	fault func(error)
	sync  func(*os.File) error // (*os.File).Sync; a test's disk fails here

	indexed map[uint64]uint64 // where the index begins that sealed added to a segment, by its ID
}

var _ types.VFS = (*files)(nil)

// room is the size of the file of a segment of size bytes: the batch that fills it goes beyond, and its index follows.
func room(size int64) int64 { return size + min(size, MaxEntry+MaxEntry/2) }

func (v *files) spare() string { return filepath.Join(v.dir, "spare") }

// fillSpare makes the spare segment, if there is none and there is room.
func (v *files) fillSpare() {
	info, err := os.Lstat(v.spare())
	if err == nil && info.Size() == room(int64(v.size)) {
		return
	}
	f, err := allocate(v.spare(), room(int64(v.size)), os.O_TRUNC)
	if err != nil {
		v.log.Warn("no space for a spare segment of the log", "bytes", v.size, "err", err)
		return
	}
	if err := f.Close(); err != nil {
		v.log.Warn("spare segment of the log", "err", err)
	}
}

// hasRoom says whether another segment can be made.
func (v *files) hasRoom() bool {
	if info, err := os.Lstat(v.spare()); err == nil && info.Size() == room(int64(v.size)) {
		return true
	}
	var s unix.Statfs_t
	if err := unix.Statfs(v.dir, &s); err != nil {
		return false
	}
	return s.Bavail*uint64(s.Bsize) > uint64(room(int64(v.size)))+1<<20
}

// allocate makes a file of size zero bytes that has its blocks.
func allocate(path string, size int64, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|flags, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, size))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("allocate %s: %w", path, err), f.Close(), os.Remove(path))
	}
	return f, nil
}

// Create makes a segment.
func (v *files) Create(dir, name string, size uint64) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	f, err := v.take(path, room(int64(size)))
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		v.fault(err)
		return nil, errors.Join(err, f.Close())
	}
	v.fillSpare()
	return &segmentFile{f, v}, nil
}

// take makes the spare the file at path, or allocates one.
func (v *files) take(path string, size int64) (*os.File, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("segment %s: %w", path, os.ErrExist)
	}
	if info, err := os.Lstat(v.spare()); err == nil && info.Size() == size {
		if err := os.Rename(v.spare(), path); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_RDWR, 0)
	}
	return allocate(path, size, os.O_EXCL)
}

// ListDir lists a directory.
func (v *files) ListDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Delete removes a segment.
func (v *files) Delete(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// OpenReader opens a sealed segment.
func (v *files) OpenReader(dir, name string) (types.ReadableFile, error) {
	return os.Open(filepath.Join(dir, name))
}

// OpenWriter opens the segment at the tail.
func (v *files) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &segmentFile{f, v}, nil
}

// segmentFile tells of writes that failed.
type segmentFile struct {
	*os.File
	v *files
}

// WriteAt writes to the segment.
func (f *segmentFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(b, off)
	if err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		f.v.fault(err)
	}
	return n, err
}

// Sync makes the segment durable. A failure is final, whatever its reason: the kernel forgets what it could not write.
func (f *segmentFile) Sync() error {
	err := f.v.sync(f.File)
	if err != nil {
		f.v.fault(err)
	}
	return err
}

// keepAside copies the log's files to quarantine under dir and returns where.
func (v *files) keepAside(dir string) (string, error) {
	to, err := makeQuarantine(dir, "log")
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name() == "spare" || !e.Type().IsRegular() {
			continue
		}
		if err := copyFile(filepath.Join(v.dir, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return "", fmt.Errorf("keep damaged log: %w", err)
		}
	}
	return to, syncDir(to)
}

// makeQuarantine makes a directory for what cannot be trusted: quarantine/NAME-N, at most 16 of a name.
func makeQuarantine(dir, name string) (string, error) {
	base := filepath.Join(dir, "quarantine")
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", err
	}
	for n := range 16 {
		to := filepath.Join(base, fmt.Sprintf("%s-%d", name, n))
		err := os.Mkdir(to, 0o700)
		if !errors.Is(err, os.ErrExist) {
			return to, err
		}
	}
	return "", fmt.Errorf("%s holds 16 copies of a damaged %s already: look at them, and remove them", base, name)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}
