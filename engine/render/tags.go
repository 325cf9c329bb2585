package render

import (
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// tagNames are the facts that @tag can ask for.
var tagNames = []string{"environment", "pr", "ref", "url"}

// included evaluates a file's @if and @ignore: of all names in an @if only the environment's class holds, as
// with `cue export -t <class>`.
func (l *loader) included(f *ast.File, r *reads) (bool, error) {
	var cond *ast.Attribute
	for _, d := range f.Decls {
		switch x := d.(type) {
		case *ast.Attribute:
			switch key, _ := x.Split(); key {
			case "ignore":
				return false, nil
			case "if":
				if cond != nil {
					return false, cueerrors.Newf(x.Pos(), "a second @if; a file has one at most")
				}
				cond = x
			}
			continue
		case *ast.CommentGroup:
			continue
		}
		break
	}
	if cond == nil {
		return true, nil
	}
	r.fact("class")
	_, body := cond.Split()
	expr, err := parser.ParseExpr("", body)
	if err != nil {
		return false, cueerrors.Newf(cond.Pos(), "@if(%s) cannot be read: expected a class, or classes joined by &&, || and !", body)
	}
	return l.holds(expr, cond, 0)
}

func (l *loader) holds(expr ast.Expr, at *ast.Attribute, depth int) (bool, error) {
	if depth > 50 {
		return false, cueerrors.Newf(at.Pos(), "@if is nested too deeply")
	}
	switch x := expr.(type) {
	case *ast.Ident:
		return x.Name == l.env.Class, nil
	case *ast.ParenExpr:
		return l.holds(x.X, at, depth+1)
	case *ast.UnaryExpr:
		if x.Op == token.NOT {
			v, err := l.holds(x.X, at, depth+1)
			return !v, err
		}
	case *ast.BinaryExpr:
		if x.Op == token.LAND || x.Op == token.LOR {
			a, err := l.holds(x.X, at, depth+1)
			if err != nil {
				return false, err
			}
			b, err := l.holds(x.Y, at, depth+1)
			if x.Op == token.LAND {
				return a && b, err
			}
			return a || b, err
		}
	}
	_, body := at.Split()
	return false, cueerrors.Newf(at.Pos(), "@if(%s) cannot be read: expected a class, or classes joined by &&, || and !", body)
}

// inject unifies the environment's facts with the fields that carry @tag, as `cue export -t name=value` does;
// like stock cue, in the app's own package only.
func (l *loader) inject(f *ast.File, r *reads) error {
	var errs cueerrors.Error
	ast.Walk(f, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok {
			return true
		}
		for _, a := range field.Attrs {
			key, body := a.Split()
			if key != "tag" {
				continue
			}
			name, options, _ := strings.Cut(body, ",")
			name = strings.TrimSpace(name)
			switch {
			case options != "" && strings.TrimSpace(options) != "type=string" && strings.TrimSpace(options) != "type=int":
				errs = cueerrors.Append(errs, cueerrors.Newf(a.Pos(), "@tag(%s) cannot be used: expected @tag(name) or @tag(name,type=int)", body))
				continue
			case !slices.Contains(tagNames, name):
				errs = cueerrors.Append(errs, cueerrors.Newf(a.Pos(), "there is no tag %q; must be one of %s", name, strings.Join(tagNames, ", ")))
				continue
			}
			r.fact(name)
			value := l.env.fact(name)
			if value == "" {
				continue // pr and url: stock cue is not given them either
			}
			var lit ast.Expr = ast.NewString(value)
			if strings.HasSuffix(options, "int") {
				if _, err := strconv.Atoi(value); err != nil {
					errs = cueerrors.Append(errs, cueerrors.Newf(a.Pos(), "the tag %s is %q here, which is no number", name, value))
					continue
				}
				lit = ast.NewLit(token.INT, value)
			}
			field.Value = ast.NewBinExpr(token.AND, field.Value, lit)
		}
		return true
	}, nil)
	if errs != nil {
		return errs
	}
	return nil
}
