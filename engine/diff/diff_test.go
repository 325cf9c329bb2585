package diff

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/desired"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata")

// blobs is a content store in a map.
type blobs map[desired.Digest][]byte

func (b blobs) Get(d desired.Digest) ([]byte, error) {
	if raw, ok := b[d]; ok {
		return raw, nil
	}
	return nil, fs.ErrNotExist
}

// set makes a Set of YAML documents. Each begins with a comment that names its app.
func (b blobs) set(t testing.TB, text string) *desired.Set {
	t.Helper()
	s := &desired.Set{Environment: "production"}
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var tree map[string]any
		j, err := yaml.YAMLToJSON([]byte(doc))
		if err == nil {
			err = json.Unmarshal(j, &tree)
		}
		if err != nil {
			t.Fatal(err)
		}
		app := "shop"
		if first, _, _ := strings.Cut(doc, "\n"); strings.HasPrefix(first, "# ") {
			app = first[2:]
		}
		meta := object(tree, "metadata")
		group, _, ok := strings.Cut(word(tree["apiVersion"]), "/")
		if !ok {
			group = ""
		}
		e := desired.Entry{Key: desired.Key{Group: group, Kind: word(tree["kind"]), Namespace: word(meta["namespace"]), Name: word(meta["name"])}, App: app, Digest: desired.DigestOf(j)}
		if template := object(tree, "spec", "template"); template != nil {
			raw, _ := json.Marshal(template)
			e.Template = desired.DigestOf(raw)
		}
		b[e.Digest] = j
		s.Entries = append(s.Entries, e)
	}
	slices.SortFunc(s.Entries, func(a, b desired.Entry) int { return a.Key.Compare(b.Key) })
	s.D = desired.DigestOf(s.Encode())
	return s
}

