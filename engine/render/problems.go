package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"
)

// cueProblems turns errors of parsing and loading into problems; they carry their own place.
func cueProblems(err error, file string) Problems {
	var out Problems
	if ps, ok := errors.AsType[Problems](err); ok {
		return ps
	}
	for _, e := range cueerrors.Errors(err) {
		if l, ok := errors.AsType[*located](e); ok {
			out = append(out, l.Problems...)
			continue
		}
		p := Problem{File: file, Text: message(e), Path: pathString(e.Path())}
		if pos := authors(e); pos.IsValid() {
			p.File, p.Line = pos.Filename(), pos.Line()
		}
		if p.File == "" {
			p.File = "."
		}
		out = append(out, p)
	}
	return out
}

// message is a CUE error's own text and that of the cause it wraps, which Msg alone would drop.
func message(e cueerrors.Error) string {
	format, args := e.Msg()
	text := strings.TrimSuffix(fmt.Sprintf(format, args...), ":")
	for strings.HasPrefix(text, "import failed: ") {
		text = strings.TrimPrefix(text, "import failed: ")
	}
	if inner := errors.Unwrap(e); inner != nil && !strings.Contains(text, inner.Error()) {
		cause := inner.Error()
		if c, ok := errors.AsType[cueerrors.Error](inner); ok {
			cause = message(c)
		}
		if text == "" || text == "import failed" {
			return cause
		}
		text += ": " + cause
	}
	return text
}

// authors is the first position of an error outside the schema.
func authors(e cueerrors.Error) token.Pos {
	for _, p := range append([]token.Pos{e.Position()}, e.InputPositions()...) {
		if p.IsValid() && p.Filename() != "" && !strings.HasPrefix(p.Filename(), schemaPrefix) {
			return p
		}
	}
	return token.NoPos
}

// valueProblems turns the errors of evaluated values into problems: one for each path, at the author's place.
type valueProblems struct {
	files []*ast.File
	defs  func(root string) (cue.Value, kind, bool) // the definition behind a top-level field's entries

	out  Problems
	seen map[string]bool
}

// add takes all errors of err. Those of one path become one problem.
func (c *valueProblems) add(err error) {
	type group struct {
		path []string
		errs []cueerrors.Error
	}
	var groups []*group
	byPath := map[string]*group{}
	for _, e := range cueerrors.Errors(err) {
		if l, ok := errors.AsType[*located](e); ok {
			c.out = append(c.out, l.Problems...)
			continue
		}
		path := unquoted(slices.Clone(e.Path()))
		key := pathString(path)
		g := byPath[key]
		if g == nil {
			g = &group{path: path}
			byPath[key] = g
			groups = append(groups, g)
		}
		g.errs = append(g.errs, e)
	}
	for _, g := range groups {
		if strings.HasPrefix(message(g.errs[0]), "field not allowed") {
			if c.misnamed(g.path) {
				c.put(g.path[:2], "is no name: expected lower-case letters, digits and -, at most 63, a letter or digit first and last", g.errs)
				continue
			}
			g.path = c.firstUnknown(g.path)
		}
		c.put(g.path, c.explain(g.path, g.errs), g.errs)
	}
}

func (c *valueProblems) put(path []string, text string, errs []cueerrors.Error) {
	name := pathString(path)
	key := name
	if key == "" {
		key = text
	}
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	if c.seen[key] {
		return
	}
	c.seen[key] = true
	p := Problem{File: ".", Path: name, Text: text}
	pos, depth := where(c.files, path)
	if len(c.files) > 0 {
		p.File = c.files[0].Filename
	}
	var other token.Pos
	for _, e := range errs {
		if a := authors(e); a.IsValid() && !isEmbed(c.files, a) {
			other = a
			break
		}
	}
	switch {
	case pos.IsValid() && (depth == len(path) || !other.IsValid()):
		p.File, p.Line = pos.Filename(), pos.Line()
		if other.IsValid() && other.Filename() != p.File {
			p.Text += fmt.Sprintf(" (the value stands in %s:%d)", other.Filename(), other.Line())
		}
	case other.IsValid():
		p.File, p.Line = other.Filename(), other.Line()
	}
	c.out = append(c.out, p)
}

// isEmbed says whether pos is the line `schema.#Package`, which every error of a definition names.
func isEmbed(files []*ast.File, pos token.Pos) bool {
	for _, f := range files {
		if f.Filename != pos.Filename() {
			continue
		}
		for _, d := range f.Decls {
			if e, ok := d.(*ast.EmbedDecl); ok && e.Pos().Line() == pos.Line() {
				return true
			}
		}
	}
	return false
}

func unquoted(path []string) []string {
	for i, p := range path {
		if len(p) > 1 && p[0] == '"' {
			if q := parsePath(p); len(q) == 1 {
				path[i] = q[0]
			}
		}
	}
	return path
}

// explain says in the author's terms what CUE says of one path.
func (c *valueProblems) explain(path []string, errs []cueerrors.Error) string {
	first := message(errs[0])
	switch {
	case strings.Contains(first, "empty disjunction"):
		return alternatives(errs[1:], first)
	case strings.HasPrefix(first, "field not allowed"), strings.HasSuffix(first, "no such field in #App"):
		return c.unknown(path)
	case strings.HasPrefix(first, "field is required but not present"):
		return "is required but not set"
	case strings.HasPrefix(first, "incomplete value "):
		return "is not set; expected " + strings.TrimPrefix(first, "incomplete value ")
	}
	if i := strings.Index(first, ` (out of bound =~`); i > 0 {
		return strings.TrimPrefix(first[:i], "invalid value ") + " does not match" + strings.TrimSuffix(strings.TrimPrefix(first[i:], " (out of bound =~"), ")")
	}
	return first
}

