package render

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rendered evaluates an app alone and returns its result as text, and what it read.
func rendered(batch *Batch, app string) (string, Deps) {
	l := batch.Load(app)
	a := l.Eval()
	var b strings.Builder
	for _, o := range a.Objects {
		fmt.Fprintf(&b, "%s:%d: %s\n", o.File, o.Line, o.JSON)
	}
	for _, p := range a.Problems {
		fmt.Fprintln(&b, p)
	}
	return b.String(), l.Deps
}

// TestKeys: which apps a change touches, as their keys say.
func TestKeys(t *testing.T) {
	base := files(`
-- values/schema.cue --
package values

values: {n: string}
-- values/dev.cue --
@if(dev)

package values

values: {n: "1"}
-- lib/embeds/e.cue --
@extern(embed)

package embeds

all: _ @embed(glob=texts/*.txt,type=text)
-- lib/embeds/texts/a.txt --
a
-- lib/embeds/other.md --
-- apps/plain/plain.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: plain}
-- apps/valued/a.cue --
package valued

import "shop.example/cluster/values"

objects: x: {apiVersion: "v1", kind: "ConfigMap", metadata: name: "x", data: values.values}
-- apps/tagged/a.cue --
package tagged

_ref: string @tag(ref)
objects: x: {apiVersion: "v1", kind: "ConfigMap", metadata: name: "x", data: ref: _ref}
-- apps/embeds/a.cue --
package embeds2

import "shop.example/cluster/lib/embeds"

objects: x: {apiVersion: "v1", kind: "ConfigMap", metadata: name: "x", data: embeds.all}
-- apps/missing/a.cue --
package missing

import "shop.example/cluster/lib/later"

objects: x: {apiVersion: "v1", kind: "ConfigMap", metadata: name: "x", data: later}
-- README.md --
`)
	env := Environment{Name: "dev", Class: "dev", Ref: "refs/heads/main"}
	tree := treeOf(t, base)
	apps, err := Apps(tree)
	if err != nil {
		t.Fatal(err)
	}
	deps := map[string]Deps{}
	before := map[string]string{}
	keys := NewKeys(tree, env)
	batch := NewBatch(Prepare(), tree, env)
	for _, app := range apps {
		_, deps[app] = rendered(batch, app)
		if before[app], err = keys.Key(app, deps[app]); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		edit func(files map[string]string, env *Environment)
		want string
	}{
		{"nothing", func(map[string]string, *Environment) {}, ""},
		{"an app", func(f map[string]string, _ *Environment) { f["apps/plain/plain.yaml"] += "\n" }, "plain"},
		{"a file beside an app", func(f map[string]string, _ *Environment) { f["apps/plain/notes.txt"] = "" }, "plain"},
		{"values", func(f map[string]string, _ *Environment) { f["values/dev.cue"] += "\n" }, "valued"},
		{"values of another class", func(f map[string]string, _ *Environment) { f["values/production.cue"] = "package values\n" }, "valued"},
		{"an embedded file", func(f map[string]string, _ *Environment) { f["lib/embeds/texts/a.txt"] = "b" }, "embeds"},
		{"a new embedded file", func(f map[string]string, _ *Environment) { f["lib/embeds/texts/b.txt"] = "b" }, "embeds"},
		{"a file beside a package", func(f map[string]string, _ *Environment) { f["lib/embeds/other.md"] = "x" }, ""},
		{"a package that was missing", func(f map[string]string, _ *Environment) { f["lib/later/l.cue"] = "package later\n" }, "missing"},
		{"the ref", func(_ map[string]string, e *Environment) { e.Ref = "refs/heads/dev" }, "tagged"},
		{"the class", func(_ map[string]string, e *Environment) { e.Class = "production" }, "valued"},
		{"the module", func(f map[string]string, _ *Environment) { f["cue.mod/module.cue"] += "\n" }, "embeds missing plain tagged valued"},
		{"a file above all packages", func(f map[string]string, _ *Environment) { f["more.cue"] = "package tagged\n" }, "embeds missing tagged valued"},
		{"another app", func(f map[string]string, _ *Environment) { f["apps/new/new.yaml"] = "" }, ""},
		{"documents", func(f map[string]string, _ *Environment) { f["README.md"] = "hello" }, ""},
	} {
		f, e := maps.Clone(base), env
		c.edit(f, &e)
		after := NewKeys(treeOf(t, f), e)
		var touched []string
		for _, app := range apps {
			key, err := after.Key(app, deps[app])
			if err != nil {
				t.Fatal(err)
			}
			if key != before[app] {
				touched = append(touched, app)
			}
		}
		if got := strings.Join(touched, " "); got != c.want {
			t.Errorf("%s touches %q, want %q", c.name, got, c.want)
		}
	}
}

// TestKeysAreSound: whatever single file of a repository is changed or goes, an app whose key stays renders to the
// same bytes.
func TestKeysAreSound(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	env := Environment{Name: "dev", Class: "dev", Ref: "refs/heads/main"}
	changed := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		base := files(string(text))
		delete(base, "want")
		tree := treeOf(t, base)
		apps, err := Apps(tree)
		if err != nil {
			t.Fatal(err)
		}
		deps, before, results := map[string]Deps{}, map[string]string{}, map[string]string{}
		keys := NewKeys(tree, env)
		batch := NewBatch(Prepare(), tree, env)
		for _, app := range apps {
			results[app], deps[app] = rendered(batch, app)
			if before[app], err = keys.Key(app, deps[app]); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range slices.Sorted(maps.Keys(base)) {
			if strings.HasPrefix(file, vendored) {
				continue
			}
			for _, edit := range []func(map[string]string){
				func(f map[string]string) { f[file] = strings.Replace(f[file], "a", "b", 1) },
				func(f map[string]string) { delete(f, file) },
			} {
				f := maps.Clone(base)
				edit(f)
				edited := treeOf(t, f)
				after := NewKeys(edited, env)
				batch := NewBatch(Prepare(), edited, env)
				for _, app := range apps {
					key, err := after.Key(app, deps[app])
					if err != nil {
						t.Fatal(err)
					}
					if key != before[app] {
						changed++
						continue
					}
					if got, _ := rendered(batch, app); got != results[app] {
						t.Errorf("%s: with %s changed, %s keeps its key and renders to\n%s\nnot\n%s", name, file, app, got, results[app])
					}
				}
			}
		}
	}
	if changed == 0 {
		t.Error("no key ever changed")
	}
}
