package bare

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// forge builds packs by hand, also such that no git would write.
type forge struct {
	b     bytes.Buffer
	count uint32
}

func (f *forge) raw(head []byte, body []byte) (off int) {
	off = 12 + f.b.Len()
	f.b.Write(head)
	f.b.Write(deflate(body))
	f.count++
	return off
}

func (f *forge) object(k Kind, body string) int {
	return f.raw(objectHeader(k, len(body)), []byte(body))
}

func (f *forge) ofs(base int, delta []byte) int {
	back := 12 + f.b.Len() - base
	tail := []byte{byte(back & 0x7f)}
	for back >>= 7; back > 0; back >>= 7 {
		back--
		tail = append([]byte{byte(back&0x7f) | 0x80}, tail...)
	}
	return f.raw(append(objectHeader(ofsDelta, len(delta)), tail...), delta)
}

func (f *forge) ref(base Hash, delta []byte) int {
	return f.raw(append(objectHeader(refDelta, len(delta)), base[:]...), delta)
}

// pack is the whole pack, whose header claims count objects more than there are.
func (f *forge) pack(more int) []byte {
	head := []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00")
	binary.BigEndian.PutUint32(head[8:], f.count+uint32(more))
	p := append(head, f.b.Bytes()...)
	sum := sha1.Sum(p)
	return append(p, sum[:]...)
}

// deflater is kept, since making one costs more than most objects.
var deflater, _ = zlib.NewWriterLevel(nil, zlib.BestSpeed)

func deflate(b []byte) []byte {
	var z bytes.Buffer
	deflater.Reset(&z)
	deflater.Write(b)
	deflater.Close()
	return z.Bytes()
}

// delta makes a delta from base bytes to result bytes by ops.
func delta(base, result int, ops ...byte) []byte {
	size := func(n int) (b []byte) {
		for ; n > 0x7f; n >>= 7 {
			b = append(b, byte(n&0x7f)|0x80)
		}
		return append(b, byte(n))
	}
	return append(append(size(base), size(result)...), ops...)
}

func commitOf(tree Hash, parents ...Hash) string {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	b.WriteString("author A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nm\n")
	return b.String()
}

func treeOf(name string, h Hash) string { return "100644 " + name + "\x00" + string(h[:]) }

