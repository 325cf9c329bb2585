package volumes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	write := func(path string, bytes int) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, bytes), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	near := func(what string, want int64) {
		t.Helper()
		// A directory's own blocks count too: 4 KiB each at most, as few as they are here.
		if got, err := usage(t.Context(), dir, 1<<40); err != nil || got < want || got > want+64<<10 {
			t.Errorf("%s: %d bytes, %v; want %d", what, got, err, want)
		}
	}
	write(filepath.Join(outside, "big"), 8<<20)
	write(filepath.Join(dir, "a"), 1<<20)
	write(filepath.Join(dir, "deep/er/b"), 1<<20)
	near("two files", 2<<20)
	for i := range 4 {
		if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, fmt.Sprint("link", i))); err != nil {
			t.Fatal(err)
		}
	}
	near("links to one of them", 2<<20)
	for _, link := range []string{"out", "deep/out"} {
		if err := os.Symlink(outside, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	near("links that lead outside", 2<<20)
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	sparse.Close()
	near("a hole", 2<<20)
	if got, err := usage(t.Context(), dir, 100); err != nil || got <= 100 {
		t.Errorf("it stops above the limit: %d, %v", got, err)
	}
	if _, err := usage(t.Context(), filepath.Join(dir, "out"), 1); err == nil {
		t.Error("a volume that is a link was followed")
	}
	// Deeper than a path can be long: it is counted as far as it goes, and ends.
	at, err := unix.Open(dir, unix.O_RDONLY, 0)
	for range 3000 {
		if err != nil {
			t.Fatal(err)
		}
		if err = unix.Mkdirat(at, "d", 0o755); err == nil {
			var below int
			if below, err = unix.Openat(at, "d", unix.O_RDONLY, 0); err == nil {
				unix.Close(at)
				at = below
			}
		}
	}
	unix.Close(at)
	if _, err := usage(t.Context(), dir, 1<<40); err != nil {
		t.Errorf("very deep: %v", err)
	}
}

func TestWatch(t *testing.T) {
	v := open(t)
	v.opt.Measure = 10 * time.Millisecond
	pod := makePod(t, `
volumes:
- {name: free, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: none, emptyDir: {sizeLimit: "0"}}
- {name: small, emptyDir: {sizeLimit: 1Mi}}
`)
	paths, err := v.Prepare(t.Context(), pod, files)
	if err != nil {
		t.Fatal(err)
	}
	go v.Watch(t.Context())
	for _, name := range []string{"free", "none", "small"} {
		size := 4 << 20
		if name == "small" {
			size = 1000_000
		}
		if err := os.WriteFile(filepath.Join(paths[name], "f"), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	if got := v.Excess(); len(got) != 0 {
		t.Errorf("what is within its limit, or has none: %v", got)
	}
	if err := os.WriteFile(filepath.Join(paths["small"], "g"), make([]byte, 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	select {
	case <-v.Events():
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told")
	}
	if got := fmt.Sprint(v.Excess()); !strings.Contains(got, `Usage of EmptyDir volume "small" exceeds the limit "1Mi".`) {
		t.Errorf("got %s", got)
	}
	if err := v.Remove(t.Context(), pod.ID); err != nil {
		t.Fatal(err)
	}
	if got := v.Excess(); len(got) != 0 || len(v.watched) != 0 {
		t.Errorf("after the pod: %v, %v", got, v.watched)
	}
}

func BenchmarkUsage(b *testing.B) {
	dir := b.TempDir()
	for i := range 10_000 {
		at := filepath.Join(dir, fmt.Sprint(i/100), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(at, nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := usage(b.Context(), dir, 1<<40); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/file")
}
