package renderer

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/schema"
)

// memTree is a tree of files by path, with Git's kind of ids.
type memTree map[string]string

const module = "module: \"shop.example/cluster\"\nlanguage: version: \"v0.15.0\"\n"

// repo makes a tree of a txtar text, with a module file and the vendored schema.
func repo(text string) memTree {
	t := memTree{"cue.mod/module.cue": module}
	names, _ := fs.Glob(schema.FS, "*.cue")
	for _, n := range names {
		b, _ := schema.FS.ReadFile(n)
		t["cue.mod/pkg/shoal.dev/schema"+"/"+n] = string(b)
	}
	for _, f := range txtar.Parse([]byte(text)).Files {
		t[f.Name] = string(f.Data)
	}
	return t
}

func (t memTree) Commit() source.ID { return "" }

func (t memTree) Lookup(p string) (source.Entry, error) {
	if s, ok := t[p]; ok {
		return source.Entry{Name: path.Base(p), ID: blob(s), Mode: 0o644}, nil
	}
	entries, err := t.ReadDir(p)
	if err != nil {
		return source.Entry{}, err
	}
	h := sha1.New()
	for _, e := range entries {
		fmt.Fprintln(h, e.Name, e.ID)
	}
	return source.Entry{Name: path.Base(p), ID: source.ID(hex.EncodeToString(h.Sum(nil))), Mode: fs.ModeDir | 0o755}, nil
}

func (t memTree) ReadDir(p string) ([]source.Entry, error) {
	prefix := p + "/"
	if p == "." {
		prefix = ""
	}
	names := map[string]bool{}
	for f := range t {
		if rest, ok := strings.CutPrefix(f, prefix); ok {
			name, _, _ := strings.Cut(rest, "/")
			names[name] = true
		}
	}
	if len(names) == 0 {
		return nil, &fs.PathError{Op: "readdir", Path: p, Err: fs.ErrNotExist}
	}
	var out []source.Entry
	for n := range names {
		e, err := t.Lookup(prefix + n)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b source.Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (t memTree) ReadFile(p string) ([]byte, error) {
	if s, ok := t[p]; ok {
		return []byte(s), nil
	}
	return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
}

func blob(s string) source.ID {
	sum := sha1.Sum([]byte(fmt.Sprintf("blob %d\x00%s", len(s), s)))
	return source.ID(hex.EncodeToString(sum[:]))
}
