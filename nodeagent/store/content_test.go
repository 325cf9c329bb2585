package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/desired"
)

func openContent(t testing.TB, dir string, log *slog.Logger) *Content {
	t.Helper()
	c, err := OpenContent(dir, 0, log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t testing.TB, c *Content, blobs ...[]byte) {
	t.Helper()
	if err := c.Put(t.Context(), blobs...); err != nil {
		t.Fatal(err)
	}
}

// list is every file under dir but directories, relative, one a line.
func filesIn(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			lines = append(lines, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func blobs(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "blob %d %s", i, strings.Repeat("x", 1000))
	}
	return out
}

func TestPutGet(t *testing.T) {
	for _, n := range []int{0, 1, 3, 40, syncfsFrom, 300} {
		dir := t.TempDir()
		c := openContent(t, dir, nil)
		all := blobs(n)
		put(t, c, append(all, all...)...) // each twice
		for _, c := range []*Content{c, openContent(t, dir, nil)} {
			for _, b := range all {
				d := desired.DigestOf(b)
				got, err := c.Get(d)
				if err != nil || !bytes.Equal(got, b) || !c.Has(d) {
					t.Fatalf("%d blobs: %s: %q, %v", n, d, got, err)
				}
			}
		}
		if left := filesIn(t, filepath.Join(dir, "tmp")); left != "" {
			t.Errorf("%d blobs: left in tmp: %s", n, left)
		}
	}
}

func TestGetWhatIsNotThere(t *testing.T) {
	c := openContent(t, t.TempDir(), nil)
	if _, err := c.Get(desired.DigestOf([]byte("x"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	for _, d := range []desired.Digest{"", "x", "../../../../etc/passwd", desired.Digest(strings.Repeat("A", 64)), desired.Digest("../" + strings.Repeat("a", 61))} {
		if _, err := c.Get(d); err == nil || errors.Is(err, fs.ErrNotExist) || c.Has(d) {
			t.Errorf("digest %q: %v", d, err)
		}
	}
}

func TestConcurrentPutsOfOneBlob(t *testing.T) {
	c := openContent(t, t.TempDir(), nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := c.Put(t.Context(), blobs(5)...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestLeftoversAreRemovedAtOpen(t *testing.T) {
	dir := t.TempDir()
	openContent(t, dir, nil)
	if err := os.WriteFile(filepath.Join(dir, "tmp", "blob-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	openContent(t, dir, nil)
	if left := filesIn(t, dir); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestDamagedBlobIsQuarantinedAndHealed(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"flipped bit": func(b []byte) []byte { b[3] ^= 1; return b },
		"cut short":   func(b []byte) []byte { return b[:4] },
		"empty":       func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := []byte("some bytes")
			d := desired.DigestOf(b)
			c := openContent(t, dir, nil)
			put(t, c, b)
			if err := os.WriteFile(c.path(d), damage(bytes.Clone(b)), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			c = openContent(t, dir, slog.New(slog.NewTextHandler(&log, nil)))
			_, err := c.Get(d)
			corrupt, ok := errors.AsType[*CorruptError](err)
			if !ok || corrupt.Digest != d {
				t.Fatalf("get: %v", err)
			}
			if kept, err := os.ReadFile(corrupt.Path); err != nil || bytes.Equal(kept, b) {
				t.Errorf("kept %q, %v", kept, err)
			}
			if !strings.Contains(log.String(), "quarantined") {
				t.Errorf("log: %s", log.String())
			}
			if _, err := c.Get(d); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("get again: %v", err)
			}
			put(t, c, b)
			if got, err := c.Get(d); err != nil || !bytes.Equal(got, b) {
				t.Errorf("after put: %q, %v", got, err)
			}
		})
	}
}

func TestPutNoticesABlobOfAnotherSize(t *testing.T) {
	dir := t.TempDir()
	b := []byte("some bytes")
	put(t, openContent(t, dir, nil), b)
	c := openContent(t, dir, nil)
	if err := os.Truncate(c.path(desired.DigestOf(b)), 0); err != nil { // as a power loss leaves files on some file systems
		t.Fatal(err)
	}
	put(t, c, b)
	if got, err := c.Get(desired.DigestOf(b)); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	c := openContent(t, dir, nil)
	all := blobs(20)
	put(t, c, all...)
	keep := func(d desired.Digest) bool { return d == desired.DigestOf(all[7]) }
	if s, err := c.Sweep(keep, time.Hour); err != nil || s.Removed != 0 {
		t.Fatalf("young blobs: %+v, %v", s, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, b := range all {
		if err := os.Chtimes(c.path(desired.DigestOf(b)), old, old); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, all[3]) // stored already, wanted again
	s, err := c.Sweep(keep, time.Hour)
	if err != nil || s.Removed != 18 || s.Kept != 2 {
		t.Fatalf("swept %+v, %v", s, err)
	}
	for i, b := range all {
		if want := i == 7 || i == 3; c.Has(desired.DigestOf(b)) != want {
			t.Errorf("blob %d: there: %t", i, !want)
		}
		if _, err := c.Get(desired.DigestOf(b)); (err == nil) != (i == 7 || i == 3) {
			t.Errorf("blob %d: %v", i, err)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(1000)
	for i := range 100 {
		c.add(desired.Digest(fmt.Sprint(i)), make([]byte, 90))
		c.add("large", make([]byte, 900))
	}
	if c.size > 1000 || c.order.Len() != 11 || len(c.byD) != 11 {
		t.Errorf("%d bytes in %d blobs", c.size, c.order.Len())
	}
	if _, ok := c.get("99"); !ok {
		t.Error("the newest is gone")
	}
	c.drop("99")
	if _, ok := c.get("99"); ok || c.size != 900 {
		t.Errorf("dropped, %d bytes", c.size)
	}
}

// onSmallDisk calls f with an empty file system of the given size, in a process with mounts of its own, so that
// nothing stays mounted whatever happens.
func onSmallDisk(t *testing.T, size string, f func(t *testing.T, dir string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv("SHOAL_TEST_MOUNTS") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "SHOAL_TEST_MOUNTS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Fatalf("in a mount namespace: %v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+size); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	f(t, dir)
}

func TestFault_R9(t *testing.T) { onSmallDisk(t, "4m", putOnAFullDisk) }

func putOnAFullDisk(t *testing.T, dir string) {
	c := openContent(t, filepath.Join(dir, "content"), nil)
	first := []byte("there before the disk was full")
	put(t, c, first)
	filler := filepath.Join(dir, "filler")
	if err := fillUp(filler); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 10, 2 * syncfsFrom} {
		err := c.Put(t.Context(), blobs(n)...)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("put of %d blobs on a full disk: %v", n, err)
		}
		if left := filesIn(t, filepath.Join(c.dir, "tmp")); left != "" {
			t.Errorf("left in tmp: %s", left)
		}
	}
	if got := filesIn(t, c.dir); strings.Count(got, "\n") != 0 {
		t.Errorf("half-stored:\n%s", got)
	}
	if _, err := openContent(t, c.dir, nil).Get(desired.DigestOf(first)); err != nil {
		t.Errorf("what was there: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	put(t, c, blobs(10)...) // there is room again
}

func fillUp(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				return nil
			}
			return err
		}
	}
}

func FuzzGet(f *testing.F) {
	good := []byte("some bytes")
	f.Add(good)
	f.Add([]byte{})
	dir := f.TempDir()
	c, err := OpenContent(dir, 0, nil)
	if err != nil {
		f.Fatal(err)
	}
	d := desired.DigestOf(good)
	f.Fuzz(func(t *testing.T, file []byte) {
		c.cache = newCache(DefaultCache)
		if err := os.WriteFile(c.path(d), file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "quarantine")); err != nil {
			t.Fatal(err)
		}
		b, err := c.Get(d)
		if bytes.Equal(file, good) != (err == nil) || err == nil && !bytes.Equal(b, good) {
			t.Fatalf("file %q: %q, %v", file, b, err)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	for _, n := range []int{1, 4, 32, 256, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := openContent(b, b.TempDir(), nil)
			round := 0
			for b.Loop() {
				round++
				all := make([][]byte, n)
				for i := range all {
					all[i] = fmt.Appendf(nil, "%d %d %01500d", round, i, 0)
				}
				put(b, c, all...)
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	all := blobs(1000)
	for _, name := range []string{"cached", "read"} {
		b.Run(name, func(b *testing.B) {
			c := openContent(b, b.TempDir(), nil)
			put(b, c, all...)
			if name == "read" {
				c.cache = newCache(0)
			}
			digests := make([]desired.Digest, len(all))
			for i := range all {
				digests[i] = desired.DigestOf(all[i])
			}
			i := 0
			for b.Loop() {
				i++
				if _, err := c.Get(digests[i%len(all)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
