package render

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"

	"github.com/shoal-dev/shoal/engine/source"
)

// Prepared is a fresh CUE context with the schema compiled in, ready for one Batch. Contexts keep all that was
// ever evaluated in them, so each serves some apps and is dropped.
type Prepared struct {
	ctx    *cue.Context
	build  *build.Context
	schema *build.Instance
	value  cue.Value
}

// Prepare makes a context ready. It takes some milliseconds, which may be spent before there is work.
func Prepare() *Prepared {
	p := &Prepared{ctx: cuecontext.New(), build: build.NewContext()}
	inst, err := loadSchema(p.build)
	if err != nil {
		panic(fmt.Sprintf("embedded schema: %v", err)) // a bug of ours, which every test meets
	}
	p.schema = inst
	p.value = p.ctx.BuildInstance(inst)
	if err := p.value.Err(); err != nil {
		panic(fmt.Sprintf("embedded schema: %v", err))
	}
	return p
}

// Batch evaluates apps of one tree and environment, one after the other. For one goroutine.
type Batch struct {
	prepared *Prepared
	tree     source.Tree
	env      Environment
	loader   *loader
	check    Problems
	deps     *reads // what the whole batch reads
}

// NewBatch begins a batch in a context that served none yet. Problems of the repository itself, such as a changed
// copy of the schema, are found here and given to every app.
func NewBatch(p *Prepared, tree source.Tree, env Environment) *Batch {
	env = env.WithDefaults()
	b := &Batch{prepared: p, tree: tree, env: env, deps: newReads()}
	b.deps.whole("cue.mod")
	module, problems := checkRepository(tree)
	b.check = problems
	b.loader = newLoader(tree, env, module)
	b.loader.ctx, b.loader.schema = p.build, p.schema
	return b
}

// Loaded is an app that was read and parsed, with its imports, and not yet evaluated.
type Loaded struct {
	Name string
	Deps Deps // what its evaluation depends on

	batch    *Batch
	reads    *reads
	pkg      *pkg // nil if it has no CUE
	docs     map[string][]document
	sealed   []Object // of an environment's secrets
	problems Problems
}

// Load reads an app's files. It never fails: what is wrong is said by Eval.
func (b *Batch) Load(name string) *Loaded {
	dir := AppDir(name)
	l := &Loaded{Name: name, batch: b, docs: map[string][]document{}, problems: slices.Clone(b.check)}
	r := newReads()
	r.add(b.deps)
	r.whole(dir)
	l.reads = r
	defer func() { l.Deps = r.deps() }()
	if IsSecretsApp(name) {
		b.loadSecrets(l)
		return l
	}
	entries, err := b.loader.list(dir)
	if err != nil {
		l.problems = append(l.problems, Problem{File: dir, Text: err.Error()})
		return l
	}
	var cueFiles, yamlFiles int
	for _, e := range entries {
		if isCUE(e) {
			cueFiles++
		}
		if !isYAML(e) {
			continue
		}
		yamlFiles++
		file := path.Join(dir, e.Name)
		src, err := b.tree.ReadFile(file)
		if err != nil {
			l.problems = append(l.problems, Problem{File: file, Text: fmt.Sprintf("cannot be read: %v", err)})
			continue
		}
		docs, problems := yamlDocuments(file, src)
		l.docs[file] = docs
		l.problems = append(l.problems, problems...)
	}
	if cueFiles+yamlFiles > MaxFiles {
		l.problems = append(l.problems, Problem{File: dir, Text: fmt.Sprintf("has more than %d files", MaxFiles)})
		return l
	}
	if cueFiles+yamlFiles == 0 {
		l.problems = append(l.problems, Problem{File: dir, Text: "has neither CUE nor YAML files: an app is a directory with a CUE package, YAML files, or both"})
	}
	if cueFiles == 0 || len(b.check) > 0 {
		return l
	}
	p, err := b.loader.app(dir)
	r.add(p.allReads())
	if err != nil {
		l.problems = append(l.problems, cueProblems(err, dir)...)
		return l
	}
	l.pkg = p
	return l
}

