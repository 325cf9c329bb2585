package kube

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// mistakes compares a JSON object with the Go type it should fit, and tells every unknown field and every value of a
// wrong type with its path. The decoders stop at, or remember, the first one only. Values are not quoted: they may be
// secret.
func mistakes(b []byte, like any) []Fault {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return []Fault{{"", strings.TrimPrefix(err.Error(), "json: ")}}
	}
	var faults []Fault
	fit(v, reflect.TypeOf(like), "", &faults)
	return faults
}

var (
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	bytesType   = reflect.TypeFor[[]byte]()
)

func fit(v any, t reflect.Type, path string, faults *[]Fault) {
	wrong := func(want string) {
		*faults = append(*faults, Fault{path, fmt.Sprintf("Invalid type: found %s, expected %s", found(v), want)})
	}
	if v == nil {
		return // null is as good as absent
	}
	if t == quantityType && absurd(quantityOf(v)) {
		*faults = append(*faults, Fault{path, absurdText})
		return
	}
	if reflect.PointerTo(t).Implements(unmarshaler) && t.Kind() != reflect.Pointer {
		b, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(b, reflect.New(t).Interface())
		}
		if err != nil {
			*faults = append(*faults, Fault{path, "Invalid value: " + strings.TrimPrefix(err.Error(), "json: ")})
		}
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		fit(v, t.Elem(), path, faults)
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			wrong("object")
			return
		}
		fields := fieldsOf(t)
		for _, name := range sorted(m) {
			if ft, known := fields[name]; known {
				fit(m[name], ft, child(path, name), faults)
			} else {
				*faults = append(*faults, Fault{child(path, name), "unknown field"})
			}
		}
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			wrong("object")
			return
		}
		for _, name := range sorted(m) {
			fit(m[name], t.Elem(), path+"["+name+"]", faults)
		}
	case reflect.Slice:
		if t == bytesType {
			if s, ok := v.(string); !ok {
				wrong("string (base64)")
			} else if _, err := base64.StdEncoding.DecodeString(s); err != nil {
				*faults = append(*faults, Fault{path, "Invalid value: " + err.Error()})
			}
			return
		}
		list, ok := v.([]any)
		if !ok {
			wrong("list")
			return
		}
		for i, e := range list {
			fit(e, t.Elem(), path+"["+strconv.Itoa(i)+"]", faults)
		}
	case reflect.String:
		if _, ok := v.(string); !ok {
			wrong("string")
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			wrong("boolean")
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := v.(json.Number)
		if !ok {
			wrong("integer")
		} else if _, err := strconv.ParseInt(n.String(), 10, t.Bits()); err != nil {
			*faults = append(*faults, Fault{path, fmt.Sprintf("Invalid value: expected an integer of %d bits", t.Bits())})
		}
	default: // no other kind occurs in these objects
	}
}

// fieldsOf returns the JSON fields of a struct type, those of inlined structs included.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case name == "" && f.Anonymous:
			maps.Copy(m, fieldsOf(f.Type))
		case name == "":
			m[f.Name] = f.Type
		default:
			m[name] = f.Type
		}
	}
	return m
}

func child(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func found(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case []any:
		return "list"
	default:
		return "object"
	}
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