// TestFeature_G3_Report prints the plans of testdata as text and as a comment.
func TestFeature_G3_Report(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, p := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(p), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(p)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for _, f := range ar.Files {
				files[f.Name] = string(f.Data)
			}
			store := blobs{}
			in := Input{Environment: "production", From: "1a2b3c4d5e6f", To: "my-branch", Content: store, PodsGoOn: 7}
			in.Before, in.After = store.set(t, files["before.yaml"]), store.set(t, files["after.yaml"])
			for line := range strings.Lines(files["pods"]) {
				f := strings.SplitN(strings.TrimSpace(line), " | ", 3)
				in.Pods = append(in.Pods, Pod{f[0], f[1], f[2]})
			}
			for line := range strings.Lines(files["problems"]) {
				in.Problems = append(in.Problems, strings.TrimSpace(line))
				in.Held = []string{"broken"}
			}
			in.Running, in.Refused, in.Note = strings.TrimSpace(files["running"]), strings.TrimSpace(files["refused"]), strings.TrimSpace(files["note"])
			r, err := New(in)
			if err != nil {
				t.Fatal(err)
			}
			got := "text\n" + r.Text() + "\nmarkdown\n" + r.Markdown(0)
			j, err := r.JSON()
			if err != nil {
				t.Fatal(err)
			}
			for _, out := range []string{got, string(j)} {
				if strings.Contains(out, "hunter2") || strings.Contains(out, "aHVudGVyMg") || strings.ContainsAny(out, "\x1b\x07") {
					t.Errorf("it shows what it must not:\n%s", out)
				}
			}
			if got == files["want"] {
				return
			}
			if !*update {
				t.Errorf("got\n%s\nwant\n%s", got, files["want"])
				return
			}
			ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { return f.Name == "want" })
			ar.Files = append(ar.Files, txtar.File{Name: "want", Data: []byte(got)})
			if err := os.WriteFile(p, txtar.Format(ar), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestDigest: it is of the changes alone, and what is done after them has none.
func TestDigest(t *testing.T) {
	store := blobs{}
	object := func(name, v string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: ns}\ndata: {v: \"" + v + "\"}\n"
	}
	join := func(docs ...string) *desired.Set { return store.set(t, strings.Join(docs, "\n---\n")) }
	a, b := join(object("a", "1"), object("b", "1")), join(object("a", "2"), object("c", "1"))
	d := Digest(a, b)
	if !d.Valid() {
		t.Error(d)
	}
	// Objects that stay, and the apps they are in, do not count.
	more := join(object("a", "1"), object("b", "1"), "# other\n"+object("x", "1"))
	after := join(object("a", "2"), object("c", "1"), "# another\n"+object("x", "1"))
	if got := Digest(more, after); got != d {
		t.Error("what does not change counts")
	}
	none := Digest(nil, nil)
	for name, other := range map[string]desired.Digest{
		"backwards": Digest(b, a), "half": Digest(a, join(object("a", "2"))), "nothing": none, "from nothing": Digest(nil, b), "to nothing": Digest(b, nil),
	} {
		if other == d {
			t.Errorf("%s has the same digest", name)
		}
	}
	if Digest(a, a) != none {
		t.Error("no change has another digest than none")
	}
}

// TestDigestIsThatOfDiff: what has a line in the digest is what desired.Diff tells.
func TestDigestIsThatOfDiff(t *testing.T) {
	files := func(p string) map[string]string {
		ar, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, f := range ar.Files {
			out[f.Name] = string(f.Data)
		}
		return out
	}
	f := files("testdata/all.txtar")
	store := blobs{}
	before, after := store.set(t, f["before.yaml"]), store.set(t, f["after.yaml"])
	changes, err := desired.Diff(before, after, store)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for o, e := range pairs(before, after) {
		if o == nil || e == nil || o.Digest != e.Digest || o.Template != e.Template {
			key := e
			if e == nil {
				key = o
			}
			if changes[n].Key != key.Key {
				t.Errorf("%s, and Diff has %s", key.Key, changes[n].Key)
			}
			n++
		}
	}
	if n != len(changes) {
		t.Errorf("%d lines, and Diff has %d", n, len(changes))
	}
}

// TestFault_A9_Bounds: a comment stays within a forge's bounds, says what it leaves out, and ends what it began.
func TestFault_A9_Bounds(t *testing.T) {
	store := blobs{}
	var before, after strings.Builder
	for i := range 400 {
		fmt.Fprintf(&before, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d, namespace: ns}\ndata:\n", i)
		fmt.Fprintf(&after, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d, namespace: ns}\ndata:\n", i)
		for j := range 30 {
			fmt.Fprintf(&before, "  key%d: %q\n", j, strings.Repeat("ä", 300))
			fmt.Fprintf(&after, "  key%d: %q\n", j, strings.Repeat("`", i%20)+strings.Repeat("ö", 300))
		}
		before.WriteString("\n---\n")
		after.WriteString("\n---\n")
	}
	r, err := New(Input{Environment: "production", Before: store.set(t, before.String()), After: store.set(t, after.String()), Content: store, Problems: make([]string, 5000)})
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{0, 1, 5000, 20_000} {
		m := r.Markdown(limit)
		most := limit
		if limit == 0 {
			most = MaxComment
		}
		most = max(most, 4096)
		if len(m) > most || utf8.RuneCountInString(m) > most || !utf8.ValidString(m) {
			t.Errorf("limit %d: %d bytes", limit, len(m))
		}
		if strings.Count(m, "<details>") != strings.Count(m, "</details>") || !strings.Contains(m, "Not shown for want of room") || !strings.Contains(m, string(r.Digest)) {
			t.Errorf("limit %d:\n%s", limit, m[max(0, len(m)-500):])
		}
	}
}

// FuzzMarkdown: no value escapes its code span, and the bound holds.
func FuzzMarkdown(f *testing.F) {
	f.Add("production", "a..b", "ConfigMap n/a", "data.x", "`` @everyone <img src=x> \n- x", "]]>")
	f.Add("-->", "`", "``", "```", "````", strings.Repeat("`", 5000))
	f.Fuzz(func(t *testing.T, env, from, object, path, o, n string) {
		r := Report{
			Environment: env, From: from, To: n, Running: o, Refused: path, Note: n, Held: []string{o}, Problems: []string{n}, Digest: desired.DigestOf(nil),
			First: []Item{{Op: desired.Update, Object: object, Notes: []Note{{Exposes, o}, {Other, n}}, Fields: []desired.FieldChange{{Path: path, Old: o, New: n}}}},
		}
		m := r.Markdown(4096)
		if len(m) > 4096 || !utf8.ValidString(m) {
			t.Fatalf("%d bytes", len(m))
		}
		// Without its code spans nothing is left but our own words.
		for line := range strings.Lines(m) {
			for rest := line; ; {
				i := strings.IndexByte(rest, '`')
				if i < 0 {
					if strings.ContainsAny(rest, "@[]\x1b") || strings.Contains(rest, "<img") {
						t.Fatalf("%q in\n%s", rest, m)
					}
					break
				}
				fence := len(rest[i:]) - len(strings.TrimLeft(rest[i:], "`"))
				end := closing(rest[i+fence:], fence)
				if end < 0 {
					t.Fatalf("a span without end in %q", line)
				}
				rest = rest[i+fence+end+fence:]
			}
		}
		text := r.Text()
		if strings.ContainsAny(text, "\x1b\x00\x07") || !utf8.ValidString(text) {
			t.Fatalf("%q", text)
		}
	})
}

// closing is where a run of exactly n backticks begins in s, or -1.
func closing(s string, n int) int {
	for i := 0; i < len(s); {
		if s[i] != '`' {
			i++
			continue
		}
		run := len(s[i:]) - len(strings.TrimLeft(s[i:], "`"))
		if run == n {
			return i
		}
		i += run
	}
	return -1
}
