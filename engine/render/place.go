package render

import "cuelang.org/go/cue/ast"

// Place returns where a field of the object can be mended: the deepest part of path that its author wrote out.
// path is written as Kubernetes does: spec.template.spec.containers[0].image. An object that came from another
// process knows its own place only.
func (o Object) Place(path string) (file string, line int) {
	if o.place == nil {
		return o.File, o.Line
	}
	return o.place.find(parsePath(path))
}

// placer finds the file and line of a path within an object.
type placer interface {
	find(path []string) (file string, line int)
}

// cuePlace is an object's place in a package: at is the field it comes from, own whether that field has the
// object's own form (an #App has another).
type cuePlace struct {
	files []*ast.File
	at    []string
	own   bool
}

func (c cuePlace) find(path []string) (string, int) {
	full := append([]string{}, c.at...)
	if c.own || c.at[0] == "objects" {
		full = append(full, path...)
	}
	if pos, depth := where(c.files, full); depth > 0 {
		return pos.Filename(), pos.Line()
	}
	return c.files[0].Filename, 1
}

type yamlPlace struct {
	file string
	doc  document
}

func (y yamlPlace) find(path []string) (string, int) {
	for n := len(path); n > 0; n-- {
		if line, ok := y.doc.lines[pathString(path[:n])]; ok {
			return y.file, line
		}
	}
	return y.file, y.doc.line
}
