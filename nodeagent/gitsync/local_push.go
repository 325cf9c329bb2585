package gitsync

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// Push writes the commit of a claim and moves its ref, in a repository on this machine that others use meanwhile: the
// objects are loose, the ref is held by its lock file, as git itself does it, and all of it belongs to whom the repository
// belongs to, for the agent is root and those who push there are not. Nothing else is ever written there.
func (l *localRemote) Push(ctx context.Context, u bare.Move, commit []byte) error {
	dir, err := commonDir(l.path)
	if err == nil {
		err = (&localWriter{dir: dir}).push(ctx, u, commit)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	return nil
}

// commonDir is where a repository has its objects and refs: path, its .git, or what that leads to.
func commonDir(path string) (string, error) {
	dir := path
	if info, err := os.Stat(filepath.Join(path, ".git")); err == nil && info.IsDir() {
		dir = filepath.Join(path, ".git")
	} else if err == nil {
		at, err := pathIn(filepath.Join(path, ".git"), "gitdir: ")
		if err != nil {
			return "", err
		}
		dir = at
	}
	switch at, err := pathIn(filepath.Join(dir, "commondir"), ""); {
	case errors.Is(err, fs.ErrNotExist):
		return dir, nil
	default:
		return at, err
	}
}

// pathIn reads a path from a file, relative to where the file lies.
func pathIn(file, prefix string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	at, ok := strings.CutPrefix(strings.TrimSpace(string(b)), prefix)
	if !ok || at == "" {
		return "", fmt.Errorf("%s: expected %q and a path", file, prefix)
	}
	if !filepath.IsAbs(at) {
		at = filepath.Join(filepath.Dir(file), at)
	}
	return at, nil
}

// localWriter writes into another's repository.
type localWriter struct {
	dir      string
	uid, gid int
	dirMode  os.FileMode
	fileMode os.FileMode
}

func (w *localWriter) push(ctx context.Context, u bare.Move, commit []byte) error {
	info, err := os.Stat(filepath.Join(w.dir, "objects"))
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("whose the repository is cannot be seen")
	}
	w.uid, w.gid = int(stat.Uid), int(stat.Gid)
	w.dirMode = info.Mode().Perm() | info.Mode()&os.ModeSetgid
	w.fileMode = info.Mode().Perm() &^ 0o111
	for _, o := range []struct {
		kind string
		raw  []byte
	}{{"tree", nil}, {"commit", commit}} {
		if err := w.object(o.kind, o.raw); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return w.moveRef(u)
}

// object writes a loose object, unless it is there.
func (w *localWriter) object(kind string, raw []byte) error {
	id := string(source.ObjectID(kind, raw))
	path := filepath.Join(w.dir, "objects", id[:2], id[2:])
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := w.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	fmt.Fprintf(z, "%s %d\x00%s", kind, len(raw), raw)
	if err := z.Close(); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "tmp_obj_"+id[2:]) // git gc takes away what a crash leaves of that name
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := w.write(tmp, b.Bytes(), w.fileMode&^0o222); err != nil {
		return err
	}
	return w.rename(tmp, path)
}

// moveRef takes a ref from one value to another, under the lock that git takes.
func (w *localWriter) moveRef(u bare.Move) (err error) {
	path := filepath.Join(w.dir, filepath.FromSlash(u.Name))
	if err := w.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	lock := path + ".lock"
	next := filepath.Join(w.dir, "shoal-ring-"+u.New.String())
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := w.write(next, []byte(u.New.String()+"\n"), w.fileMode); err != nil {
		return err
	}
	defer os.Remove(next)
	// By a link it is whole when it is seen: who lists the refs reads a lock among them as one.
	if err := os.Link(next, lock); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there: somebody moves the ref, or left it when a machine ended: %w", lock, ErrMoved)
		}
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(lock)
		}
	}()
	now, err := w.ref(u.Name)
	if err != nil {
		return err
	}
	if now != u.Old {
		return fmt.Errorf("%s: %w", u.Name, ErrMoved)
	}
	return w.rename(lock, path)
}

// ref is where a ref stands, loose or packed; zero where it is not.
func (w *localWriter) ref(name string) (h bare.Hash, err error) {
	b, err := os.ReadFile(filepath.Join(w.dir, filepath.FromSlash(name)))
	if err == nil {
		return toHash(source.ID(strings.TrimSpace(string(b))))
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return h, err
	}
	packed, err := os.ReadFile(filepath.Join(w.dir, "packed-refs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, err
	}
	for line := range strings.Lines(string(packed)) {
		if id, ok := strings.CutSuffix(strings.TrimSpace(line), " "+name); ok {
			return toHash(source.ID(id))
		}
	}
	return h, nil
}

// mkdir makes a directory and those above it that are not there.
func (w *localWriter) mkdir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := w.mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(os.Chown(dir, w.uid, w.gid), os.Chmod(dir, w.dirMode))
}

// write makes a file that is not there, and has it on disk.
func (w *localWriter) write(path string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chown(w.uid, w.gid), f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		os.Remove(path)
	}
	return err
}

func (w *localWriter) rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		os.Remove(from)
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
