package render_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/schema"
)

// TestEveryField: every field of every kind that the schema has is used in testdata/every/every.cue, and the next
// stage takes it all: the schema promises nothing that does not work.
func TestEveryField(t *testing.T) {
	src, err := os.ReadFile("testdata/every/every.cue")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := source.FromFS(fstest.MapFS{"apps/every/every.cue": {Data: src, Mode: 0o644}}, source.FSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	env := render.Environment{Name: "dev", Namespace: "dev", Allow: desired.Rules()}
	app := render.Eval(tree, env, []string{"every"})[0]
	if len(app.Problems) > 0 {
		t.Fatal(app.Problems)
	}
	out, _ := desired.Compile(env, app)
	for _, p := range out.Problems {
		t.Error(p)
	}
	written := map[string]bool{}
	ctx := cuecontext.New()
	for _, o := range app.Objects {
		v := ctx.CompileBytes(o.JSON)
		kind, err := v.LookupPath(cue.ParsePath("kind")).String()
		if err != nil {
			t.Fatal(err)
		}
		walk(v, "", func(path string) { written[kind+path] = true })
	}
	for _, kind := range []string{"Namespace", "Pod", "ReplicaSet", "Deployment", "Job", "CronJob", "Service", "ConfigMap", "Secret"} {
		for _, path := range fieldsOf(t, kind) {
			if !written[kind+path] {
				t.Errorf("%s%s is in the schema and not in testdata/every/every.cue", kind, path)
			}
		}
	}
}

// walk tells each field's path; lists are transparent.
func walk(v cue.Value, path string, tell func(string)) {
	if v.IncompleteKind() == cue.ListKind {
		for it, err := v.List(); err == nil && it.Next(); {
			walk(it.Value(), path, tell)
		}
		return
	}
	for it, err := v.Fields(); err == nil && it.Next(); {
		at := path + "." + it.Selector().Unquoted()
		tell(at)
		walk(it.Value(), at, tell)
	}
}

// fieldsOf lists the paths of a kind's definition. Pods are walked once, as Pod.
func fieldsOf(t *testing.T, kind string) []string {
	t.Helper()
	var src strings.Builder
	names, err := schema.FS.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	ctx := cuecontext.New()
	for _, n := range names {
		b, err := schema.FS.ReadFile(n.Name())
		if err != nil {
			t.Fatal(err)
		}
		if n.Name() == "app.cue" || n.Name() == "package.cue" || n.Name() == "repository.cue" {
			continue
		}
		text := string(b)
		text = strings.Replace(text, "package schema", "", 1)
		text = strings.Replace(text, `import "strings"`, "", 1)
		src.WriteString(text)
	}
	v := ctx.CompileString("import \"strings\"\n" + src.String())
	if v.Err() != nil {
		t.Fatal(v.Err())
	}
	var out []string
	var visit func(v cue.Value, path string)
	visit = func(v cue.Value, path string) {
		if e := v.LookupPath(cue.MakePath(cue.AnyIndex)); e.Exists() {
			visit(e, path)
			return
		}
		if kind != "Pod" && (strings.HasSuffix(path, ".template") || strings.HasSuffix(path, ".jobTemplate")) {
			return
		}
		for it, err := v.Fields(cue.Optional(true)); err == nil && it.Next(); {
			if it.Selector().LabelType() != cue.StringLabel {
				continue
			}
			at := path + "." + it.Selector().Unquoted()
			out = append(out, at)
			visit(it.Value(), at)
		}
	}
	visit(v.LookupPath(cue.MakePath(cue.Def(kind))), "")
	return out
}

// TestAllow: the rules that an environment may lift are those that admission knows.
func TestAllow(t *testing.T) {
	for _, rule := range desired.Rules() {
		tree, err := source.FromFS(fstest.MapFS{"shoal.cue": {Data: []byte("package shoal\nenvironments: dev: {ref: \"main\", allow: [\"" + rule + "\"]}\n"), Mode: 0o644}}, source.FSOptions{})
		if err != nil {
			t.Fatal(err)
		}
		envs, problems := render.Environments(tree)
		if len(problems) > 0 || len(envs) != 1 || len(envs[0].Allow) != 1 || envs[0].Allow[0] != rule {
			t.Errorf("%s: %v %v", rule, envs, problems)
		}
	}
}
