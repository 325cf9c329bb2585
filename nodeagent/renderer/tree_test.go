package renderer

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/schema"
)

const module = "module: \"shop.example/cluster\"\nlanguage: version: \"v0.15.0\"\n"

// files are those of a txtar text, with a module file and the vendored schema.
func files(text string) map[string]string {
	out := map[string]string{"cue.mod/module.cue": module}
	names, _ := fs.Glob(schema.FS, "*.cue")
	for _, n := range names {
		b, _ := schema.FS.ReadFile(n)
		out["cue.mod/pkg/shoal.dev/schema/"+n] = string(b)
	}
	for _, f := range txtar.Parse([]byte(text)).Files {
		out[f.Name] = string(f.Data)
	}
	return out
}

// treeOf makes a tree of files.
func treeOf(t testing.TB, files map[string]string) source.Tree {
	t.Helper()
	m := fstest.MapFS{}
	for name, data := range files {
		m[name] = &fstest.MapFile{Data: []byte(data), Mode: 0o644}
	}
	tree, err := source.FromFS(m, source.FSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func repo(t testing.TB, text string) source.Tree {
	t.Helper()
	return treeOf(t, files(text))
}
