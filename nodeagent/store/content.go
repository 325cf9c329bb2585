package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/desired"
)

const (
	// DefaultCache is the memory the content store keeps blobs in, in bytes.
	DefaultCache = 8 << 20
	// syncfsFrom is the number of new blobs from which one syncfs is cheaper than their own fsyncs side by side.
	// Measured on ext4: 4 blobs 1.3 ms side by side, 1.9 ms by syncfs; 32 blobs 6.2 and 3.7; 256 blobs 34 and 19.
	// It is set higher than where they meet, because syncfs also waits for what others wrote, an image's layers say.
	syncfsFrom = 64
	// writers is how many blobs are written side by side.
	writers = 16
)

// CorruptError says that a blob's file did not hold the bytes of its name.
type CorruptError struct {
	Digest desired.Digest
	Path   string // where the file is kept now
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("blob %s is damaged; it was moved to %s", e.Digest, e.Path)
}

// Content is the content store: bytes by their sha256. It is safe for concurrent use.
type Content struct {
	dir   string
	log   *slog.Logger
	cache *cache

	mu     sync.RWMutex             // held shared by Put, whole by Sweep: what Put found there stays until it returned
	busyMu sync.Mutex               // guards busy
	busy   map[desired.Digest]*work // blobs being written
}

// work is the writing of one blob; err is set before done is closed.
type work struct {
	done chan struct{}
	err  error
}

// OpenContent opens the content store in dir, which it makes if it is absent, and removes what a crash left
// half-written. cacheBytes bounds the blobs kept in memory; 0 means DefaultCache.
func OpenContent(dir string, cacheBytes int64, log *slog.Logger) (*Content, error) {
	if cacheBytes == 0 {
		cacheBytes = DefaultCache
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Content{dir: dir, log: log, cache: newCache(cacheBytes), busy: map[desired.Digest]*work{}}
	if err := c.prepare(); err != nil {
		return nil, fmt.Errorf("open content store: %w", err)
	}
	return c, nil
}

// prepare makes the directories and empties tmp. It syncs what is there already: a run that was killed may have
// renamed a blob whose name is not durable yet, and Put takes a name for a promise.
func (c *Content) prepare() error {
	tmp := filepath.Join(c.dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := remove(filepath.Join(tmp, e.Name())); err != nil {
			return err
		}
	}
	for n := range 256 {
		shard := filepath.Join(c.dir, fmt.Sprintf("%02x", n))
		err := os.Mkdir(shard, 0o700)
		if errors.Is(err, fs.ErrExist) {
			err = syncDir(shard)
		}
		if err != nil {
			return err
		}
	}
	return syncDir(c.dir)
}

func (c *Content) path(d desired.Digest) string {
	return filepath.Join(c.dir, string(d[:2]), string(d))
}

// checkDigest refuses what is not a digest, before it becomes part of a path.
func checkDigest(d desired.Digest) error {
	if len(d) != 64 {
		return fmt.Errorf("digest %.70q: expected 64 hex digits", d)
	}
	for _, r := range d {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return fmt.Errorf("digest %.70q: expected lower-case hex digits", d)
		}
	}
	return nil
}

// Has says whether the store has a blob, without reading it.
func (c *Content) Has(d desired.Digest) bool {
	if checkDigest(d) != nil {
		return false
	}
	if _, ok := c.cache.get(d); ok {
		return true
	}
	_, err := os.Lstat(c.path(d))
	return err == nil
}

// Get returns the bytes of d; the caller must not change them. An absent blob is fs.ErrNotExist. A file that does
// not hold what its name says is quarantined, and the error is a *CorruptError.
func (c *Content) Get(d desired.Digest) ([]byte, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	if b, ok := c.cache.get(d); ok {
		return b, nil
	}
	b, err := os.ReadFile(c.path(d))
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	if desired.DigestOf(b) != d {
		return nil, c.corrupt(d)
	}
	c.cache.add(d, b)
	return b, nil
}

func (c *Content) corrupt(d desired.Digest) error {
	to, err := quarantine(c.path(d), filepath.Join(c.dir, "quarantine"))
	if err != nil {
		return fmt.Errorf("blob %s is damaged; quarantine: %w", d, err)
	}
	c.log.Error("blob is damaged, quarantined", "digest", string(d), "file", to)
	return &CorruptError{Digest: d, Path: to}
}

