package render

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
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

func (r *reads) deps() Deps {
	d := Deps{Reads: []Read{}, Facts: []string{}}
	for k := range r.seen {
		d.Reads = append(d.Reads, k)
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

// Keys makes cache keys for the apps of one tree and environment. It looks each path up once, so a thousand
// apps that share their values cost little more than a thousand lookups. For one goroutine.
type Keys struct {
	tree source.Tree
	env  Environment
	ids  map[Read]source.ID
	errs map[Read]error
}

// NewKeys begins the keys of one tree and environment.
func NewKeys(tree source.Tree, env Environment) *Keys {
	return &Keys{tree: tree, env: env, ids: map[Read]source.ID{}, errs: map[Read]error{}}
}

// Key is the key of app in this tree and environment, given what an earlier evaluation of it read: equal keys
// mean equal results. It covers the version of the schema too. An error means that the tree could not be read.
func (k *Keys) Key(app string, deps Deps) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", schema.Version, app)
	for _, r := range deps.Reads {
		id, err := k.id(r)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s\x00%d\x00%s\x00", r.Path, r.Kind, id)
	}
	for _, f := range deps.Facts {
		fmt.Fprintf(h, "%s\x00%s\x00", f, k.env.fact(f))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (k *Keys) id(r Read) (source.ID, error) {
	if id, ok := k.ids[r]; ok {
		return id, k.errs[r]
	}
	id, err := k.lookup(r)
	k.ids[r], k.errs[r] = id, err
	return id, err
}

func (k *Keys) lookup(r Read) (source.ID, error) {
	if r.Kind == ReadWhole {
		e, err := k.tree.Lookup(r.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return e.ID, err
	}
	entries, err := k.tree.ReadDir(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, e := range entries {
		if isCUE(e) {
			fmt.Fprintf(h, "%s\x00%s\x00", e.Name, e.ID)
		}
	}
	return source.ID(hex.EncodeToString(h.Sum(nil))), nil
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
	return e
}
