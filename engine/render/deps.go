package render

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/schema"
)

// Deps is what an evaluation read of its tree and of its environment. As an evaluation sees nothing else, the
// result holds for every tree and environment that agree in it; so two commits need not be read to know that
// an app came out the same.
type Deps struct {
	Reads []Read   `json:"reads"` // sorted by path and kind
	Facts []string `json:"facts"` // tags that were used, sorted: class, environment, ref, pr, url
}

// Read is one thing that was read. Its id stands for the contents; an absent path has the id "".
type Read struct {
	Path string   `json:"path"`
	Kind ReadKind `json:"kind"`
}

// ReadKind says how much of a path was read.
type ReadKind byte

// The whole file or directory, by Git's id; or the CUE files of a directory, but not what lies below it.
const (
	ReadWhole ReadKind = iota
	ReadPackage
)

// WholeTree is what an evaluation depends on that did not live to say what it read.
func WholeTree() Deps {
	return Deps{Reads: []Read{{Path: "."}}, Facts: []string{"class", "environment", "pr", "ref", "url"}}
}

// reads collects Deps.
type reads struct {
	seen  map[Read]bool
	facts map[string]bool
}

func newReads() *reads { return &reads{seen: map[Read]bool{}, facts: map[string]bool{}} }

func (r *reads) whole(path string) { r.seen[Read{path, ReadWhole}] = true }
func (r *reads) pkg(path string)   { r.seen[Read{path, ReadPackage}] = true }
func (r *reads) fact(name string)  { r.facts[name] = true }

func (r *reads) add(o *reads) {
	for k := range o.seen {
		r.seen[k] = true
	}
	for k := range o.facts {
		r.facts[k] = true
	}
}

// covered says whether a directory that was read whole stands for k.
func (r *reads) covered(k Read) bool {
	if k.Kind == ReadPackage && r.seen[Read{k.Path, ReadWhole}] {
		return true
	}
	for dir := k.Path; dir != "." && dir != "/"; {
		if dir = path.Dir(dir); r.seen[Read{dir, ReadWhole}] {
			return true
		}
	}
	return false
}

func (r *reads) deps() Deps {
	d := Deps{Reads: []Read{}, Facts: []string{}}
	for k := range r.seen {
		if !r.covered(k) {
			d.Reads = append(d.Reads, k)
		}
	}
	for k := range r.facts {
		d.Facts = append(d.Facts, k)
	}
	slices.SortFunc(d.Reads, func(a, b Read) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return int(a.Kind) - int(b.Kind)
	})
	slices.Sort(d.Facts)
	return d
}

// Keys makes cache keys for the apps of one tree and environment. It reads each directory once, so a thousand apps
// that share their values cost the directory of apps and a hash each. For one goroutine.
type Keys struct {
	tree source.Tree
	env  Environment
	ids  map[Read]source.ID
	dirs map[string]map[string]source.ID // entries of a directory; nil for one that is not there
	buf  []byte
}

// NewKeys begins the keys of one tree and environment.
func NewKeys(tree source.Tree, env Environment) *Keys {
	return &Keys{tree: tree, env: env, ids: map[Read]source.ID{}, dirs: map[string]map[string]source.ID{}}
}

// Key is the key of app in this tree and environment, given what an earlier evaluation of it read: equal keys
// mean equal results. It covers the version of the schema too. An error means that the tree could not be read.
func (k *Keys) Key(app string, deps Deps) (string, error) {
	k.buf = k.buf[:0]
	k.add(schema.Version)
	k.add(app)
	for _, r := range deps.Reads {
		id, ok := k.ids[r]
		if !ok {
			var err error
			if id, err = k.lookup(r); err != nil {
				return "", err
			}
			k.ids[r] = id
		}
		k.add(r.Path)
		k.add(string(id))
		k.buf = append(k.buf, byte(r.Kind))
	}
	for _, f := range deps.Facts {
		k.add(f)
		k.add(k.env.fact(f))
	}
	sum := sha256.Sum256(k.buf)
	return string(sum[:]), nil
}

// add puts a text into the key, with its length, so that no two lists of texts look alike.
func (k *Keys) add(s string) {
	k.buf = binary.AppendUvarint(k.buf, uint64(len(s)))
	k.buf = append(k.buf, s...)
}

func (k *Keys) lookup(r Read) (source.ID, error) {
	if r.Kind == ReadPackage {
		return k.packageID(r.Path)
	}
	if r.Path == "." {
		e, err := k.tree.Lookup(".")
		return e.ID, err
	}
	parent := path.Dir(r.Path)
	names, ok := k.dirs[parent]
	if !ok {
		entries, err := k.readDir(parent)
		if err != nil {
			return "", err
		}
		if entries != nil {
			names = map[string]source.ID{}
		}
		for _, e := range entries {
			names[e.Name] = e.ID
		}
		k.dirs[parent] = names
	}
	return names[path.Base(r.Path)], nil
}

// packageID stands for the CUE files of a directory.
func (k *Keys) packageID(dir string) (source.ID, error) {
	entries, err := k.readDir(dir)
	if err != nil {
		return "", err
	}
	var b []byte
	for _, e := range entries {
		if isCUE(e) {
			b = fmt.Appendf(b, "%q %s\n", e.Name, e.ID)
		}
	}
	sum := sha256.Sum256(b)
	return source.ID(sum[:]), nil
}

// readDir lists a directory; what is absent, or a file, has no entries.
func (k *Keys) readDir(dir string) ([]source.Entry, error) {
	e, err := k.tree.Lookup(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !e.Mode.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return k.tree.ReadDir(dir)
}

// fact returns the environment's value for a tag. Not every environment has one: pr is a preview's.
func (e Environment) fact(tag string) string {
	switch tag {
	case "class":
		return e.Class
	case "environment":
		return e.Name
	case "ref":
		return e.Ref
	case "pr":
		return e.PR
	case "url":
		return e.URL
	}
	return ""
}

// WithDefaults returns e with Class and Namespace filled in from Name.
func (e Environment) WithDefaults() Environment {
	if e.Class == "" {
		e.Class = e.Name
	}
	if e.Namespace == "" {
		e.Namespace = e.Name
	}
	if e.SecretsOf == "" {
		e.SecretsOf = e.Name
	}
	return e
}
