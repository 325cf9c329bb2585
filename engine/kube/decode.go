package kube

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	utiljson "sigs.k8s.io/json"
)

// Fault is one thing that keeps an object from being decoded.
type Fault struct {
	Path string // "spec.replicas", "spec.template.spec.containers[0].image"; empty when the object itself is meant
	Text string // "unknown field"
}

func (f Fault) String() string {
	if f.Path == "" {
		return f.Text
	}
	return f.Path + ": " + f.Text
}

// Decode reads one object as its author wrote it. Every unknown and every repeated field is a fault, and so is every
// value of a wrong type. The object is nil if its kind is not known or a value has a wrong type; it is what its
// author meant only if there are no faults.
func Decode(b []byte) (Object, []Fault) {
	var head struct {
		APIVersion any `json:"apiVersion"`
		Kind       any `json:"kind"`
	}
	if err := utiljson.UnmarshalCaseSensitivePreserveInts(b, &head); err != nil {
		text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "json: "), " into Go")
		return nil, []Fault{{"", "not a JSON object: " + text}}
	}
	name, _ := head.Kind.(string)
	version, _ := head.APIVersion.(string)
	if name == "" {
		return nil, []Fault{{"kind", "Required value: expected the name of a kind"}}
	}
	k := find(name)
	if k == nil {
		return nil, []Fault{{"kind", name + ": not supported yet"}}
	}
	if version != k.apiVersion() {
		return nil, []Fault{{"apiVersion", fmt.Sprintf("Unsupported value: %q: supported values: %q", version, k.apiVersion())}}
	}
	obj := k.new()
	if faults := absurdQuantities(b, obj); len(faults) > 0 {
		return nil, faults
	}
	strict, err := utiljson.UnmarshalStrict(b, obj)
	if err == nil && len(strict) == 0 {
		return obj, nil
	}
	faults := append(mistakes(b, obj), repeated(b)...)
	if err != nil {
		obj = nil
		if len(faults) == 0 {
			faults = []Fault{{"", strings.TrimPrefix(err.Error(), "json: ")}}
		}
	} else if len(faults) == 0 {
		for _, e := range strict {
			faults = append(faults, Fault{"", e.Error()})
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
	if obj == nil {
		return nil, slices.Compact(faults) // not a typed nil
	}
	return obj, slices.Compact(faults)
}

// repeated finds fields that occur twice in one JSON object.
func repeated(b []byte) []Fault {
	var tree map[string]any
	strict, err := utiljson.UnmarshalStrict(b, &tree, utiljson.DisallowDuplicateFields)
	if err != nil {
		return nil
	}
	var faults []Fault
	for _, e := range strict {
		f := Fault{Text: e.Error()}
		if at, ok := errors.AsType[utiljson.FieldError](e); ok {
			f = Fault{Path: at.FieldPath(), Text: "duplicate field"}
		}
		faults = append(faults, f)
	}
	return faults
}

// Read decodes canonical bytes, or any object that was checked before. It fills in and checks nothing.
func Read(b []byte) (Object, error) {
	var head struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	k := find(head.Kind)
	if k == nil {
		return nil, fmt.Errorf("read object: kind %q is not supported yet", head.Kind)
	}
	obj := k.new()
	if err := utiljson.UnmarshalCaseSensitivePreserveInts(b, obj); err != nil {
		return nil, fmt.Errorf("read %s: %w", head.Kind, err)
	}
	return obj, nil
}