// Eval evaluates a loaded app to its objects, or to all of its problems. The Deps of embedded files are known
// only afterwards: they are in l.Deps then.
func (l *Loaded) Eval() (app App) {
	b := l.batch
	problems := l.problems
	objects := slices.Clone(l.sealed)
	for _, file := range sortedKeys(l.docs) {
		for _, d := range l.docs[file] {
			objects = append(objects, Object{JSON: d.json, File: file, Line: d.line, place: yamlPlace{file: file, doc: d}})
		}
	}
	if l.pkg != nil {
		os, ps := b.fromCUE(l)
		objects, problems = append(objects, os...), append(problems, ps...)
		l.reads.add(l.pkg.allReads())
		l.Deps = l.reads.deps()
	}
	total := 0
	for _, o := range objects {
		total += len(o.JSON)
	}
	switch {
	case len(objects) > MaxObjects:
		problems = append(problems, Problem{File: AppDir(l.Name), Text: fmt.Sprintf("has %d objects; at most %d", len(objects), MaxObjects)})
	case total > MaxAppBytes:
		problems = append(problems, Problem{File: AppDir(l.Name), Text: fmt.Sprintf("has objects of %d bytes in all; at most %d", total, MaxAppBytes)})
	}
	if len(problems) > 0 {
		return App{Name: l.Name, Problems: bounded(problems, l.Name)}
	}
	slices.SortStableFunc(objects, compareObjects)
	return App{Name: l.Name, Objects: objects}
}

// Eval evaluates apps, in that order. Contexts are dropped after some apps, so that memory does not grow with
// their number.
func Eval(tree source.Tree, env Environment, apps []string) []App {
	var out []App
	for chunk := range slices.Chunk(apps, AppsPerContext) {
		b := NewBatch(Prepare(), tree, env)
		for _, name := range chunk {
			out = append(out, b.Load(name).Eval())
		}
	}
	return out
}

// AppsPerContext is how many apps share a context: enough that compiling the schema (some ms) and the values they
// import costs each little, few enough that a context stays small.
const AppsPerContext = 50

func (b *Batch) fromCUE(l *Loaded) ([]Object, Problems) {
	files := l.pkg.files
	v := b.prepared.ctx.BuildInstance(l.pkg.inst)
	c := &valueProblems{files: files, defs: b.definition}
	if err := l.pkg.inst.Err; err != nil {
		c.add(err)
		return nil, c.out
	}
	unknownFields(files, c)
	if err := v.Validate(cue.Concrete(true)); err != nil {
		c.add(err)
		for _, k := range append([]string{"app"}, kindFields()...) {
			def, _, _ := b.definition(k)
			it, err := v.LookupPath(cue.MakePath(cue.Str(k))).Fields()
			for err == nil && it.Next() {
				c.missing([]string{k, it.Selector().Unquoted()}, it.Value(), def, 0)
			}
		}
	}
	if len(c.out) > 0 {
		return nil, authored(c.out)
	}
	it, err := v.Fields()
	if err != nil {
		c.add(err)
		return nil, c.out
	}
	made := map[string][]string{} // key in objects -> path of the field it was made from
	for it.Next() {
		name := it.Selector().Unquoted()
		k, isKind := kindOfField(name)
		if !isKind && name != "app" {
			if name != "objects" {
				c.put([]string{name}, fieldText(name), nil)
			}
			continue
		}
		entries, err := it.Value().Fields()
		if err != nil {
			c.add(err)
			continue
		}
		for entries.Next() {
			entry := entries.Selector().Unquoted()
			if isKind {
				made[k.Field+"/"+entry] = []string{name, entry}
				continue
			}
			parts, err := entries.Value().LookupPath(cue.MakePath(cue.Str("objects"))).Fields()
			for err == nil && parts.Next() {
				made[parts.Selector().Unquoted()] = []string{name, entry}
			}
		}
	}
	objects := v.LookupPath(cue.MakePath(cue.Str("objects")))
	if !objects.Exists() {
		text := "makes no objects; expected a line `schema.#Package` (with `import \"" + schemaPath + "\"`), or a field `objects`"
		return nil, append(c.out, Problem{File: files[0].Filename, Line: 1, Text: text})
	}
	list, err := objects.Fields()
	if err != nil {
		c.add(err)
		return nil, c.out
	}
	var out []Object
	for list.Next() {
		key := list.Selector().Unquoted()
		at, isMade := made[key]
		if !isMade {
			at = []string{"objects", key}
		}
		delete(made, key)
		if len(out) >= MaxObjects {
			return nil, append(c.out, Problem{File: path.Join("apps", l.Name), Text: fmt.Sprintf("has more than %d objects", MaxObjects)})
		}
		value := list.Value()
		if value.IncompleteKind() != cue.StructKind {
			c.put(at, "is no object: expected apiVersion, kind and metadata", nil)
			continue
		}
		o := Object{place: cuePlace{files: files, at: at, own: isMade && at[0] != "app"}}
		o.File, o.Line = o.place.find(nil)
		enc := encoder{max: MaxObjectBytes}
		if err := enc.value(value, 0); err != nil {
			c.put(at, err.Error(), nil)
			continue
		}
		o.JSON = enc.buf.Bytes()
		out = append(out, o)
	}
	for _, at := range made { // a kind's field that nothing turns into an object
		c.put(at, "is in no object; the package lacks a line `schema.#Package`", nil)
	}
	return out, c.out
}

