package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/schema"
)

// schemaPath is the import path of the definitions.
const schemaPath = "shoal.dev/schema"

// schemaPrefix begins the names of the embedded definitions' files in positions, which no file of a tree has.
const schemaPrefix = "\x00schema/"

// loader makes CUE's instances from a tree: the packages of its module and the embedded schema, and nothing
// else. An imported package is loaded once for all apps of a batch. CUE's own loader is not used: it costs more
// than the evaluation, and does not find vendored packages in an fs.FS.
type loader struct {
	tree   source.Tree
	env    Environment
	module string // from cue.mod/module.cue; "" if there is none
	ctx    *build.Context
	schema *build.Instance

	packages map[string]*pkg           // by import path
	parsed   map[string]*parsedFile    // by path in the tree
	loading  []string                  // import paths under way, to find a cycle
	listed   map[string][]source.Entry // directories
}

// pkg is a loaded package, and what it and its imports read.
type pkg struct {
	inst    *build.Instance
	reads   *reads // its own; embedded files are added when it is built
	files   []*ast.File
	imports []*pkg
}

// allReads is what the package and its imports read so far.
func (p *pkg) allReads() *reads {
	all := newReads()
	seen := map[*pkg]bool{}
	var visit func(*pkg)
	visit = func(p *pkg) {
		if seen[p] {
			return
		}
		seen[p] = true
		all.add(p.reads)
		for _, i := range p.imports {
			visit(i)
		}
	}
	visit(p)
	return all
}

type parsedFile struct {
	file *ast.File
	err  error
}

func newLoader(tree source.Tree, env Environment, module string) *loader {
	return &loader{
		tree: tree, env: env, module: module, ctx: build.NewContext(),
		packages: map[string]*pkg{}, parsed: map[string]*parsedFile{}, listed: map[string][]source.Entry{},
	}
}

// app loads the package in dir, which no other package imports under this name. Tags are injected.
func (l *loader) app(dir string) (*pkg, error) {
	p, err := l.load(dir, "", true)
	if err != nil {
		return p, err
	}
	_ = p.inst.Complete() // its errors are in inst.Err, and come again when it is built
	return p, nil
}

// load reads the package called name (or whichever there is) of dir and of the directories above it, as CUE's
// rules for packages have it. With an error comes a package that says what was read.
func (l *loader) load(dir, name string, root bool) (*pkg, error) {
	p := &pkg{reads: newReads()}
	p.reads.whole("cue.mod/module.cue")
	p.inst = l.ctx.NewInstance(dir, l.importer(p))
	p.inst.Module, p.inst.Root, p.inst.Dir = l.module, ".", dir
	var problems Problems
	called := name // the package, once it is known
	for at := dir; ; at = path.Dir(at) {
		p.reads.pkg(at)
		entries, err := l.list(at)
		if err != nil {
			return p, err
		}
		added := 0
		for _, e := range entries {
			if !isCUE(e) {
				continue
			}
			file := path.Join(at, e.Name)
			// Above the package's own directory only files of its name matter, and a broken one is no
			// fault of this package unless it says that it belongs to it.
			if at != dir && !l.inPackage(file, called) {
				continue
			}
			syntax, err := l.parse(file)
			if err != nil {
				problems = append(problems, cueProblems(err, "")...)
				continue
			}
			pkgName := syntax.PackageName()
			switch {
			case name != "" && pkgName != name:
				continue
			case pkgName == "" || pkgName == "_":
				problems = append(problems, Problem{File: file, Line: 1, Text: "has no package clause; expected `package " + packageName(dir) + "` at its head"})
				continue
			case called != "" && pkgName != called:
				problems = append(problems, Problem{File: file, Line: 1, Text: fmt.Sprintf("is of package %s, others in its directory are of package %s; a directory holds one package", pkgName, called)})
				continue
			}
			called = pkgName
			include, err := l.included(syntax, p.reads)
			if err != nil {
				problems = append(problems, cueProblems(err, "")...)
				continue
			}
			added++
			if !include {
				continue
			}
			syntax.Pos().File().SetFSLoc(token.FSLoc{FS: treeFS{l.tree, p.reads}, Path: file})
			if root {
				if err := l.inject(syntax, p.reads); err != nil {
					problems = append(problems, cueProblems(err, "")...)
				}
			}
			p.files = append(p.files, syntax)
		}
		if at == dir && added == 0 && len(problems) == 0 {
			if name != "" {
				return p, fmt.Errorf("no CUE files of package %s in %s", name, dir)
			}
			return p, fmt.Errorf("no CUE files in %s", dir)
		}
		if at == "." || called == "" {
			break
		}
	}
	if len(problems) > 0 {
		return p, problems
	}
	for _, f := range p.files {
		_ = p.inst.AddSyntax(f)
	}
	return p, nil
}

func (l *loader) importer(p *pkg) build.LoadFunc {
	return func(pos token.Pos, importPath string) *build.Instance { return l.imported(p, pos, importPath) }
}

