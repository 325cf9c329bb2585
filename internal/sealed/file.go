package sealed

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	format      = "shoal.dev/secret/v1"
	defaultType = "Opaque"
)

// File is one Kubernetes Secret with its values sealed.
type File struct {
	Environment string
	Name        string
	Recipient   string  // whom it is sealed for: the environment's
	Type        string  // of the Kubernetes Secret; Opaque unless said otherwise
	Values      []Value // by Key
}

// Path is where the file lies in the repository.
func (f *File) Path() string { return path(f.Environment, f.Name+".yaml") }

// Place is that of one of its keys.
func (f *File) Place(key string) Place {
	return Place{Environment: f.Environment, Name: f.Name, Key: key}
}

// Parse reads a file strictly. With problems the file is nil.
func Parse(environment, name string, data []byte) (*File, Problems) {
	f := &File{Environment: environment, Name: name, Type: defaultType}
	var ps Problems
	for _, err := range []error{checkEnvironment(environment), checkName(name)} {
		if err != nil {
			ps.add(f.Path(), 0, "%v", err)
		}
	}
	if len(data) > MaxFile {
		ps.add(f.Path(), 0, "%d bytes long; at most %d", len(data), MaxFile)
	}
	if len(ps) > 0 {
		return nil, ps
	}
	root, line, err := yamlRoot(data)
	if err != nil {
		ps.add(f.Path(), line, "%v", err)
		return nil, ps
	}
	f.read(root, &ps)
	if len(ps) > 0 {
		return nil, ps.sorted()
	}
	return f, nil
}

func (f *File) read(root *yaml.Node, ps *Problems) {
	bad := func(n *yaml.Node, format string, a ...any) { ps.add(f.Path(), n.Line, format, a...) }
	scalar := func(n *yaml.Node) string {
		if n.Kind != yaml.ScalarNode {
			bad(n, "expected a single value")
			return ""
		}
		return n.Value
	}
	fields := mapping(root, bad, "format", "recipient", "type", "values")
	if n := fields["format"]; n == nil || n.Value != format {
		bad(root, "expected format: %s", format)
	}
	if n := fields["recipient"]; n == nil {
		bad(root, "expected a recipient")
	} else if r, err := ParseRecipient([]byte(scalar(n))); err != nil {
		bad(n, "recipient: %v", err)
	} else {
		f.Recipient = r
	}
	if n := fields["type"]; n != nil {
		if f.Type = scalar(n); checkType(f.Type) != nil {
			bad(n, "%v", checkType(f.Type))
		}
	}
	n := fields["values"]
	if n == nil || n.Kind != yaml.MappingNode {
		bad(root, "expected values: a mapping")
		return
	}
	if len(n.Content)/2 > MaxValues {
		bad(n, "more than %d values", MaxValues)
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, body := n.Content[i], n.Content[i+1]
		v := Value{Key: key.Value}
		if err := checkKey(v.Key); key.Kind != yaml.ScalarNode || err != nil {
			bad(key, "%v", checkKey(""))
			continue
		}
		parts := mapping(body, bad, "mac", "age")
		if m := parts["mac"]; m != nil {
			if v.MAC = scalar(m); len(v.MAC) != 32 || strings.Trim(v.MAC, "0123456789abcdef") != "" {
				bad(m, "%s: mac: expected 32 hex digits", v.Key)
			}
		}
		a := parts["age"]
		if a == nil {
			bad(body, "%s: expected age: and the sealed value", v.Key)
			continue
		}
		var err error
		if v.Age, err = base64.StdEncoding.Strict().DecodeString(scalar(a)); err != nil || strings.ContainsAny(a.Value, "\r\n") {
			bad(a, "%s: age: is not base64 in one line", v.Key)
			continue
		}
		if err := checkSealed(v.Age); err != nil {
			bad(a, "%s: age: %v", v.Key, err)
			continue
		}
		f.Values = append(f.Values, v)
	}
	f.sort()
	for i := 1; i < len(f.Values); i++ {
		if f.Values[i].Key == f.Values[i-1].Key {
			bad(n, "key %s stands twice", f.Values[i].Key)
		}
	}
}

func (f *File) sort() {
	slices.SortStableFunc(f.Values, func(a, b Value) int { return strings.Compare(a.Key, b.Key) })
}