func newRepo(t testing.TB, l Limits) *Repo {
	t.Helper()
	r, err := Open(filepath.Join(t.TempDir(), "git"), "refs/heads/main", l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// good is a pack of one commit with one file, whose second version is a delta upon a delta.
func good() (pack []byte, commit Hash) {
	var f forge
	text := strings.Repeat("package web\n", 10)
	one := f.object(Blob, text)
	two := f.ofs(one, delta(120, 122, 0x90, 120, 2, 'x', '\n'))
	f.ofs(two, delta(122, 124, 0x90, 122, 2, 'y', '\n'))
	blob := hashOf(Blob, []byte(text+"x\ny\n"))
	tree := treeOf("web.cue", blob)
	f.object(Tree, tree)
	c := commitOf(hashOf(Tree, []byte(tree)))
	f.object(Commit, c)
	return f.pack(0), hashOf(Commit, []byte(c))
}

// receive takes a pack in and returns what is wrong with it, with ids cut short.
func receive(r *Repo, pack []byte) string {
	in, err := r.Receive(context.Background(), bytes.NewReader(pack), nil)
	if err != nil {
		return err.Error()
	}
	if err := in.Publish(); err != nil {
		return err.Error()
	}
	return ""
}

// untouched fails if anything of a refused pack is left.
func untouched(t *testing.T, r *Repo) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(r.Dir(), "objects", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if dirs, _ := filepath.Glob(filepath.Join(r.Dir(), "objects", "incoming-*")); len(dirs) > 0 {
		t.Errorf("left behind: %v", dirs)
	}
	if r.Packs() != 0 {
		t.Errorf("%d packs are open", r.Packs())
	}
}

// takeApart does what Receive does before the disk.
func takeApart(pack []byte, limits Limits) error {
	var file bytes.Buffer
	s := scanner{
		in: newInput(bytes.NewReader(pack), &file, limits.Pack), limits: limits, budget: limits.Inflated,
		links: linkSet{named: map[Hash]Hash{}, max: 2000, shallow: func(Hash) bool { return false }},
	}
	entries, _, err := s.scan()
	if err != nil {
		return err
	}
	r := resolver{file: bytes.NewReader(file.Bytes()), entries: entries, limits: limits, budget: &s.budget, links: &s.links}
	if err := r.resolve(); err != nil {
		return err
	}
	for i := range entries {
		raw, err := r.make(int32(i))
		if err != nil {
			return err
		}
		if hashOf(entries[i].kind, raw) != entries[i].id {
			panic(fmt.Sprintf("object %d gives another id", i))
		}
	}
	return nil
}

// TestFault_G3 damages a good pack in every way one bit or one cut can, and some more by hand. Each is refused
// and leaves nothing.
func TestFault_G3(t *testing.T) {
	pack, commit := good()
	r := newRepo(t, Limits{})
	for i := range pack {
		if err := takeApart(pack[:i], r.limits); err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Fatalf("cut at %d: %v", i, err)
		}
		if i%32 == 0 && !strings.Contains(receive(r, pack[:i]), "cut short") {
			t.Fatalf("cut at %d: taken", i)
		}
		for bit := range 8 {
			bad := bytes.Clone(pack)
			bad[i] ^= 1 << bit
			if takeApart(bad, r.limits) == nil {
				t.Fatalf("byte %d bit %d flipped: not noticed", i, bit)
			}
		}
	}
	untouched(t, r)

	var lost Hash
	lost[0] = 7
	for _, c := range []struct {
		name string
		make func(*forge) []byte
		want string
	}{
		{"not a pack", func(*forge) []byte { return []byte("<html>not found</html>") }, `pack header: "<htm" is not "PACK"`},
		{"empty", func(*forge) []byte { return nil }, "pack header: the pack is cut short"},
		{"fewer than it says", func(f *forge) []byte { f.object(Blob, "x"); return f.pack(1) }, "object 2 of 2 at offset"},
		{
			"no such base", func(f *forge) []byte { f.ref(lost, delta(1, 1, 0x90, 1)); return f.pack(0) },
			"pack: object at offset 12: its delta base 0700000000000000000000000000000000000000 is not in the pack (thin packs are not taken)",
		},
		{"base before the pack", func(f *forge) []byte { f.ofs(-500, delta(1, 1, 0x90, 1)); return f.pack(0) }, "a delta base 512 bytes back, which is not in the pack"},
		{"base inside an object", func(f *forge) []byte { f.object(Blob, "xxxx"); f.ofs(13, delta(4, 1, 0x90, 1)); return f.pack(0) }, "no delta base at offset 13"},
		{"delta of another base", func(f *forge) []byte { f.ofs(f.object(Blob, "xxxx"), delta(5, 1, 0x90, 1)); return f.pack(0) }, errDelta.Error()},
		{"delta beyond its base", func(f *forge) []byte { f.ofs(f.object(Blob, "xxxx"), delta(4, 9, 0x90, 9)); return f.pack(0) }, errDelta.Error()},
		{"delta with a bad op", func(f *forge) []byte { f.ofs(f.object(Blob, "xxxx"), delta(4, 1, 0)); return f.pack(0) }, errDelta.Error()},
		{"delta cut short", func(f *forge) []byte { f.ofs(f.object(Blob, "xxxx"), delta(4, 9, 9, 'x')); return f.pack(0) }, errDelta.Error()},
		{"twice the same", func(f *forge) []byte { f.object(Blob, "x"); f.object(Blob, "x"); return f.pack(0) }, "pack: holds blob c1b0730e0133447badcfd47fd144e254807b06e1 twice"},
		{
			"a file is missing", func(f *forge) []byte { f.object(Tree, treeOf("a", lost)); return f.pack(0) },
			"pack: object 0700000000000000000000000000000000000000, which 0af23b21e0cb9e1ddb1d1e9b5ef0d2ae42b33a5b names, is neither",
		},
		{"a parent is missing", func(f *forge) []byte {
			f.object(Tree, "")
			f.object(Commit, commitOf(hashOf(Tree, nil), lost))
			return f.pack(0)
		}, "pack: object 0700000000000000000000000000000000000000, which "},
		{"a tree that is none", func(f *forge) []byte { f.object(Tree, "100644 a"); return f.pack(0) }, "tree: a line is cut short"},
		{"a commit that is none", func(f *forge) []byte { f.object(Commit, "tree x\n\n"); return f.pack(0) }, `commit: "tree" is no id`},
		{"type 5", func(f *forge) []byte { f.object(5, "x"); return f.pack(0) }, "object type 5, which Git does not have"},
		{"longer than it says", func(f *forge) []byte { f.raw(objectHeader(Blob, 3), []byte("xxxx")); return f.pack(0) }, "inflates to more than the 3 bytes of its header"},
		{"shorter than it says", func(f *forge) []byte { f.raw(objectHeader(Blob, 5), []byte("xxxx")); return f.pack(0) }, "inflates to less than the 5 bytes of its header"},
	} {
		var f forge
		if got := receive(r, c.make(&f)); !strings.Contains(got, strings.TrimSuffix(c.want, "0af23b21e0cb9e1ddb1d1e9b5ef0d2ae42b33a5b names, is neither")) {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
		untouched(t, r)
	}
	if got := receive(r, pack); got != "" || !r.Has(commit) {
		t.Errorf("the good pack: %q", got)
	}
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFault_G9 sends bombs. Each is refused within its limit, in bounded memory and time.
func TestFault_G9(t *testing.T) {
	if testing.Short() {
		t.Skip("bombs take seconds")
	}
	limits := Limits{Object: 4 << 20, Inflated: 128 << 20, Depth: 100, Objects: 10_000}
	zeros := strings.Repeat("\x00", 4<<20)
	copyAll := delta(4<<20, 4<<20, 0xf0, 0x00, 0x00, 0x40) // one copy of 4 MiB
	for _, c := range []struct {
		name string
		make func(*forge) []byte
		want string
	}{
		{"zlib bomb", func(f *forge) []byte { f.raw(objectHeader(Blob, 10), []byte(zeros)); return f.pack(0) }, "inflates to more than the 10 bytes"},
		{"zlib bomb that owns up", func(f *forge) []byte { f.object(Blob, zeros+"x"); return f.pack(0) }, "it is 4194305 bytes long; at most 4194304"},
		{"many bombs", func(f *forge) []byte {
			for i := range 40 {
				f.object(Blob, zeros[:len(zeros)-i])
			}
			return f.pack(0)
		}, "the pack has more than 134217728 inflated bytes"},
		{"delta bomb", func(f *forge) []byte { // 1,000 deltas of ten bytes, 4 MiB each
			base := f.object(Blob, zeros)
			for range 1000 {
				f.ofs(base, copyAll)
			}
			return f.pack(0)
		}, "the pack has more than 134217728 inflated bytes"},
		{"delta of a huge result", func(f *forge) []byte {
			f.ofs(f.object(Blob, "x"), delta(1, 1<<40, 0x90, 1))
			return f.pack(0)
		}, "the result of a delta has more than 4194304 bytes"},
		{"long chain", func(f *forge) []byte {
			at := f.object(Blob, "x")
			for range 1000 {
				at = f.ofs(at, delta(1, 1, 0x90, 1))
			}
			return f.pack(0)
		}, "is more than 100 deltas deep"},
		{"a tree of chains", func(f *forge) []byte { // every object has two deltas, so that all must be kept
			at := f.object(Blob, zeros)
			for range 90 {
				next := f.ofs(at, copyAll)
				f.ofs(at, copyAll)
				at = next
			}
			return f.pack(0)
		}, "the pack has more than 134217728 inflated bytes"},
		{"a header of four billion objects", func(f *forge) []byte { f.object(Blob, "x"); return f.pack(-2) }, "the pack has more than 10000 objects"},
		{"a size of 2^60", func(f *forge) []byte {
			f.raw([]byte{0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, []byte("x"))
			return f.pack(0)
		}, "a size of more than 2^57 bytes"},
	} {
		var f forge
		pack := c.make(&f)
		r := newRepo(t, limits)
		stop := watchHeap()
		start := time.Now()
		got := receive(r, pack)
		took := time.Since(start)
		grew := stop()
		t.Logf("%-32s %4d KiB pack, heap +%d MiB, %s", c.name, len(pack)>>10, grew>>20, took.Round(time.Millisecond))
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
		if grew > 128<<20 {
			t.Errorf("%s: the heap grew by %d MiB", c.name, grew>>20)
		}
		untouched(t, r)
	}
}

// watchHeap measures how far the heap in use grows until the returned function is called.
func watchHeap() func() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most := m.HeapInuse, m.HeapInuse
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-stopped
		return most - before
	}
}

// TestFault_G8 sends what is merely huge.
func TestFault_G8(t *testing.T) {
	t.Run("objects", func(t *testing.T) {
		var f forge
		for i := range 2000 {
			f.object(Blob, fmt.Sprint(i))
		}
		r := newRepo(t, Limits{Objects: 1999})
		if got, want := receive(r, f.pack(0)), "the pack has more than 1999 objects"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		untouched(t, r)
	})
	t.Run("bytes", func(t *testing.T) {
		var f forge
		f.object(Blob, string(noise(1<<20)))
		r := newRepo(t, Limits{Pack: 512 << 10})
		if got, want := receive(r, f.pack(0)), "the pack has more than 524288 bytes"; !strings.HasSuffix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		untouched(t, r)
	})
	t.Run("a file of 1 GiB is refused by its header", func(t *testing.T) {
		var f forge
		f.raw(objectHeader(Blob, 1<<30), []byte("the rest is not sent"))
		r := newRepo(t, Limits{})
		if got, want := receive(r, f.pack(0)), "it is 1073741824 bytes long; at most 33554432"; !strings.HasSuffix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		untouched(t, r)
	})
	t.Run("200,000 files", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes seconds")
		}
		var f forge
		var tree bytes.Buffer // each file's contents are its number
		for i := range 200_000 {
			text := fmt.Sprint("file ", i)
			f.object(Blob, text)
			h := hashOf(Blob, []byte(text))
			fmt.Fprintf(&tree, "100644 f%06d\x00%s", i, h[:])
		}
		f.object(Tree, tree.String())
		pack := f.pack(0)
		r := newRepo(t, Limits{})
		stop := watchHeap()
		start := time.Now()
		if got := receive(r, pack); got != "" {
			t.Error(got)
		}
		took, grew := time.Since(start), stop()
		t.Logf("heap +%d MiB, %s", grew>>20, took.Round(time.Millisecond))
		if grew > 160<<20 {
			t.Errorf("the heap grew by %d MiB", grew>>20)
		}
	})
}

