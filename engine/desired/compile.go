package desired

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// App is one app, compiled: all that Build needs to know of its objects, without their bytes. It is small and
// encodable, for it crosses from the render child and is cached by the thousand.
type App struct {
	Name     string          `json:"name"`
	Items    []Item          `json:"items,omitempty"`    // sorted by Key
	Problems render.Problems `json:"problems,omitempty"` // if any, Items is nil
	Warnings render.Problems `json:"warnings,omitempty"` // what Kubernetes warns of
	// Broken is what an app with problems would bring without them, as far as it can be told, so that nobody is
	// blamed for counting on it.
	Broken []Key `json:"broken,omitempty"`
}

// Item is one object of an App.
type Item struct {
	Key      Key    `json:"key"`
	Digest   Digest `json:"digest"`             // of its canonical bytes
	Template Digest `json:"template,omitempty"` // see Entry
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Facts
}

// Blob is some bytes under their digest.
type Blob struct {
	Digest Digest `json:"digest"`
	Bytes  []byte `json:"bytes"`
}

// maxProblems bounds what is told of one app at once.
const maxProblems = 100

// Compile turns one app's objects as authored into canonical ones: each is decoded strictly, put into its namespace,
// admitted, defaulted and validated as Kubernetes does. What does not work yet is refused by name. All problems of
// an app are told at once; with any, it has no objects. Blobs are the canonical bytes, sorted by digest, each
// once. Compile depends on its arguments alone, and the order of objects does not matter.
func Compile(env render.Environment, app render.App) (App, []Blob) {
	out := App{Name: app.Name, Problems: slices.Clone(app.Problems)}
	var blobs []Blob
	var keys []Key
	secrets := render.SecretsApp(env.WithDefaults().SecretsOf)
	for _, o := range app.Objects {
		item, b, warned, problems := compile(env, o, app.Name == secrets && !env.NoSecrets)
		for _, ps := range []render.Problems{problems, warned} {
			for i := range ps {
				ps[i].App = app.Name
			}
		}
		out.Problems = append(out.Problems, problems...)
		keys = append(keys, item.Key)
		if len(problems) == 0 {
			out.Items = append(out.Items, item)
			out.Warnings = append(out.Warnings, warned...)
			blobs = append(blobs, Blob{item.Digest, b})
		}
	}
	if len(out.Problems) > 0 {
		slices.SortFunc(keys, Key.Compare)
		return App{Name: app.Name, Problems: bounded(out.Problems, app.Name), Broken: slices.Compact(keys)}, nil
	}
	out.Warnings = bounded(out.Warnings, app.Name)
	slices.SortStableFunc(out.Items, func(a, b Item) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(blobs, func(a, b Blob) int { return cmp.Compare(a.Digest, b.Digest) })
	blobs = slices.CompactFunc(blobs, func(a, b Blob) bool { return a.Digest == b.Digest })
	return out, blobs
}

// bounded sorts ps and keeps the first of them.
func bounded(ps render.Problems, app string) render.Problems {
	ps = ps.Sorted()
	more := len(ps) - maxProblems
	if more <= 0 {
		return ps
	}
	last := ps[maxProblems]
	last.Path, last.Text = "", fmt.Sprintf("%d more problems in app %s", more, app)
	return append(ps[:maxProblems:maxProblems], last)
}

// compile does the same for one object; warned is what Kubernetes warns of. With problems, item has no more than its key. The values of
// a Secret may be sealed.
func compile(env render.Environment, o render.Object, sealed bool) (item Item, canonical []byte, warned, problems render.Problems) {
	tree, err := parse(o.JSON)
	if err != nil {
		return Item{}, nil, nil, render.Problems{{File: o.File, Line: o.Line, Text: "not a JSON object: " + err.Error()}}
	}
	kind, name := words(tree)
	place := func(path, text string) render.Problem {
		at := kind
		if name != "" {
			at += " " + name
		}
		if path != "" {
			at += ": " + path
		}
		file, line := o.Place(path)
		return render.Problem{File: file, Line: line, Path: at, Text: text}
	}
	var seen paths
	tell := func(path, text string) {
		if path != "" {
			seen = append(seen, path)
		}
		problems = append(problems, place(path, text))
	}

	obj, faults := kube.Decode(o.JSON)
	for _, f := range faults {
		tell(f.Path, f.Text)
	}
	if rules, known := supported[kind]; known {
		unsupported(tree, rules, "", func(path, text string) {
			if !seen.cover(path) { // an unknown field is not "not supported yet"
				tell(path, text)
			}
		})
	}
	if obj == nil {
		return Item{Key: Key{Kind: kind, Namespace: home(env), Name: name}}, nil, nil, problems
	}

	item = Item{Key: keyOf(obj), File: o.File, Line: o.Line}
	settle(env, obj, &item.Key, !sealed, tell)
	if spec, path := podSpecOf(obj); spec != nil {
		admit(env, spec, path, tell)
		if env.Restricted {
			restrict(env, spec, path, tell)
		}
		settleNear(env, spec, path, tell)
		settleNodes(env, spec, path, tell)
		demand(env, spec, path, tell)
	}
	if env.DenyEgress {
		confine(obj)
	}
	kube.Default(obj)
	for _, e := range kube.Validate(openable(obj, sealed)) {
		if !seen.cover(e.Field) {
			tell(e.Field, e.ErrorBody())
		}
	}
	further(obj, tell)
	if len(problems) > 0 {
		return Item{Key: item.Key}, nil, nil, problems
	}

	if canonical, err = kube.Canonical(obj); err != nil {
		tell("", err.Error())
		return Item{Key: item.Key}, nil, nil, problems
	}
	item.Digest = DigestOf(canonical)
	if item.Template, err = templateDigest(kind, tree, env.Nodes); err != nil {
		tell("", err.Error())
	}
	item.Facts = factsOf(obj)
	for _, w := range kube.Warnings(obj) {
		path, text, _ := strings.Cut(w, ": ")
		warned = append(warned, place(path, text))
	}
	return item, canonical, warned, problems
}

// paths are fields of which something was told already, so that one mistake is told once.
type paths []string

// cover says whether path is one of ps or below one.
func (ps paths) cover(path string) bool {
	return slices.ContainsFunc(ps, func(p string) bool {
		rest, under := strings.CutPrefix(path, p)
		return under && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func parse(b []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	if tree == nil {
		return nil, fmt.Errorf("found null")
	}
	return tree, nil
}

// words returns an object's kind and name as far as they are there.
func words(tree map[string]any) (kind, name string) {
	if kind, _ = tree["kind"].(string); kind == "" {
		kind = "object"
	}
	meta, _ := tree["metadata"].(map[string]any)
	name, _ = meta["name"].(string)
	return kind, name
}

func keyOf(obj kube.Object) Key {
	gvk := obj.GetObjectKind().GroupVersionKind()
	return Key{Group: gvk.Group, Kind: gvk.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// templateDigest names the pod template as it was authored, on the environment's nodes; a bare Pod is its own template.
func templateDigest(kind string, tree map[string]any, nodes map[string]string) (Digest, error) {
	var template any
	switch kind {
	case "Pod":
		meta, _ := tree["metadata"].(map[string]any)
		template = map[string]any{
			"metadata": map[string]any{"labels": meta["labels"], "annotations": meta["annotations"]},
			"spec":     tree["spec"],
		}
	case "Deployment", "ReplicaSet", "Job":
		template = at(tree, "spec", "template")
	case "CronJob":
		template = at(tree, "spec", "jobTemplate", "spec", "template")
	default:
		return "", nil
	}
	b, err := kube.CanonicalJSON(chosen(template, nodes))
	if err != nil {
		return "", fmt.Errorf("encode template: %w", err)
	}
	return DigestOf(b), nil
}

func at(tree any, path ...string) any {
	for _, name := range path {
		m, _ := tree.(map[string]any)
		tree = m[name]
	}
	return tree
}