// alternatives collapses the failures of an enumeration, each "conflicting values A and B", into what was
// written and what may be written.
func alternatives(errs []cueerrors.Error, otherwise string) string {
	count := map[string]int{}
	var order []string
	pairs := 0
	for _, e := range errs {
		format, args := e.Msg()
		if !strings.HasPrefix(format, "conflicting values") || len(args) < 2 {
			continue
		}
		pairs++
		for _, a := range args[:2] {
			s := fmt.Sprint(a)
			if count[s]++; count[s] == 1 {
				order = append(order, s)
			}
		}
	}
	got := ""
	for _, s := range order {
		if count[s] == pairs {
			got = s
		}
	}
	if pairs == 0 || got == "" {
		if len(errs) > 0 {
			return message(errs[0])
		}
		return strings.TrimSuffix(otherwise, ":")
	}
	want := slices.DeleteFunc(order, func(s string) bool { return s == got })
	if pairs == 1 && len(want) == 1 {
		want = slices.Compact(want)
	}
	return fmt.Sprintf("is %s; must be one of %s", got, strings.Join(want, ", "))
}

// unknown says why a field is not allowed: Kubernetes has it and Shoal does not, or nobody has.
func (c *valueProblems) unknown(path []string) string {
	if len(path) == 0 {
		return "is not allowed"
	}
	name := path[len(path)-1]
	if c.defs == nil || len(path) < 3 {
		return "no such field"
	}
	def, k, ok := c.defs(path[0])
	if !ok {
		return "no such field"
	}
	if k.Type != nil && k.isKubernetes(path[2:]) {
		return "is a field of Kubernetes that Shoal does not support yet"
	}
	text := "no such field"
	if near := nearest(name, fieldsOf(defAt(def, path[2:len(path)-1]))); near != "" {
		text += "; did you mean " + near + "?"
	}
	return text
}

// misnamed says whether a field that is not allowed is known in itself: then the key of its entry is at fault, which
// no pattern takes.
func (c *valueProblems) misnamed(path []string) bool {
	if c.defs == nil || len(path) < 3 {
		return false
	}
	def, _, ok := c.defs(path[0])
	return ok && def.LookupPath(cue.MakePath(cue.Str(path[2]).Optional())).Exists()
}

// firstUnknown shortens the path of a field that is not allowed to the outermost one: CUE names the leaves.
func (c *valueProblems) firstUnknown(path []string) []string {
	if c.defs == nil || len(path) < 3 {
		return path
	}
	def, _, ok := c.defs(path[0])
	if !ok {
		return path
	}
	for n := 3; n < len(path); n++ {
		if !defAt(def, path[2:n]).Exists() {
			return path[:n]
		}
	}
	return path
}

// missing adds what CUE leaves out when there are other errors: fields that are required and not set, and fields
// that no definition has. v is an entry at path, def its definition.
func (c *valueProblems) missing(path []string, v, def cue.Value, depth int) {
	if depth > MaxDepth {
		return
	}
	if v.IncompleteKind() == cue.ListKind {
		it, err := v.List()
		if err != nil {
			return
		}
		for i := 0; it.Next(); i++ {
			p := fmt.Sprint(i)
			c.missing(append(slices.Clone(path), p), it.Value(), defAt(def, []string{p}), depth+1)
		}
		return
	}
	it, err := v.Fields(cue.Optional(true))
	if err != nil {
		return
	}
	for it.Next() {
		sel := it.Selector()
		if sel.LabelType() != cue.StringLabel || sel.ConstraintType() == cue.OptionalConstraint {
			continue
		}
		name := sel.Unquoted()
		at := append(slices.Clone(path), name)
		if sel.ConstraintType() == cue.RequiredConstraint {
			c.put(at, "is required but not set", nil)
			continue
		}
		inner := defAt(def, []string{name})
		if def.Exists() && !inner.Exists() && !def.Allows(cue.Str(name)) {
			c.put(at, c.unknown(at), nil)
			continue
		}
		if inner.Exists() {
			c.missing(at, it.Value(), inner, depth+1)
		}
	}
}

// defAt follows path through a definition's optional and required fields, patterns and lists.
func defAt(def cue.Value, path []string) cue.Value {
	for _, p := range path {
		if !def.Exists() {
			return def
		}
		next := def.LookupPath(cue.MakePath(cue.Str(p).Optional()))
		if !next.Exists() {
			next = def.LookupPath(cue.MakePath(cue.AnyIndex))
		}
		if !next.Exists() {
			next = def.LookupPath(cue.MakePath(cue.AnyString))
		}
		def = next
	}
	return def
}

func fieldsOf(def cue.Value) []string {
	var names []string
	it, err := def.Fields(cue.Optional(true))
	if err != nil {
		return nil
	}
	for it.Next() {
		if it.Selector().LabelType() == cue.StringLabel {
			names = append(names, it.Selector().Unquoted())
		}
	}
	return names
}

// nearest returns the name that differs from s by at most two letters, or by a third of them, if there is one.
func nearest(s string, names []string) string {
	best, name := min(2, (len(s)+2)/3)+1, ""
	for _, n := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(n)); d < best {
			best, name = d, n
		}
	}
	return name
}

// distance counts the letters to insert, drop or change between a and b (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			prev, row[j] = row[j], min(row[j]+1, row[j-1]+1, prev+cost)
		}
	}
	return row[len(b)]
}