// noise is n bytes that do not compress, the same every time.
func noise(n int) []byte {
	b := make([]byte, 0, n+20)
	sum := sha1.Sum(nil)
	for len(b) < n {
		sum = sha1.Sum(sum[:])
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// TestCompact merges packs under a reader, with deltas, and reads everything back.
func TestCompact(t *testing.T) {
	r := newRepo(t, Limits{})
	var tips []Move
	want := map[Hash]string{}
	for i := range 30 {
		var f forge
		text := strings.Repeat(fmt.Sprintf("line %d\n", i), 50)
		base := f.object(Blob, text)
		f.ofs(base, delta(len(text), len(text)+1, 0xb0, byte(len(text)), byte(len(text)>>8), 1, 'x'))
		tree := treeOf("f", hashOf(Blob, []byte(text+"x")))
		f.object(Tree, tree)
		c := commitOf(hashOf(Tree, []byte(tree)))
		f.object(Commit, c)
		if got := receive(r, f.pack(0)); got != "" {
			t.Fatal(got)
		}
		want[hashOf(Blob, []byte(text+"x"))] = text + "x"
		want[hashOf(Commit, []byte(c))] = c
		tips = append(tips, Move{Name: fmt.Sprintf("refs/heads/b%d", i), New: hashOf(Commit, []byte(c))})
	}
	if err := r.UpdateRefs(tips); err != nil {
		t.Fatal(err)
	}
	held := *r.packs.Load() // a reader that began before
	if err := r.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.Packs() != 1 {
		t.Errorf("%d packs after Compact, want 1", r.Packs())
	}
	if files, _ := os.ReadDir(filepath.Join(r.Dir(), "objects", "pack")); len(files) != 2 {
		t.Errorf("%d files after Compact, want a pack and its index", len(files))
	}
	for h, text := range want {
		if _, raw, err := r.Read(h); string(raw) != text || err != nil {
			t.Errorf("%s: %.20q, %v", h, raw, err)
		}
	}
	if off, err := held[0].find(tips[29].New); err != nil || off < 0 {
		t.Errorf("the old pack is closed to its reader: %d, %v", off, err)
	}
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	r.Close()
	r, err := Open(r.Dir(), "refs/heads/main", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOneOwner(t *testing.T) {
	r := newRepo(t, Limits{})
	if _, err := Open(r.Dir(), "refs/heads/main", Limits{}); err == nil || !strings.Contains(err.Error(), "already open") {
		t.Errorf("a second Open: %v", err)
	}
}

func TestUpdateRefs(t *testing.T) {
	r := newRepo(t, Limits{})
	pack, c := good()
	if got := receive(r, pack); got != "" {
		t.Fatal(got)
	}
	if err := r.UpdateRefs([]Move{{Name: "refs/heads/a", New: c}, {Name: "refs/heads/b", New: c}}); err != nil {
		t.Fatal(err)
	}
	for _, moves := range [][]Move{
		{{Name: "refs/heads/a", Old: c}, {Name: "refs/heads/b"}},            // b is not where the caller thinks: a stays too
		{{Name: "refs/heads/a", Old: c}, {Name: "refs/heads/../x", New: c}}, // no such name
		{{Name: "refs/heads/a", Old: c, New: Hash{1}}},                      // no such object
	} {
		if err := r.UpdateRefs(moves); err == nil {
			t.Errorf("%v went through", moves)
		}
		if now, ok := r.Ref("refs/heads/a"); !ok || now != c {
			t.Errorf("%v: a is at %s", moves, now)
		}
	}
	if err := r.UpdateRefs([]Move{{Name: "refs/heads/b"}}); !errors.Is(err, ErrMoved) {
		t.Errorf("a move from the wrong place: %v", err)
	}
	dir := r.Dir()
	r.Close()
	r, err := Open(dir, "refs/heads/main", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := fmt.Sprint(r.Refs()); got != fmt.Sprintf("map[refs/heads/a:%s refs/heads/b:%s]", c, c) {
		t.Errorf("after opening again: %s", got)
	}
}

// TestCollect drops what no ref leads to and nothing else.
func TestCollect(t *testing.T) {
	r := newRepo(t, Limits{})
	var kept, lost []Hash
	for i := range 6 {
		var f forge
		text := fmt.Sprint("file ", i)
		f.object(Blob, text)
		tree := treeOf("f", hashOf(Blob, []byte(text)))
		f.object(Tree, tree)
		c := commitOf(hashOf(Tree, []byte(tree)))
		f.object(Commit, c)
		if got := receive(r, f.pack(0)); got != "" {
			t.Fatal(got)
		}
		ids := []Hash{hashOf(Blob, []byte(text)), hashOf(Tree, []byte(tree)), hashOf(Commit, []byte(c))}
		if i%2 == 0 {
			lost = append(lost, ids...)
			continue
		}
		kept = append(kept, ids...)
		if err := r.UpdateRefs([]Move{{Name: fmt.Sprintf("refs/shoal/pins/dev/%d", i), New: ids[2]}}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := r.Collect(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("within the grace: %d dropped, %v", n, err)
	}
	if n, err := r.Collect(t.Context(), 0); n != len(lost) || err != nil {
		t.Errorf("%d dropped, %v, want %d", n, err, len(lost))
	}
	for _, h := range kept {
		if _, _, err := r.Read(h); err != nil {
			t.Error(err)
		}
	}
	for _, h := range lost {
		if r.Has(h) {
			t.Errorf("%s is still there", h)
		}
	}
	if err := r.UpdateRefs([]Move{{Name: "refs/shoal/pins/dev/1", Force: true}, {Name: "refs/shoal/pins/dev/3", Force: true}, {Name: "refs/shoal/pins/dev/5", Force: true}}); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Collect(t.Context(), 0); n != len(kept) || err != nil || r.Packs() != 0 {
		t.Errorf("with no ref: %d dropped, %v, %d packs", n, err, r.Packs())
	}
	dir := r.Dir()
	r.Close()
	r, err := Open(dir, "refs/heads/main", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}

// FuzzScan takes noise apart as Receive does, without the disk.
func FuzzScan(f *testing.F) {
	pack, _ := good()
	f.Add(pack)
	var b forge
	b.ofs(b.object(Blob, "xxxx"), delta(4, 8, 0x90, 4, 4, 'y', 'y', 'y', 'y'))
	b.ref(hashOf(Blob, []byte("xxxx")), delta(4, 2, 0x90, 2))
	f.Add(b.pack(0))
	limits := Limits{Object: 1 << 20, Inflated: 8 << 20, Objects: 1000}.WithDefaults()
	f.Fuzz(func(t *testing.T, pack []byte) {
		// The checksum is made right, so that mutations get past it.
		if len(pack) > 20 {
			sum := sha1.Sum(pack[:len(pack)-20])
			copy(pack[len(pack)-20:], sum[:])
		}
		_ = takeApart(pack, limits) // panics if an object is not what its id says
	})
}
