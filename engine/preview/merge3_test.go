package preview

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

func TestMerge3(t *testing.T) {
	lines := func(s ...string) file { return file{text: strings.Join(s, "\n") + "\n"} }
	for _, c := range []struct {
		name               string
		base, ours, theirs map[string]file
		want               string
	}{
		{"nothing at all", nil, nil, nil, ""},
		{"both add", nil, map[string]file{"a": lines("1")}, map[string]file{"b/c": lines("2")}, "a=1|\nb/c=2|\n"},
		{"both add the same", nil, map[string]file{"a": lines("1")}, map[string]file{"a": lines("1")}, "a=1|\n"},
		{"both add another", nil, map[string]file{"a": lines("1")}, map[string]file{"a": lines("2")}, "conflict a: lines 1 to 1 were changed on both sides\n"},
		{
			"two ends of a file",
			map[string]file{"a": lines("1", "2", "3", "4", "5")},
			map[string]file{"a": lines("one", "2", "3", "4", "5")},
			map[string]file{"a": lines("1", "2", "3", "4", "5", "6")},
			"a=one|2|3|4|5|6|\n",
		},
		{
			"lines that touch",
			map[string]file{"a": lines("1", "2", "3")},
			map[string]file{"a": lines("1", "two", "3")},
			map[string]file{"a": lines("1", "2", "three")},
			"conflict a: lines 2 to 3 were changed on both sides\n",
		},
		{
			"the same change, and one more",
			map[string]file{"a": lines("1", "2", "3", "4")},
			map[string]file{"a": lines("1", "two", "3", "4")},
			map[string]file{"a": lines("1", "two", "3", "four")},
			"a=1|two|3|four|\n",
		},
		{
			"deleted and not touched",
			map[string]file{"a": lines("1"), "b": lines("2")},
			map[string]file{"b": lines("2")},
			map[string]file{"a": lines("1"), "b": lines("3")},
			"b=3|\n",
		},
		{
			"deleted and changed",
			map[string]file{"d/a": lines("1")},
			nil,
			map[string]file{"d/a": lines("2")},
			"conflict d/a: changed on one side and deleted on the other\n",
		},
		{
			"mode and contents",
			map[string]file{"a": lines("1")},
			map[string]file{"a": {source.Exec, "1\n"}},
			map[string]file{"a": lines("2")},
			"a*=2|\n",
		},
		{
			"a directory that becomes a file",
			map[string]file{"a/b": lines("1")},
			map[string]file{"a": lines("f")},
			map[string]file{"a/b": lines("1")},
			"a=f|\n",
		},
		{
			"a directory that becomes a file and gets another",
			map[string]file{"a/b": lines("1")},
			map[string]file{"a": lines("f")},
			map[string]file{"a/b": lines("1"), "a/c": lines("2")},
			"conflict a: a file on one side and a directory on the other\n",
		},
		{
			"links",
			map[string]file{"a": {source.Link, "x"}},
			map[string]file{"a": {source.Link, "y"}},
			map[string]file{"a": {source.Link, "z"}},
			"conflict a: a symbolic link that was changed on both sides\n",
		},
		{
			"a link and a file",
			map[string]file{"a": {source.Link, "x"}},
			map[string]file{"a": {source.Link, "y"}},
			map[string]file{"a": lines("z")},
			"conflict a: a symbolic link on one side and a file on the other, both changed\n",
		},
		{
			"binary",
			map[string]file{"a": {0, "\x00"}},
			map[string]file{"a": {0, "\x00a"}},
			map[string]file{"a": {0, "\x00b"}},
			"conflict a: a binary file that was changed on both sides\n",
		},
		{
			"lines that are alike: was the new one put first or last?",
			map[string]file{"a": lines("b", "b")},
			map[string]file{"a": lines("b", "b", "b")},
			map[string]file{"a": lines("b", "a", "b")},
			"conflict a: changed on both sides among lines that are alike, so that there is more than one way to merge them\n",
		},
		{
			"no end of line",
			map[string]file{"a": {0, "1\n2\n3"}},
			map[string]file{"a": {0, "one\n2\n3"}},
			map[string]file{"a": {0, "1\n2\n3\n4"}},
			"a=one|2|3|4\n",
		},
		{
			"a big one",
			map[string]file{"a": {0, strings.Repeat("x\n", maxText/2+1)}},
			map[string]file{"a": lines("1")},
			map[string]file{"a": lines("2")},
			"conflict a: changed on both sides, and longer than 1048576 bytes\n",
		},
	} {
		s := newStore()
		s.trees[source.EmptyTree] = nil
		m, err := Merge3(s, s.put(c.base), s.put(c.ours), s.put(c.theirs))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := ""
		for _, x := range m.Conflicts {
			got += "conflict " + x.Path + ": " + x.Why + "\n"
		}
		if m.Tree != "" {
			got = flat(t, m.Over(s), m.Tree, "")
		}
		if got != c.want {
			t.Errorf("%s:\n%swant\n%s", c.name, got, c.want)
		}
	}
}

