package render

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/shoal-dev/shoal/engine/source"
)

var update = flag.Bool("update", false, "rewrite the wanted parts of testdata")

// TestGolden renders every repository in testdata/*.txtar. Lines of the comment say how:
//
//	env NAME [CLASS]    the environment; dev by default
//
// The file `want` holds what comes out: objects, one a line with their place, or problems.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range names {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			env := Environment{Name: "dev", Ref: "refs/heads/main"}
			for line := range strings.Lines(string(ar.Comment)) {
				f := strings.Fields(line)
				if len(f) > 1 && f[0] == "env" {
					env.Name = f[1]
					if len(f) > 2 {
						env.Class = f[2]
					}
				}
			}
			want := ""
			text, _ := os.ReadFile(file)
			all := files(string(text))
			want = all["want"]
			delete(all, "want")
			got := renderText(t, treeOf(t, all), env)
			if *update {
				for i := range ar.Files {
					if ar.Files[i].Name == "want" {
						ar.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func renderText(t *testing.T, tree source.Tree, env Environment) string {
	t.Helper()
	apps, err := Apps(tree)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, app := range Eval(tree, env, apps) {
		for _, o := range app.Objects {
			file, line := o.Place("")
			if file != o.File || line != o.Line {
				t.Errorf("Place of %s is %s:%d, not %s:%d", o.JSON, file, line, o.File, o.Line)
			}
			b.WriteString(Problem{File: o.File, Line: o.Line, Text: string(o.JSON)}.String() + "\n")
		}
		for _, p := range app.Problems {
			if p.App != app.Name {
				t.Errorf("problem %v is not marked with its app %q", p, app.Name)
			}
			b.WriteString(p.String() + "\n")
		}
	}
	return b.String()
}
