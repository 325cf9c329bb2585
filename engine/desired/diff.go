package desired

import (
	"fmt"
	"strconv"

	"github.com/shoal-dev/shoal/engine/kube"
)

// Op is what becomes of an object.
type Op string

// The operations of a Change.
const (
	Create Op = "create"
	Update Op = "update"
	Delete Op = "delete"
)

// Change is what one commit does to one object.
type Change struct {
	Op  Op     `json:"op"`
	Key Key    `json:"key"`
	App string `json:"app"`
	// Template says that the authored pod template changed, so that pods are replaced.
	Template bool          `json:"template,omitempty"`
	Fields   []FieldChange `json:"fields,omitempty"` // of an update, sorted by path
}

// FieldChange is one field of canonical objects that differs. Values are JSON; "" is absent. Values of Secrets are
// never in here.
type FieldChange struct {
	Path string `json:"path"` // "spec.template.spec.containers[web].image"
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

func (f FieldChange) String() string {
	switch {
	case f.Old == "":
		return f.Path + ": + " + f.New
	case f.New == "":
		return f.Path + ": - " + f.Old
	}
	return f.Path + ": " + f.Old + " -> " + f.New
}

// Diff tells what changes from prev (nil: nothing was there) to next, sorted by key. Only objects that differ are read.
func Diff(prev, next *Set, content Content) ([]Change, error) {
	var before, after []Entry
	if prev != nil {
		before = prev.Entries
	}
	if next != nil {
		after = next.Entries
	}
	var out []Change
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].Key.Compare(after[0].Key) < 0:
			out = append(out, Change{Op: Delete, Key: before[0].Key, App: before[0].App})
			before = before[1:]
		case len(before) == 0 || after[0].Key.Compare(before[0].Key) < 0:
			out = append(out, Change{Op: Create, Key: after[0].Key, App: after[0].App, Template: after[0].Template != ""})
			after = after[1:]
		default:
			o, n := before[0], after[0]
			before, after = before[1:], after[1:]
			if o.Digest == n.Digest && o.Template == n.Template {
				continue
			}
			fields, err := differences(o, n, content)
			if err != nil {
				return nil, fmt.Errorf("compare %s: %w", n.Key, err)
			}
			out = append(out, Change{Op: Update, Key: n.Key, App: n.App, Template: o.Template != n.Template, Fields: fields})
		}
	}
	return out, nil
}

func differences(o, n Entry, content Content) ([]FieldChange, error) {
	var trees [2]map[string]any
	for i, d := range []Digest{o.Digest, n.Digest} {
		b, err := content.Get(d)
		if err != nil {
			return nil, err
		}
		if trees[i], err = parse(b); err != nil {
			return nil, err
		}
	}
	var out []FieldChange
	if n.Key.Kind == "Secret" {
		out = secretKeys(trees[0], trees[1])
		out = append(out, hiddenNotes(trees[0], trees[1])...)
		delete(trees[0], "data")
		delete(trees[1], "data")
	}
	out = compare(out, "", trees[0], trees[1])
	return out, nil
}

// secretKeys names the entries of two Secrets that differ.
func secretKeys(o, n map[string]any) []FieldChange {
	before, _ := o["data"].(map[string]any)
	after, _ := n["data"].(map[string]any)
	both := map[string]bool{}
	for k := range before {
		both[k] = true
	}
	for k := range after {
		both[k] = true
	}
	var out []FieldChange
	for _, k := range sortedKeys(both) {
		f := FieldChange{Path: "data." + k}
		if _, there := before[k]; there {
			f.Old = redacted
		}
		if _, there := after[k]; there {
			f.New = redacted
		}
		if before[k] != after[k] {
			out = append(out, f)
		}
	}
	return out
}

// hiddenNotes names the annotations that are not shown and differ, and takes them out of both.
func hiddenNotes(o, n map[string]any) (out []FieldChange) {
	before, _ := at(o, "metadata", "annotations").(map[string]any)
	after, _ := at(n, "metadata", "annotations").(map[string]any)
	for _, k := range hidden {
		f := FieldChange{Path: "metadata.annotations." + k}
		if before[k] != nil {
			f.Old = redacted
		}
		if after[k] != nil {
			f.New = redacted
		}
		if before[k] != after[k] {
			out = append(out, f)
		}
		delete(before, k)
		delete(after, k)
	}
	return out
}

// compare adds the fields in which two JSON trees differ. An absent subtree is one difference, not many.
func compare(out []FieldChange, path string, o, n any) []FieldChange {
	if ol, ok := o.([]any); ok {
		if nl, ok := n.([]any); ok {
			return compareLists(out, path, ol, nl)
		}
	}
	om, oldMap := o.(map[string]any)
	nm, newMap := n.(map[string]any)
	if oldMap && newMap {
		both := map[string]bool{}
		for k := range om {
			both[k] = true
		}
		for k := range nm {
			both[k] = true
		}
		for _, k := range sortedKeys(both) {
			at := k
			if path != "" {
				at = path + "." + k
			}
			ov, inOld := om[k]
			nv, inNew := nm[k]
			switch {
			case !inOld:
				out = append(out, FieldChange{Path: at, New: show(nv)})
			case !inNew:
				out = append(out, FieldChange{Path: at, Old: show(ov)})
			default:
				out = compare(out, at, ov, nv)
			}
		}
		return out
	}
	if a, b := show(o), show(n); a != b {
		out = append(out, FieldChange{Path: path, Old: a, New: b})
	}
	return out
}

// compareLists pairs elements by name where all have one, as containers, volumes and variables do, and by position
// otherwise.
func compareLists(out []FieldChange, path string, o, n []any) []FieldChange {
	om, okOld := named(o)
	nm, okNew := named(n)
	if okOld && okNew {
		for _, e := range o {
			name := nameOf(e)
			at := path + "[" + name + "]"
			if other, there := nm[name]; there {
				out = compare(out, at, e, other)
			} else {
				out = append(out, FieldChange{Path: at, Old: show(e)})
			}
		}
		for _, e := range n {
			if name := nameOf(e); om[name] == nil {
				out = append(out, FieldChange{Path: path + "[" + name + "]", New: show(e)})
			}
		}
		return out
	}
	for i := range max(len(o), len(n)) {
		at := path + "[" + strconv.Itoa(i) + "]"
		switch {
		case i >= len(o):
			out = append(out, FieldChange{Path: at, New: show(n[i])})
		case i >= len(n):
			out = append(out, FieldChange{Path: at, Old: show(o[i])})
		default:
			out = compare(out, at, o[i], n[i])
		}
	}
	return out
}

func nameOf(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// named indexes a list by the names of its elements, if each has one of its own.
func named(list []any) (map[string]any, bool) {
	m := make(map[string]any, len(list))
	for _, e := range list {
		name := nameOf(e)
		if name == "" || m[name] != nil {
			return nil, false
		}
		m[name] = e
	}
	return m, true
}

// show prints a value as JSON; a tree was decoded from JSON, so it encodes.
func show(v any) string {
	b, err := kube.CanonicalJSON(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