// TestMerge3Bounds: what is too much ends soon, as a conflict or an error.
func TestMerge3Bounds(t *testing.T) {
	s := newStore()
	var a, b, c strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&a, "%d\n", i)
		fmt.Fprintf(&b, "b%d\n", i)
		fmt.Fprintf(&c, "c%d\n", i)
	}
	start := time.Now()
	m, err := Merge3(s, s.put(map[string]file{"f": {0, a.String()}}), s.put(map[string]file{"f": {0, b.String()}}), s.put(map[string]file{"f": {0, c.String()}}))
	if err != nil || len(m.Conflicts) != 1 || !strings.Contains(m.Conflicts[0].Why, "too many lines") {
		t.Errorf("%+v, %v", m.Conflicts, err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("it took %s", d)
	}
	files := [3]map[string]file{{}, {}, {}}
	for i := range maxConflicts + 10 {
		for j := range files {
			files[j][fmt.Sprintf("d%03d/%d", i%50, i)] = file{text: fmt.Sprint(j)}
		}
	}
	m, err = Merge3(s, s.put(files[0]), s.put(files[1]), s.put(files[2]))
	if err != nil || len(m.Conflicts) != maxConflicts || m.Tree != "" {
		t.Errorf("%d conflicts, %v", len(m.Conflicts), err)
	}
	deep := map[string]file{strings.Repeat("d/", source.MaxDepth+1) + "f": {text: "1"}}
	deep2 := map[string]file{strings.Repeat("d/", source.MaxDepth+1) + "f": {text: "2"}}
	deep3 := map[string]file{strings.Repeat("d/", source.MaxDepth+1) + "f": {text: "3"}}
	if _, err := Merge3(s, s.put(deep), s.put(deep2), s.put(deep3)); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("a deep tree: %v", err)
	}
	if _, err := Merge3(s, "", s.put(deep), source.ID(strings.Repeat("9", 40))); err == nil {
		t.Error("an absent tree is no error")
	}
}

// change edits a random tree: distinct says that no two lines are alike, so that there is one way only to compare texts.
func change(rng *rand.Rand, from map[string]file, distinct bool, fresh *int) map[string]file {
	to := maps.Clone(from)
	line := func() string {
		*fresh++
		if distinct {
			return fmt.Sprintf("line %d\n", *fresh)
		}
		return []string{"a\n", "b\n", "}\n", "\n"}[rng.IntN(4)]
	}
	text := func() file {
		f := file{kind: []source.Kind{source.File, source.File, source.File, source.Exec, source.Link}[rng.IntN(5)]}
		for range rng.IntN(12) {
			f.text += line()
		}
		if f.kind == source.Link {
			*fresh++
			f.text = fmt.Sprintf("to-%d", *fresh)
		}
		return f
	}
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for range rng.IntN(4) {
		paths := slices.Sorted(maps.Keys(to))
		pick := func() string { return paths[rng.IntN(len(paths))] }
		switch n := rng.IntN(10); {
		case n < 5 && len(paths) > 0: // edit lines
			p := pick()
			f := to[p]
			if f.kind == source.Link {
				to[p] = text()
				continue
			}
			lines := strings.SplitAfter(f.text, "\n")
			at := rng.IntN(len(lines))
			switch rng.IntN(3) {
			case 0:
				lines = slices.Insert(lines, at, line())
			case 1:
				lines = slices.Delete(lines, at, min(len(lines), at+1+rng.IntN(2)))
			case 2:
				lines[at] = line()
			}
			f.text = strings.Join(lines, "")
			to[p] = f
		case n == 5 && len(paths) > 0:
			delete(to, pick())
		case n == 6 && len(paths) > 0: // mode
			p := pick()
			f := to[p]
			if f.kind != source.Link {
				f.kind = source.File + source.Exec - f.kind
				to[p] = f
			}
		default:
			p := names[rng.IntN(len(names))]
			for range rng.IntN(3) {
				p += "/" + names[rng.IntN(3)]
			}
			for other := range to { // no path is both
				if strings.HasPrefix(other, p+"/") || strings.HasPrefix(p, other+"/") {
					delete(to, other)
				}
			}
			to[p] = text()
		}
	}
	return to
}

