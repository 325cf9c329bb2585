package desired

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/render"
)

var update = flag.Bool("update", false, "rewrite the golden part of testdata")

// TestBuild plays histories of a repository. In a file of testdata/build, env.yaml is the environment, N/apps/... are
// the manifests of commit N, and N.golden is what it comes to: what is wrong, what is held, and what changes. A later env.yaml adds to it.
func TestBuild(t *testing.T) {
	files, err := filepath.Glob("testdata/build/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { history(t, file) })
	}
}

func history(t *testing.T, file string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	env := render.Environment{Name: "dev"}
	store := blobs{}
	var active *Set
	var out txtar.Archive
	out.Comment = ar.Comment
	var commit []txtar.File
	for _, f := range ar.Files {
		switch name, golden := strings.CutSuffix(f.Name, ".golden"); {
		case f.Name == "env.yaml":
			if err := yaml.UnmarshalStrict(f.Data, &env); err != nil {
				t.Fatal(err)
			}
		case golden:
			var got string
			active, got = store.commit(t, env, active, commit)
			if !*update && got != string(f.Data) {
				t.Errorf("commit %s:\n%s\nwant:\n%s", name, got, f.Data)
			}
			f.Data = []byte(got)
			commit = nil
		default:
			commit = append(commit, f)
		}
		out.Files = append(out.Files, f)
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(&out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// commit builds one commit on top of active and tells what came of it.
func (s blobs) commit(t *testing.T, env render.Environment, active *Set, files []txtar.File) (*Set, string) {
	t.Helper()
	var apps []App
	for _, a := range appsOf(t, files) {
		apps = append(apps, s.compile(t, env, a))
	}
	built, err := Build(env, apps, active, s)
	if err != nil {
		t.Fatal(err)
	}
	s[built.Set.D] = built.Manifest
	consistent(t, built.Set, s)
	var b strings.Builder
	for _, p := range built.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	for _, p := range built.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", p)
	}
	for _, a := range built.Held {
		fmt.Fprintf(&b, "held: %s\n", a)
	}
	if len(built.Over) > 0 {
		b.WriteString("refused as a whole\n")
		return active, b.String()
	}
	changes, err := Diff(active, built.Set, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		fmt.Fprintf(&b, "%s: %s (%s)", c.Op, c.Key, c.App)
		if c.Op == Update && c.Template {
			b.WriteString(", pods are replaced")
		}
		b.WriteString("\n")
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "\t%s\n", f)
		}
	}
	if len(changes) == 0 {
		b.WriteString("no change\n")
	}
	return built.Set, b.String()
}

// appsOf splits YAML files into documents, each an object with its line.
func appsOf(t *testing.T, files []txtar.File) []render.App {
	t.Helper()
	var apps []render.App
	index := map[string]int{}
	for _, f := range files {
		_, path, _ := strings.Cut(f.Name, "/")
		name := strings.Split(path, "/")[1]
		i, there := index[name]
		if !there {
			i = len(apps)
			index[name] = i
			apps = append(apps, render.App{Name: name})
		}
		line := 1
		for doc := range strings.SplitSeq(string(f.Data), "---\n") {
			if strings.TrimSpace(doc) != "" {
				j, err := yaml.YAMLToJSON([]byte(doc))
				if err != nil {
					t.Fatal(err)
				}
				apps[i].Objects = append(apps[i].Objects, render.Object{JSON: j, File: path, Line: line})
			}
			line += strings.Count(doc, "\n") + 1
		}
	}
	return apps
}

// consistent checks what holds for every set that Build returns: it is sorted, each object is there under its
// digest and its key, nothing required is missing, and it decodes to itself.
func consistent(t *testing.T, s *Set, content Content) {
	t.Helper()
	there := map[Key]Facts{}
	for i, e := range s.Entries {
		if i > 0 && s.Entries[i-1].Key.Compare(e.Key) >= 0 {
			t.Errorf("%s is not after %s", e.Key, s.Entries[i-1].Key)
		}
		obj, err := Object(content, e.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if got := keyOf(obj); got != e.Key {
			t.Errorf("%s is the object %s", e.Key, got)
		}
		there[e.Key] = factsOf(obj)
	}
	for k, f := range there {
		for _, r := range f.Refs {
			to, ok := there[Key{Kind: r.Kind, Namespace: k.Namespace, Name: r.Name}]
			if !r.Optional && (!ok || r.Key != "" && !strings.Contains(" "+strings.Join(to.Keys, " ")+" ", " "+r.Key+" ")) {
				t.Errorf("%s needs %s %s %s, which is not in the set", k, r.Kind, r.Name, r.Key)
			}
		}
	}
	b := s.Encode()
	again, err := DecodeSet(b)
	if err != nil || again.D != s.D || again.Environment != s.Environment || !bytes.Equal(again.Encode(), b) {
		t.Errorf("the manifest does not decode to itself: %v", err)
	}
}
