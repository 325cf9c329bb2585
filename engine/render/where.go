package render

import (
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// where finds the place in the author's files that a path of the evaluated package comes from: the deepest field
// that is written out. depth says how many elements of the path it covers.
func where(files []*ast.File, path []string) (pos token.Pos, depth int) {
	for _, f := range files {
		if p, d := inDecls(f.Decls, path); d > depth {
			pos, depth = p, d
		}
	}
	return pos, depth
}

func inDecls(decls []ast.Decl, path []string) (pos token.Pos, depth int) {
	if len(path) == 0 {
		return token.NoPos, 0
	}
	best := func(p token.Pos, d int) {
		if d > depth {
			pos, depth = p, d
		}
	}
	for _, d := range decls {
		switch x := d.(type) {
		case *ast.Field:
			if !mayBe(x.Label, path[0]) {
				continue
			}
			best(x.Pos(), 1)
			if p, n := inExpr(x.Value, path[1:]); n > 0 {
				best(p, n+1)
			}
		case *ast.EmbedDecl:
			best(inExpr(x.Expr, path))
		case *ast.Comprehension:
			best(inExpr(x.Value, path))
		}
	}
	return pos, depth
}

// mayBe says whether a label is name, or is computed and so may become it.
func mayBe(label ast.Label, name string) bool {
	switch x := label.(type) {
	case *ast.Interpolation, *ast.ParenExpr:
		return true
	case *ast.Alias:
		if l, ok := x.Expr.(ast.Label); ok {
			return mayBe(l, name)
		}
		return false
	}
	s, _, err := ast.LabelName(label)
	return err == nil && s == name
}

func inExpr(e ast.Expr, path []string) (pos token.Pos, depth int) {
	if len(path) == 0 {
		return token.NoPos, 0
	}
	switch x := e.(type) {
	case *ast.StructLit:
		return inDecls(x.Elts, path)
	case *ast.ParenExpr:
		return inExpr(x.X, path)
	case *ast.BinaryExpr:
		if x.Op != token.AND {
			return token.NoPos, 0
		}
		pos, depth = inExpr(x.X, path)
		if p, d := inExpr(x.Y, path); d > depth {
			return p, d
		}
		return pos, depth
	case *ast.ListLit:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i >= len(x.Elts) {
			return token.NoPos, 0
		}
		for _, before := range x.Elts[:i+1] {
			switch before.(type) {
			case *ast.Comprehension, *ast.Ellipsis:
				return token.NoPos, 0 // how many elements it makes is not to be seen here
			}
		}
		if p, d := inExpr(x.Elts[i], path[1:]); d > 0 {
			return p, d + 1
		}
		return x.Elts[i].Pos(), 1
	}
	return token.NoPos, 0
}

// pathString writes a path as people do: app.web.ports.http, spec.containers[0].image, data."a.b".
func pathString(path []string) string {
	var b strings.Builder
	for i, p := range path {
		if _, err := strconv.Atoi(p); err == nil && i > 0 {
			b.WriteString("[" + p + "]")
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		if ast.IsValidIdent(p) {
			b.WriteString(p)
		} else {
			b.WriteString(strconv.Quote(p))
		}
	}
	return b.String()
}

// parsePath reads what pathString writes, and Kubernetes' form of a key: metadata.annotations[a.b/c].
func parsePath(s string) []string {
	var path []string
	for s != "" {
		switch s[0] {
		case '.':
			s = s[1:]
		case '[':
			inner, rest, ok := strings.Cut(s[1:], "]")
			if !ok {
				return append(path, s)
			}
			path, s = append(path, strings.Trim(inner, `"`)), rest
		case '"':
			quoted, err := strconv.QuotedPrefix(s)
			if err != nil {
				return append(path, s)
			}
			p, _ := strconv.Unquote(quoted)
			path, s = append(path, p), s[len(quoted):]
		default:
			n := strings.IndexAny(s, ".[")
			if n < 0 {
				n = len(s)
			}
			path, s = append(path, s[:n]), s[n:]
		}
	}
	return path
}