// TestMerge3AsGit merges random repositories and compares with git merge-tree.
func TestMerge3AsGit(t *testing.T) {
	rounds := 400
	if testing.Short() {
		rounds = 60
	}
	dir := t.TempDir()
	git := func(stdin []byte, args ...string) ([]byte, error) {
		c := exec.Command("git", args...)
		c.Dir, c.Stdin = dir, bytes.NewReader(stdin)
		c.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+dir)
		return c.Output()
	}
	if out, err := git(nil, "init", "-q", "--bare", "."); err != nil {
		t.Fatal(err, string(out))
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	type round struct {
		s     store
		trees [3]source.ID
		files [3]map[string]file
	}
	var all []round
	var stream bytes.Buffer
	fresh := 0
	for i := range rounds {
		base := map[string]file{}
		for range 4 {
			base = change(rng, base, true, &fresh)
		}
		r := round{s: newStore(), files: [3]map[string]file{base, change(rng, base, true, &fresh), change(rng, base, true, &fresh)}}
		for j, files := range r.files {
			r.trees[j] = r.s.put(files)
			fmt.Fprintf(&stream, "commit refs/heads/%d-%d\nmark :%d\ncommitter a <a@b> 1 +0000\ndata 0\n", i, j, 3*i+j+1)
			if j > 0 {
				fmt.Fprintf(&stream, "from :%d\ndeleteall\n", 3*i+1)
			}
			for _, p := range slices.Sorted(maps.Keys(files)) {
				mode := map[source.Kind]string{source.Exec: "100755", source.Link: "120000"}[files[p].kind]
				if mode == "" {
					mode = "100644"
				}
				fmt.Fprintf(&stream, "M %s inline %s\ndata %d\n%s\n", mode, p, len(files[p].text), files[p].text)
			}
			stream.WriteString("\n")
		}
		all = append(all, r)
	}
	if out, err := git(stream.Bytes(), "fast-import", "--quiet"); err != nil {
		t.Fatal(err, string(out))
	}
	clean, conflicts := 0, 0
	for i, r := range all {
		out, err := git(nil, "-c", "merge.renames=false", "merge-tree", "--write-tree", fmt.Sprintf("%d-1", i), fmt.Sprintf("%d-2", i))
		want := ""
		if err == nil {
			want = strings.TrimSpace(string(out))
		} else if code := new(exec.ExitError); !errors.As(err, &code) || code.ExitCode() != 1 {
			t.Fatal(err, string(out))
		}
		m, err := Merge3(r.s, r.trees[0], r.trees[1], r.trees[2])
		if err != nil {
			t.Fatal(err)
		}
		if m.Tree == source.EmptyTree && want == "" || string(m.Tree) != want {
			t.Fatalf("round %d: %q, git has %q; %v\nbase\n%sours\n%stheirs\n%sgit says\n%s", i, m.Tree, want, m.Conflicts,
				flat(t, r.s, r.trees[0], ""), flat(t, r.s, r.trees[1], ""), flat(t, r.s, r.trees[2], ""), out)
		}
		if back, err := Merge3(r.s, r.trees[0], r.trees[2], r.trees[1]); err != nil || back.Tree != m.Tree {
			t.Fatalf("round %d: the other way about: %v, %v", i, back, err)
		}
		if want == "" {
			conflicts++
		} else {
			clean++
			if err := new(source.Checker).Check(m.Over(r.s), m.Tree); err != nil {
				t.Errorf("round %d: %v", i, err)
			}
		}
	}
	t.Logf("%d clean, %d conflicts", clean, conflicts)
	if clean < rounds/5 || conflicts < rounds/20 {
		t.Errorf("%d clean and %d conflicts say little", clean, conflicts)
	}
}

// FuzzMergeText: hunks make one text of the other, merging does not depend on the side, and what only one side changed is
// taken as it is.
func FuzzMergeText(f *testing.F) {
	f.Add([]byte("a\nb\nc\n"), []byte("a\nx\nc\n"), []byte("a\nb\nc\nd\n"))
	f.Add([]byte("}\n\n}\n"), []byte("}\n\n}\n\n}\n"), []byte("\n}\n"))
	f.Add([]byte(""), []byte("x"), []byte("y"))
	f.Fuzz(func(t *testing.T, base, ours, theirs []byte) {
		var all lines
		b, o := all.read(base), all.read(ours)
		work := 1_000_000
		hunks, ok := difference(b, o, &work)
		if ok {
			var got []int32
			at := 0
			for i, h := range hunks {
				if h.a0 < at || h.a1 < h.a0 || h.b1 < h.b0 || i > 0 && h.a0 == at && hunks[i-1].b1 == h.b0 || h.a0 == h.a1 && h.b0 == h.b1 {
					t.Fatalf("%v", hunks)
				}
				got = append(append(got, b[at:h.a0]...), o[h.b0:h.b1]...)
				at = h.a1
			}
			if got = append(got, b[at:]...); !slices.Equal(got, o) {
				t.Fatalf("%v make %v of %v, not %v", hunks, got, b, o)
			}
		}
		merge := func(o, t []byte) (string, bool) {
			work := 1_000_000
			m, why := mergeText(base, o, t, &work)
			return string(m), why == ""
		}
		one, ok1 := merge(ours, theirs)
		two, ok2 := merge(theirs, ours)
		if ok1 != ok2 || ok1 && one != two {
			t.Fatalf("%q %v, %q %v", one, ok1, two, ok2)
		}
		if m, ok := merge(ours, base); ok && m != string(ours) {
			t.Fatalf("%q of %q alone", m, ours)
		}
		if m, ok := merge(ours, ours); ok && m != string(ours) {
			t.Fatalf("%q of %q twice", m, ours)
		}
	})
}