// Put stores blobs under their digests. When it returns nil all of them are durable; on an error (a full disk, say)
// those that were not stored before leave nothing behind but, at most, some whole ones. ctx is looked at before
// anything is written.
func (c *Content) Put(ctx context.Context, blobs ...[]byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store blobs: %w", context.Cause(ctx))
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	var mine []blob
	var others []*work
	for _, b := range blobs {
		d := desired.DigestOf(b)
		w, first, err := c.claim(d, len(b))
		if err != nil {
			c.release(mine, err)
			return fmt.Errorf("store blobs: %w", err)
		}
		switch {
		case first:
			mine = append(mine, blob{d, b})
		case w != nil:
			others = append(others, w)
		}
	}
	err := c.write(mine)
	c.release(mine, err)
	for _, w := range others {
		<-w.done // written by another Put, or by this one
		err = errors.Join(err, w.err)
	}
	if err != nil {
		return fmt.Errorf("store blobs: %w", err)
	}
	return nil
}

// claim makes the caller the writer of d (true), or returns who writes it, or nil if it is stored. A stored blob
// is made young again for Sweep; one of another size than it should have is quarantined, and written anew.
func (c *Content) claim(d desired.Digest, size int) (*work, bool, error) {
	c.busyMu.Lock()
	defer c.busyMu.Unlock()
	if w := c.busy[d]; w != nil {
		return w, false, nil
	}
	info, err := os.Lstat(c.path(d))
	switch {
	case err == nil && info.Size() == int64(size):
		return nil, false, os.Chtimes(c.path(d), time.Time{}, time.Now())
	case err == nil:
		if err := c.corrupt(d); !isCorrupt(err) {
			return nil, false, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	}
	w := &work{done: make(chan struct{})}
	c.busy[d] = w
	return w, true, nil
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

func (c *Content) release(blobs []blob, err error) {
	c.busyMu.Lock()
	defer c.busyMu.Unlock()
	for _, b := range blobs {
		w := c.busy[b.d]
		w.err = err
		close(w.done)
		delete(c.busy, b.d)
	}
}

// write makes new blobs durable: files first, then their names.
func (c *Content) write(blobs []blob) error {
	if len(blobs) == 0 {
		return nil
	}
	bulk := len(blobs) >= syncfsFrom
	temps := make([]string, len(blobs))
	err := sideBySide(len(blobs), func(i int) error {
		f, err := os.CreateTemp(filepath.Join(c.dir, "tmp"), "blob-*")
		if err != nil {
			return err
		}
		temps[i] = f.Name()
		if bulk {
			_, err = f.Write(blobs[i].bytes)
			return errors.Join(err, f.Close())
		}
		return fill(f, blobs[i].bytes)
	})
	if err == nil && bulk {
		err = c.syncfs()
	}
	if err != nil {
		return errors.Join(err, removeAll(temps))
	}
	var shards []string
	for i, b := range blobs {
		if err := os.Rename(temps[i], c.path(b.d)); err != nil {
			return errors.Join(err, removeAll(temps[i:]))
		}
		shards = append(shards, filepath.Join(c.dir, string(b.d[:2])))
	}
	if bulk {
		err = c.syncfs()
	} else {
		slices.Sort(shards)
		shards = slices.Compact(shards)
		err = sideBySide(len(shards), func(i int) error { return syncDir(shards[i]) })
	}
	if err != nil {
		// The names may not be durable, and a name is a promise to the next Put: take them back.
		for _, b := range blobs {
			err = errors.Join(err, remove(c.path(b.d)))
		}
		return err
	}
	for _, b := range blobs {
		c.cache.add(b.d, bytes.Clone(b.bytes))
	}
	return nil
}

func (c *Content) syncfs() error {
	d, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// sideBySide calls f(0..n-1), at most writers at a time, and returns the first error by number.
func sideBySide(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	errs := make([]error, n)
	slots := make(chan struct{}, writers)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = f(i)
			<-slots
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // one cause is enough: a full disk fails every write alike
		}
	}
	return nil
}

func removeAll(paths []string) error {
	var err error
	for _, path := range paths {
		if path != "" {
			err = errors.Join(err, remove(path))
		}
	}
	return err
}
