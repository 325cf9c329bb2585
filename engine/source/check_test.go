package source

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// made builds trees by hand, also such that no git would write.
type made struct{ memory }

func newMade() made { return made{memory{trees: map[ID][]Item{}, blobs: map[ID][]byte{}}} }

func (m made) file(name, text string) Item {
	id := ObjectID("blob", []byte(text))
	m.blobs[id] = []byte(text)
	return Item{Name: name, ID: id, Kind: File}
}

func (m made) link(name, target string) Item {
	it := m.file(name, target)
	it.Kind = Link
	return it
}

func (m made) dir(name string, items ...Item) Item {
	id := ObjectID("tree", EncodeTree(items))
	m.trees[id] = items
	return Item{Name: name, ID: id, Kind: Dir}
}

// nested puts it into directories, outermost first.
func (m made) nested(path string, it Item) Item {
	names := strings.Split(path, "/")
	for _, name := range slices.Backward(names) {
		it = m.dir(name, it)
	}
	return it
}

// TestFault_G10 covers symbolic links: what leaves the tree is refused with its path, what stays is listed and
// not followed.
func TestFault_G10(t *testing.T) {
	for _, c := range []struct{ at, target, want string }{
		{"", "/etc/passwd", `x: a symbolic link to "/etc/passwd", which is not in the repository`},
		{"", "/proc/self/environ", `x: a symbolic link to "/proc/self/environ", which is not in the repository`},
		{"", "../x", `x: a symbolic link to "../x", which leaves the repository`},
		{"", "a/../../x", `x: a symbolic link to "a/../../x", which leaves the repository`},
		{"a/b", "../../../x", `a/b/x: a symbolic link to "../../../x", which leaves the repository`},
		{"a/b", "../../x", ""},
		{"a", "./../a/x", ""}, // to itself: listed, never followed
		{"", "", `x: a symbolic link to "", which is not in the repository`},
		{"", `..\x`, `x: a symbolic link to "..\\x", which is not in the repository`},
		{"", strings.Repeat("a/", 3000), "x: a symbolic link of 6000 bytes; at most 4096"},
	} {
		m := newMade()
		root := m.dir("", m.link("x", c.target))
		if c.at != "" {
			root = m.dir("", m.nested(c.at, m.link("x", c.target)))
		}
		var k Checker
		if got := text(k.Check(m, root.ID)); got != c.want {
			t.Errorf("%s -> %.40s: %s\nwant %s", c.at, c.target, got, c.want)
		}
	}

	// A directory that passed deep down is no longer good near the root, though its id is remembered.
	m := newMade()
	inner := m.dir("inner", m.link("x", "../../ok"))
	var k Checker
	if err := k.Check(m, m.dir("", m.dir("a", inner)).ID); err != nil {
		t.Fatal(err)
	}
	const want = `inner/x: a symbolic link to "../../ok", which leaves the repository`
	if got := text(k.Check(m, m.dir("", inner).ID)); got != want {
		t.Errorf("moved up: %s\nwant %s", got, want)
	}

	tree := New("", m.dir("", m.file("real", "1"), m.link("web.cue", "real")).ID, m)
	if _, err := tree.ReadFile("web.cue"); text(err) != "read web.cue: "+ErrLink.Error() {
		t.Errorf("ReadFile of a link: %v", err)
	}
	if e, err := tree.Lookup("web.cue"); err != nil || e.Mode.Type() != fs.ModeSymlink {
		t.Errorf("Lookup of a link = %v, %v", e, err)
	}
	if _, err := tree.ReadFile("web.cue/x"); text(err) != "read web.cue/x: file does not exist" {
		t.Errorf("ReadFile through a link: %v", err)
	}
}