func checkType(s string) error {
	if s == "" || len(s) > 253 || strings.Trim(s, lower+upper+"./_") != "" {
		return errors.New("type: expected a type of Kubernetes Secrets, such as Opaque")
	}
	return nil
}

// Encode is the file's bytes: the same for the same File.
func (f *File) Encode() []byte {
	f.sort()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Sealed for %s. Change it with shoal secret.\n", f.Environment)
	fmt.Fprintf(&b, "format: %s\nrecipient: %s\n", format, f.Recipient)
	if f.Type != "" && f.Type != defaultType {
		fmt.Fprintf(&b, "type: %s\n", f.Type)
	}
	if len(f.Values) == 0 {
		b.WriteString("values: {}\n")
		return b.Bytes()
	}
	b.WriteString("values:\n")
	for _, v := range f.Values {
		fmt.Fprintf(&b, "  %q:\n", v.Key)
		if v.MAC != "" {
			fmt.Fprintf(&b, "    mac: %q\n", v.MAC)
		}
		fmt.Fprintf(&b, "    age: %s\n", base64.StdEncoding.EncodeToString(v.Age))
	}
	return b.Bytes()
}

// Get returns the value of key.
func (f *File) Get(key string) (Value, bool) {
	i := slices.IndexFunc(f.Values, func(v Value) bool { return v.Key == key })
	if i < 0 {
		return Value{}, false
	}
	return f.Values[i], true
}

// Put replaces the value of its key, or adds it.
func (f *File) Put(v Value) error {
	if i := slices.IndexFunc(f.Values, func(o Value) bool { return o.Key == v.Key }); i >= 0 {
		f.Values[i] = v
		return nil
	}
	if len(f.Values) >= MaxValues {
		return fmt.Errorf("%s: more than %d values", f.Path(), MaxValues)
	}
	f.Values = append(f.Values, v)
	f.sort()
	return nil
}

// Delete takes the value of key out. It says whether there was one.
func (f *File) Delete(key string) bool {
	n := len(f.Values)
	f.Values = slices.DeleteFunc(f.Values, func(v Value) bool { return v.Key == key })
	return len(f.Values) < n
}

// Set seals plain as the value of key. A value that is the same already is left as it is, so that the file does not change.
func (id *Identity) Set(f *File, key string, plain Plain) (changed bool, err error) {
	if f.Recipient != id.Recipient() {
		return false, fmt.Errorf("%s: is sealed for another recipient", f.Path())
	}
	at := f.Place(key)
	if v, ok := f.Get(key); ok && v.MAC != "" && v.MAC == id.macOf(at, plain) {
		if old, err := id.Open(at, v); err == nil {
			old.Wipe()
			return false, nil
		}
	}
	v, err := id.Seal(at, plain)
	if err != nil {
		return false, err
	}
	return true, f.Put(v)
}

// OpenFile opens all values, by key.
func (id *Identity) OpenFile(f *File) ([]Entry, error) {
	if f.Recipient != id.Recipient() {
		return nil, fmt.Errorf("%s: is sealed for another recipient", f.Path())
	}
	var out []Entry
	total := 0
	for _, v := range f.Values {
		plain, err := id.Open(f.Place(v.Key), v)
		if err != nil {
			return nil, err
		}
		if total += len(plain.b); total > MaxTotal {
			return nil, fmt.Errorf("%s: its values have more than %d bytes together", f.Path(), MaxTotal)
		}
		out = append(out, Entry{v.Key, plain})
	}
	return out, nil
}

// Rotate seals all files anew, from one identity of their environment to the next. It changes none of them if one does not open.
func Rotate(from, to *Identity, files []*File) ([]*File, error) {
	if from.environment != to.environment {
		return nil, fmt.Errorf("rotate: from an identity of %s to one of %s", from.environment, to.environment)
	}
	var out []*File
	for _, f := range files {
		entries, err := from.OpenFile(f)
		if err != nil {
			return nil, fmt.Errorf("rotate: %w", err)
		}
		next := &File{Environment: f.Environment, Name: f.Name, Recipient: to.Recipient(), Type: f.Type}
		for _, e := range entries {
			v, err := to.Seal(next.Place(e.Key), e.Plain)
			e.Plain.Wipe()
			if err != nil {
				return nil, fmt.Errorf("rotate: %w", err)
			}
			next.Values = append(next.Values, v)
		}
		out = append(out, next)
	}
	return out, nil
}