// def is the definition of a kind.
func (b *Batch) def(kind string) cue.Value {
	return b.prepared.value.LookupPath(cue.MakePath(cue.Def(kind)))
}

func (b *Batch) definition(field string) (cue.Value, kind, bool) {
	if field == "app" {
		return b.def("App"), kind{}, true
	}
	if k, ok := kindOfField(field); ok {
		return b.def(k.Kind), k, true
	}
	return cue.Value{}, kind{}, false
}

// unknownFields finds regular fields that are written at the head of a package and are neither a kind's nor
// objects.
func unknownFields(files []*ast.File, c *valueProblems) {
	for _, f := range files {
		for _, d := range f.Decls {
			field, ok := d.(*ast.Field)
			if !ok {
				continue
			}
			name, isIdent, err := ast.LabelName(field.Label)
			if err != nil || isIdent && (strings.HasPrefix(name, "_") || strings.HasPrefix(name, "#")) {
				continue
			}
			if _, ok := kindOfField(name); ok || name == "app" || name == "objects" {
				continue
			}
			c.put([]string{name}, fieldText(name), nil)
		}
	}
}

func fieldText(name string) string {
	names := append([]string{"app", "objects"}, kindFields()...)
	text := "no such field; expected one of " + strings.Join(names, ", ")
	if near := nearest(name, names); near != "" {
		text = "no such field; did you mean " + near + "?"
	}
	return text + " (helpers begin with _ or #)"
}

func kindFields() []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.Field
	}
	return out
}

// authored drops the problems of what was made from a field that has problems itself.
func authored(ps Problems) Problems {
	written := map[string]bool{} // app.web
	any := false
	for _, p := range ps {
		path := parsePath(p.Path)
		if len(path) > 0 && path[0] != "objects" {
			any = true
		}
		if len(path) > 2 && path[0] == "app" && path[2] != "objects" {
			written[pathString(path[:2])] = true
		}
	}
	return slices.DeleteFunc(ps, func(p Problem) bool {
		path := parsePath(p.Path)
		if len(path) > 1 && path[0] == "objects" && any {
			_, _, made := strings.Cut(path[1], "/")
			return made
		}
		return len(path) > 2 && path[0] == "app" && path[2] == "objects" && written[pathString(path[:2])]
	})
}

// bounded sorts problems, marks them with their app, and cuts the list.
func bounded(ps Problems, app string) Problems {
	for i := range ps {
		ps[i] = redacted(ps[i])
		ps[i].App = app
		ps[i].Text = clipped(ps[i].Text, 1000)
		ps[i].Path = clipped(ps[i].Path, 500)
	}
	ps = ps.Sorted()
	if n := len(ps); n > MaxProblems {
		ps = append(ps[:MaxProblems:MaxProblems], Problem{File: path.Join("apps", app), App: app, Text: fmt.Sprintf("and %d more", n-MaxProblems)})
	}
	return ps
}

func clipped(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// compareObjects orders by kind, namespace and name, as far as they are written.
func compareObjects(a, b Object) int {
	return slices.Compare(a.identity(), b.identity())
}

func (o Object) identity() []string {
	var id struct {
		Kind     string
		Metadata struct{ Namespace, Name string }
	}
	_ = json.Unmarshal(o.JSON, &id)
	return []string{id.Kind, id.Metadata.Namespace, id.Metadata.Name}
}

func isYAML(e source.Entry) bool {
	return !e.Mode.IsDir() && !strings.HasPrefix(e.Name, ".") && (strings.HasSuffix(e.Name, ".yaml") || strings.HasSuffix(e.Name, ".yml"))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
