package cluster

import (
	"encoding"
	"encoding/json"
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// fields are the names under which values of a type are encoded in JSON, with their types.
func fields(path string, t reflect.Type, above ...reflect.Type) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) { walkFields(path, t, above, yield) }
}

func walkFields(path string, t reflect.Type, above []reflect.Type, yield func(string, string) bool) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		if t.Kind() != reflect.Pointer {
			path += "[]"
		}
		t = t.Elem()
	}
	text, marshals := reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[json.Marshaler]()
	if t.Kind() != reflect.Struct || t.Implements(text) || t.Implements(marshals) || reflect.PointerTo(t).Implements(marshals) || slices.Contains(above, t) {
		return yield(path, t.Kind().String())
	}
	above = append(slices.Clip(above), t)
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := path + "." + name
		switch {
		case !f.IsExported() || name == "-":
			continue
		case name == "" && f.Anonymous:
			inner = path
		case name == "":
			inner += f.Name
		}
		if !walkFields(inner, f.Type, above, yield) {
			return false
		}
	}
	return true
}

// AllFields are those of the inputs and of the records, each table's under its name.
func AllFields() map[string]string {
	all := map[string]string{}
	maps.Insert(all, fields("input", reflect.TypeFor[Input]()))
	for f := range reflect.TypeFor[State]().Fields() {
		if get, ok := reflect.PointerTo(f.Type).MethodByName("Get"); ok && strings.HasPrefix(f.Type.Name(), "Table[") {
			maps.Insert(all, fields(f.Name, get.Type.Out(0)))
		}
	}
	return all
}

// AsOf is asOf.
func AsOf(in Input, version int) (Input, string) { return in.asOf(version) }

// Inputs are one of each kind that has all that it may have.
func Inputs() iter.Seq[Input] {
	return func(yield func(Input) bool) {
		for i := range reflect.TypeFor[Input]().NumField() {
			var in Input
			if f := reflect.ValueOf(&in).Elem().Field(i); f.Kind() == reflect.Pointer {
				fill(f, 0)
				if !yield(in) {
					return
				}
			}
		}
	}
}

// fill gives all of a value something other than zero.
func fill(v reflect.Value, depth int) {
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("10.42.0.0/16")))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if depth < 12 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		if depth < 12 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth+1)
		fill(value, depth+1)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	}
}