// TestFault_G11 covers names and paths that no checkout should ever see.
func TestFault_G11(t *testing.T) {
	m := newMade()
	f := func(name string) Item { return m.file(name, "1") }
	d := func(name string) Item { return m.dir(name, f("f")) }
	long, deep := strings.Repeat("n", 256), f("f")
	for range 70 {
		deep = m.dir("d", deep)
	}
	wide := f("f")
	for range 5 {
		wide = m.dir(strings.Repeat("w", 250), wide)
	}
	var many []Item
	for i := range 1100 {
		many = append(many, f(fmt.Sprintf("f%06d", i)))
	}
	bomb := m.dir("b", many...)
	for range 5 {
		bomb = m.dir("b", bomb, Item{Name: "c", ID: bomb.ID, Kind: Dir}, Item{Name: "d", ID: bomb.ID, Kind: Dir},
			Item{Name: "e", ID: bomb.ID, Kind: Dir}, Item{Name: "f", ID: bomb.ID, Kind: Dir})
	}
	for _, c := range []struct {
		items []Item
		want  string
	}{
		{[]Item{f(".."), d("apps")}, "./..: a name that means another directory"},
		{[]Item{m.dir("..", f("x"))}, "./..: a name that means another directory"},
		{[]Item{f(".")}, "./.: a name that means another directory"},
		{[]Item{f("")}, "./: an empty name"},
		{[]Item{f("/etc/x")}, ".//etc/x: a name that holds a slash or backslash"},
		{[]Item{f(`a\b`)}, `"./a\\b": a name that holds a slash or backslash`},
		{[]Item{d(".git")}, "./.git: a name that some file systems take for .git"},
		{[]Item{d(".GIT")}, "./.GIT: a name that some file systems take for .git"},
		{[]Item{d("git~1")}, "./git~1: a name that some file systems take for .git"},
		{[]Item{d(".git. ")}, "./.git. : a name that some file systems take for .git"},
		{[]Item{d(".git::$INDEX_ALLOCATION")}, "./.git::$INDEX_ALLOCATION: a name that some file systems take for .git"},
		{[]Item{d(".g\u200cit")}, `"./.g\u200cit": a name that some file systems take for .git`},
		{[]Item{m.nested("a/b", d(".git"))}, "a/b/.git: a name that some file systems take for .git"},
		{[]Item{f("a\x00b")}, `"./a\x00b": a name that holds a control character`},
		{[]Item{f("a\x1b[31m")}, `"./a\x1b[31m": a name that holds a control character`},
		{[]Item{f("a\nb")}, `"./a\nb": a name that holds a control character`},
		{[]Item{f("a\xff")}, `"./a\xff": a name that is not UTF-8`},
		{[]Item{f(long)}, "./" + long[:64] + "...: a name of 256 bytes; at most 255"},
		{[]Item{f(strings.Repeat("n", 5000))}, "./" + long[:64] + "...: a name of 5000 bytes; at most 255"},
		{[]Item{f("a"), d("a")}, "a: both a file and a directory"},
		{[]Item{f("README"), f("readme")}, "readme: differs from README in case only; some file systems hold one of them"},
		{[]Item{d("Apps"), d("apps")}, "apps: differs from Apps in case only; some file systems hold one of them"},
		{[]Item{deep}, strings.Repeat("d/", 63) + "d: more than 64 directories deep"},
		{[]Item{wide}, strings.Repeat("w", 64) + "...: a path of 1254 bytes below it; at most 1024"},
		{[]Item{bomb}, "more than 250000 files in the repository"},
		{[]Item{f(".gitignore"), d(".github"), f(".gitmodules"), f("..x"), f("x.."), f("ünï code.cue")}, ""},
	} {
		var k Checker
		got := text(k.Check(m, m.dir("", c.items...).ID))
		if got != c.want && (c.want == "" || !strings.HasSuffix(got, c.want)) {
			t.Errorf("%.60v: %s\nwant %s", c.items, got, c.want)
		}
	}
}

// TestFault_G12 refuses submodules by name, however deep. A .gitmodules file alone is a file.
func TestFault_G12(t *testing.T) {
	m := newMade()
	module := Item{Name: "vendored", ID: ObjectID("commit", nil), Kind: Module}
	root := m.dir("", m.file(".gitmodules", "[submodule \"x\"]\n\turl = -u./x\n"), m.nested("apps/web", module))
	var k Checker
	const want = "apps/web/vendored: is a submodule: submodules are not supported, commit the files themselves"
	if got := text(k.Check(m, root.ID)); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestCheckerRemembers sees that a second commit is looked at only where it changed.
func TestCheckerRemembers(t *testing.T) {
	m := &counting{made: newMade()}
	var apps []Item
	for i := range 1000 {
		apps = append(apps, m.dir(fmt.Sprintf("app%04d", i), m.file("x.cue", fmt.Sprint(i))))
	}
	var k Checker
	if err := k.Check(m, m.dir("", m.dir("apps", apps...)).ID); err != nil {
		t.Fatal(err)
	}
	m.n = 0
	apps[7] = m.dir("app0007", m.file("x.cue", "changed"))
	if err := k.Check(m, m.dir("", m.dir("apps", apps...)).ID); err != nil {
		t.Fatal(err)
	}
	if m.n != 3 {
		t.Errorf("%d directories were read for a commit that changed one app, want 3", m.n)
	}
}

type counting struct {
	made
	n int
}

func (c *counting) Items(id ID) ([]Item, error) {
	c.n++
	return c.made.Items(id)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzParseTree(f *testing.F) {
	m := newMade()
	f.Add(EncodeTree([]Item{m.file("a", "1"), m.dir("b", m.file("c", "2")), m.link("l", "a")}))
	f.Add([]byte("100644 a\x00"))
	f.Add([]byte("40000 \x00aaaaaaaaaaaaaaaaaaaa"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		items, err := ParseTree(raw)
		if err != nil {
			return
		}
		again, err := ParseTree(EncodeTree(items))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(items) {
			t.Fatalf("%v, then %v, %v", items, again, err)
		}
		for i, it := range items {
			if found := findItem(items, it.Name); found < 0 || items[found].Name != it.Name {
				t.Fatalf("item %d %q is not found", i, it.Name)
			}
		}
		var k Checker
		id := ObjectID("tree", raw)
		m := newMade()
		m.trees[id] = items
		if err := k.Check(m, id); err == nil {
			for _, it := range items {
				if !fs.ValidPath(it.Name) {
					t.Fatalf("%q passed", it.Name)
				}
			}
		}
	})
}
