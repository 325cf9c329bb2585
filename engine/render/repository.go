package render

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/schema"
)

// vendored is where a repository keeps its copy of the schema, so that stock cue finds it.
const vendored = "cue.mod/pkg/" + schemaPath

// Apps lists the apps of a tree: the directories under apps/, sorted. A tree without apps has none.
func Apps(tree source.Tree) ([]string, error) {
	entries, err := tree.ReadDir("apps")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read apps: %w", err)
	}
	var apps []string
	for _, e := range entries {
		if e.Mode.IsDir() && !strings.HasPrefix(e.Name, ".") && !strings.HasPrefix(e.Name, "_") {
			apps = append(apps, e.Name)
		}
	}
	if len(apps) > MaxApps {
		return nil, Problems{{File: "apps", Text: fmt.Sprintf("has %d directories; at most %d", len(apps), MaxApps)}}
	}
	slices.Sort(apps)
	return apps, nil
}

// Environments reads shoal.cue: the environments by name, sorted, or all that is wrong with it.
func Environments(tree source.Tree) ([]Environment, Problems) {
	module, problems := checkRepository(tree)
	if len(problems) > 0 {
		return nil, problems
	}
	if _, err := tree.Lookup("shoal.cue"); err != nil {
		return nil, Problems{{File: "shoal.cue", Text: "is missing; expected environments: NAME: ref: BRANCH"}}
	}
	p := Prepare()
	l := newLoader(tree, Environment{}, module)
	l.ctx, l.schema = p.build, p.schema
	syntax, err := l.parse("shoal.cue")
	if err != nil {
		return nil, cueProblems(err, "shoal.cue").Sorted()
	}
	root := l.single(syntax)
	v := p.ctx.BuildInstance(root.inst)
	c := &valueProblems{files: root.files}
	if root.inst.Err != nil {
		c.add(root.inst.Err)
		return nil, c.out.Sorted()
	}
	def := p.value.LookupPath(cue.MakePath(cue.Def("Repository")))
	environment := p.value.LookupPath(cue.MakePath(cue.Def("Environment")))
	c.defs = func(string) (cue.Value, kind, bool) { return environment, kind{}, true }
	v = v.Unify(def)
	if err := v.Validate(cue.Concrete(true)); err != nil {
		c.add(err)
		it, err := v.LookupPath(cue.ParsePath("environments")).Fields()
		for err == nil && it.Next() {
			c.missing([]string{"environments", it.Selector().Unquoted()}, it.Value(), environment, 0)
		}
		return nil, bounded(c.out, "")
	}
	return decodeEnvironments(v, c)
}

// single makes an instance of one file.
func (l *loader) single(f *ast.File) *pkg {
	p := &pkg{reads: newReads(), files: []*ast.File{f}}
	p.inst = l.ctx.NewInstance(".", l.importer(p))
	p.inst.Module, p.inst.Root, p.inst.Dir = l.module, ".", "."
	_ = p.inst.AddSyntax(f)
	_ = p.inst.Complete()
	return p
}

func decodeEnvironments(v cue.Value, c *valueProblems) ([]Environment, Problems) {
	it, err := v.LookupPath(cue.ParsePath("environments")).Fields()
	if err != nil {
		c.add(err)
		return nil, c.out
	}
	var out []Environment
	for it.Next() {
		var d struct {
			Ref, Class, Namespace string
			Namespaces            map[string]string
			Atomic                bool
			Allow                 []string
			Nodes                 map[string]string
		}
		name := it.Selector().Unquoted()
		if err := it.Value().Decode(&d); err != nil {
			c.add(err)
			continue
		}
		if !strings.HasPrefix(d.Ref, "refs/") {
			d.Ref = "refs/heads/" + d.Ref
		}
		policy, err := policyOf(name, it.Value(), c)
		if err != nil {
			c.add(err)
			continue
		}
		e := Environment{
			Name: name, Ref: d.Ref, Class: d.Class, Namespace: d.Namespace, Namespaces: d.Namespaces, Atomic: d.Atomic, Allow: d.Allow, Nodes: d.Nodes, Policy: policy,
		}
		if err := limitsOf(&e, it.Value(), c); err != nil {
			c.add(err)
			continue
		}
		out = append(out, e)
	}
	if len(c.out) > 0 {
		return nil, bounded(c.out, "")
	}
	if err := previewsOf(v, c, out); err != nil {
		c.add(err)
		return nil, bounded(c.out, "")
	}
	slices.SortFunc(out, func(a, b Environment) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// checkRepository reads the module's path and compares the vendored schema with the embedded one.
func checkRepository(tree source.Tree) (module string, problems Problems) {
	const file = "cue.mod/module.cue"
	src, err := tree.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", Problems{{File: file, Text: fmt.Sprintf("cannot be read: %v", err)}}
	case len(src) > MaxFile || tooDeep(src) > 0:
		return "", Problems{{File: file, Text: "is too big"}}
	default:
		f, err := parser.ParseFile(file, src)
		if err != nil {
			return "", cueProblems(err, file)
		}
		module = moduleOf(f)
		if module == "" {
			problems = append(problems, Problem{File: file, Line: 1, Text: `has no module path; expected module: "example.com/cluster"`})
		}
	}
	return module, append(problems, checkVendored(tree)...)
}

func moduleOf(f *ast.File) string {
	for _, d := range f.Decls {
		field, ok := d.(*ast.Field)
		if !ok {
			continue
		}
		if name, _, _ := ast.LabelName(field.Label); name != "module" {
			continue
		}
		if lit, ok := field.Value.(*ast.BasicLit); ok {
			s, _ := literal.Unquote(lit.Value)
			base, _, _ := strings.Cut(s, "@")
			return base
		}
	}
	return ""
}

// checkVendored refuses a copy of the schema that is not the embedded one: what stock cue says would not be what
// runs. A repository without a copy works; only stock cue does not.
func checkVendored(tree source.Tree) Problems {
	entries, err := tree.ReadDir(vendored)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return Problems{{File: vendored, Text: fmt.Sprintf("cannot be read: %v", err)}}
	}
	const mend = "; `shoal init --upgrade` renews it"
	have := map[string]source.ID{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name, ".cue") {
			have[e.Name] = e.ID
		}
	}
	var problems Problems
	names, _ := fs.Glob(schema.FS, "*.cue")
	for _, name := range names {
		want, _ := schema.FS.ReadFile(name)
		file := path.Join(vendored, name)
		id, ok := have[name]
		delete(have, name)
		switch {
		case !ok:
			problems = append(problems, Problem{File: file, Text: "is missing from the copy of the schema " + schema.Version + mend})
		case id == blobID(want):
		default:
			if got, err := tree.ReadFile(file); err != nil || string(got) != string(want) {
				problems = append(problems, Problem{File: file, Text: "is not the file of the schema " + schema.Version + mend})
			}
		}
	}
	for _, name := range sortedKeys(have) {
		problems = append(problems, Problem{File: path.Join(vendored, name), Text: "is no file of the schema " + schema.Version + mend})
	}
	return problems
}

// blobID is Git's id of a file's contents.
func blobID(b []byte) source.ID {
	sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...))
	return source.ID(hex.EncodeToString(sum[:]))
}
