package bare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Repo is an open repository. Its methods are safe for concurrent use.
type Repo struct {
	dir    string
	limits Limits
	lock   *os.File
	packs  atomic.Pointer[[]*pack] // newest first; the slice never changes

	publish sync.Mutex // held while packs are added or dropped
	compact sync.Mutex // held over a Compact
	refs    refs
}

// Open opens the repository at dir, which is made if it is absent or empty, and removes what a crash left half
// done. It fails if another Repo has it open, and with ErrCorrupt if packs, indexes and refs do not fit each
// other; Verify looks deeper.
func Open(dir, head string, limits Limits) (*Repo, error) {
	r := &Repo{dir: dir, limits: limits.WithDefaults()}
	for _, d := range []string{"objects/pack", "objects/info", "refs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, "owner.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s: already open in another process: %w", dir, err)
	}
	r.lock = lock
	if err := r.open(head); err != nil {
		r.Close()
		return nil, fmt.Errorf("repository %s: %w", dir, err)
	}
	return r, nil
}

func (r *Repo) open(head string) error {
	config := filepath.Join(r.dir, "config")
	if _, err := os.Stat(config); err != nil {
		if err := r.replace("config", []byte("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")); err != nil {
			return err
		}
	}
	if err := r.replace("HEAD", []byte("ref: "+head+"\n")); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(r.dir, "objects", "incoming-*"))
	if err != nil {
		return err
	}
	for _, d := range left {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	if err := r.refs.load(r.dir); err != nil {
		return err
	}
	return r.openPacks()
}

// openPacks opens all packs. An index without its pack is what a crash between two renames leaves, since the pack
// is renamed last: nothing refers to it, and it is removed. A pack without index is damage.
func (r *Repo) openPacks() error {
	dir := r.packDir()
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var packs []*pack
	r.packs.Store(&packs)
	type found struct {
		path string
		info os.FileInfo
	}
	var files []found
	for _, d := range list {
		path := filepath.Join(dir, d.Name())
		switch base, isPack := strings.CutSuffix(path, ".pack"); {
		case isPack:
			info, err := d.Info()
			if err != nil {
				return err
			}
			files = append(files, found{base, info})
		case strings.HasSuffix(path, ".idx"):
			if _, err := os.Stat(strings.TrimSuffix(path, ".idx") + ".pack"); errors.Is(err, os.ErrNotExist) {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
	}
	slices.SortFunc(files, func(a, b found) int { return b.info.ModTime().Compare(a.info.ModTime()) })
	for _, f := range files {
		p, err := openPack(f.path)
		if err != nil {
			return err
		}
		packs = append(packs, p)
	}
	r.packs.Store(&packs)
	return nil
}

// Close lets go of the repository. Readers may finish what they hold.
func (r *Repo) Close() {
	if packs := r.packs.Swap(new([]*pack)); packs != nil {
		for _, p := range *packs {
			p.close()
		}
	}
	if r.lock != nil {
		r.lock.Close()
	}
}

// Dir is where the repository lies.
func (r *Repo) Dir() string { return r.dir }

func (r *Repo) packDir() string { return filepath.Join(r.dir, "objects", "pack") }

// Packs is how many packs there are.
func (r *Repo) Packs() int { return len(*r.packs.Load()) }

// Has says whether an object is there. An index that cannot be read is a no.
func (r *Repo) Has(h Hash) bool {
	for _, p := range *r.packs.Load() {
		if n, err := p.search(h); err == nil && n >= 0 {
			return true
		}
	}
	return false
}

// Read returns an object whose bytes were checked against its id. The errors wrap ErrMissing or ErrCorrupt.
func (r *Repo) Read(h Hash) (Kind, []byte, error) {
	var damage error
	for _, p := range *r.packs.Load() {
		off, err := p.find(h)
		if err == nil && off < 0 {
			continue
		}
		var k Kind
		var raw []byte
		if err == nil {
			k, raw, err = p.object(off, r.limits)
		}
		if err == nil && hashOf(k, raw) == h {
			return k, raw, nil
		}
		if err == nil {
			err = errors.New("its bytes give another id")
		}
		damage = fmt.Errorf("object %s in %s: %w: %w", h, filepath.Base(p.path), ErrCorrupt, err) // another pack may hold it whole
	}
	if damage != nil {
		return 0, nil, damage
	}
	return 0, nil, fmt.Errorf("%s: %w", h, ErrMissing)
}

// ReadKind is Read for an object that must be of kind k.
func (r *Repo) ReadKind(h Hash, k Kind) ([]byte, error) {
	got, raw, err := r.Read(h)
	if err == nil && got != k {
		err = fmt.Errorf("%s is a %s, expected a %s", h, got, k)
	}
	return raw, err
}

// replace writes a file of the repository whole: old or new, never between.
func (r *Repo) replace(name string, b []byte) error {
	return replaceFile(filepath.Join(r.dir, name), b)
}

func replaceFile(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// canceled is the reason ctx ended, or nil.
func canceled(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