// imported answers an import statement: nil for CUE's builtin packages, an instance with Err otherwise.
func (l *loader) imported(importer *pkg, pos token.Pos, importPath string) *build.Instance {
	refuse := func(format string, args ...any) *build.Instance {
		inst := l.ctx.NewInstance("", nil)
		inst.Err = cueerrors.Newf(pos, format, args...)
		return inst
	}
	first, _, _ := strings.Cut(importPath, "/")
	if !strings.Contains(first, ".") {
		return nil // builtin; an unknown one is refused when it is compiled
	}
	if importPath == schemaPath {
		return l.schema
	}
	base, name, qualified := strings.Cut(importPath, ":")
	if strings.Contains(base, "@") || l.module == "" || (base != l.module && !strings.HasPrefix(base, l.module+"/")) {
		switch {
		case strings.HasPrefix(base, "shoal.dev/"):
			return refuse("package %q does not exist; the schema is imported as %q", importPath, schemaPath)
		case l.module == "":
			return refuse("package %q cannot be imported: the repository has no cue.mod/module.cue", importPath)
		}
		return refuse("package %q is not of this repository: packages can be imported from the module %q and from %q; no registry is ever asked", importPath, l.module, schemaPath)
	}
	dir := strings.TrimPrefix(strings.TrimPrefix(base, l.module), "/")
	if dir == "" {
		dir = "."
	}
	if !fs.ValidPath(dir) {
		return refuse("package %q has no valid path", importPath)
	}
	if !qualified {
		name = path.Base(base)
	}
	if slices.Contains(l.loading, importPath) {
		return refuse("packages import each other: %s", strings.Join(append(l.loading, importPath), " -> "))
	}
	if p := l.packages[importPath]; p != nil {
		importer.imports = append(importer.imports, p)
		return p.inst
	}
	l.loading = append(l.loading, importPath)
	defer func() { l.loading = l.loading[:len(l.loading)-1] }()

	p, err := l.load(dir, name, false)
	importer.imports = append(importer.imports, p)
	if err != nil {
		if ps, ok := errors.AsType[Problems](err); ok {
			inst := l.ctx.NewInstance("", nil)
			inst.Err = &located{Problems: ps}
			return inst
		}
		return refuse("package %q: %v", importPath, err)
	}
	p.inst.ImportPath = importPath
	l.packages[importPath] = p
	_ = p.inst.Complete()
	return p.inst
}

// located carries problems that have their place already through CUE's errors.
type located struct{ Problems }

func (e *located) Position() token.Pos         { return token.NoPos }
func (e *located) InputPositions() []token.Pos { return nil }
func (e *located) Path() []string              { return nil }
func (e *located) Msg() (string, []any)        { return "%s", []any{e.Error()} }

func (l *loader) list(dir string) ([]source.Entry, error) {
	if e, ok := l.listed[dir]; ok {
		return e, nil
	}
	entries, err := l.tree.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no directory %s", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	l.listed[dir] = entries
	return entries, nil
}

// parse parses a file once a batch: syntax trees belong to one context, which resolves names in them.
func (l *loader) parse(file string) (*ast.File, error) {
	if p, ok := l.parsed[file]; ok {
		return p.file, p.err
	}
	p := &parsedFile{}
	p.file, p.err = l.parseNew(file, parser.ParseComments)
	l.parsed[file] = p
	return p.file, p.err
}

func (l *loader) parseNew(file string, mode parser.Option) (*ast.File, error) {
	src, err := l.tree.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(src) > MaxFile {
		return nil, Problems{{File: file, Text: fmt.Sprintf("has %d bytes; at most %d are read", len(src), MaxFile)}}
	}
	if line := tooDeep(src); line > 0 {
		return nil, Problems{{File: file, Line: line, Text: fmt.Sprintf("brackets are nested deeper than %d", MaxBrackets)}}
	}
	return parser.ParseFile(file, src, mode)
}

// inPackage says whether a file in a directory above names itself part of the package.
func (l *loader) inPackage(file, name string) bool {
	if p, ok := l.parsed[file]; ok && p.file != nil {
		return p.file.PackageName() == name
	}
	key := file + "\x00clause"
	p, ok := l.parsed[key]
	if !ok {
		p = &parsedFile{}
		p.file, p.err = l.parseNew(file, parser.PackageClauseOnly)
		l.parsed[key] = p
	}
	return p.file != nil && p.file.PackageName() == name
}

// isCUE says whether a file is part of a package: hidden files, tests and tool files are not, as in stock cue.
func isCUE(e source.Entry) bool {
	return !e.Mode.IsDir() && strings.HasSuffix(e.Name, ".cue") &&
		!strings.HasPrefix(e.Name, ".") && !strings.HasPrefix(e.Name, "_") &&
		!strings.HasSuffix(e.Name, "_tool.cue") && !strings.HasSuffix(e.Name, "_test.cue")
}

// packageName makes a package name of a directory's.
func packageName(dir string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return -1
	}, path.Base(dir))
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return "app"
	}
	return name
}

// tooDeep returns the line where brackets nest deeper than MaxBrackets, or 0. Brackets in strings and comments
// count too, which no file of people comes near to. It guards the parser, which recurses.
func tooDeep(src []byte) int {
	depth, line := 0, 1
	for _, c := range src {
		switch c {
		case '\n':
			line++
		case '{', '[', '(':
			if depth++; depth > MaxBrackets {
				return line
			}
		case '}', ']', ')':
			depth = max(depth-1, 0)
		}
	}
	return 0
}

// loadSchema parses the embedded definitions for one build context.
func loadSchema(ctx *build.Context) (*build.Instance, error) {
	inst := ctx.NewInstance("", func(token.Pos, string) *build.Instance { return nil })
	names, err := fs.Glob(schema.FS, "*.cue")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		src, err := schema.FS.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(schemaPrefix+name, src, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		if err := inst.AddSyntax(f); err != nil {
			return nil, err
		}
	}
	inst.ImportPath = schemaPath
	return inst, inst.Complete()
}
