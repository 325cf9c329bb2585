package kube

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Default fills in what an API server fills in on create. It changes obj.
func Default(obj Object) {
	if k := kindOf(obj); k != nil {
		k.fill(obj)
	}
}

// Validate returns what an API server would say against creating obj, in its own words; obj has its namespace and
// its defaults, and is not changed. They are sorted by field.
func Validate(obj Object) field.ErrorList {
	k := kindOf(obj)
	if k == nil {
		return field.ErrorList{field.NotSupported(field.NewPath("kind"), obj.GetObjectKind().GroupVersionKind().Kind, Kinds())}
	}
	errs := k.check(obj)
	slices.SortStableFunc(errs, func(a, b *field.Error) int { // Kubernetes walks maps in any order
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Error(), b.Error()))
	})
	return errs
}

func kindOf(obj Object) *kind { return find(obj.GetObjectKind().GroupVersionKind().Kind) }

// Kinds lists the kinds that work, sorted.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// Namespaced says whether objects of a kind live in a namespace; ok is false for a kind that is not known.
func Namespaced(name string) (namespaced, ok bool) {
	k := find(name)
	return k != nil && !k.cluster, k != nil
}

// ServerSide is what an API server writes into metadata. It has no place in a repository, and Canonical leaves it out.
var ServerSide = []string{
	"creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields",
	"resourceVersion", "selfLink", "uid",
}

// lastApplied is a copy of the whole object that kubectl keeps in an annotation.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Canonical returns obj as JSON that is the same for equal objects: keys sorted, no white space, no nulls, no status,
// nothing of ServerSide.
func Canonical(obj Object) ([]byte, error) {
	b, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", obj.GetName(), err)
	}
	var m map[string]any
	if err := decodeNumbers(b, &m); err != nil {
		return nil, fmt.Errorf("encode %s: %w", obj.GetName(), err)
	}
	delete(m, "status")
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, f := range ServerSide {
			delete(meta, f)
		}
		if notes, ok := meta["annotations"].(map[string]any); ok {
			if delete(notes, lastApplied); len(notes) == 0 {
				delete(meta, "annotations")
			}
		}
	}
	return CanonicalJSON(m)
}

// CanonicalJSON encodes a decoded JSON value with sorted keys and without nulls in objects. Numbers must be
// json.Number or integers. It changes v.
func CanonicalJSON(v any) ([]byte, error) {
	dropNulls(v)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func dropNulls(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e == nil {
				delete(v, k)
			} else {
				dropNulls(e)
			}
		}
	case []any:
		for _, e := range v {
			dropNulls(e)
		}
	}
}

func decodeNumbers(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode(v)
}
