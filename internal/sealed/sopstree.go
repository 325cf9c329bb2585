package sealed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// leafType is what a value is, as SOPS names it.
type leafType string

const (
	typeString leafType = "str"
	typeInt    leafType = "int"
	typeFloat  leafType = "float"
	typeBool   leafType = "bool"
	typeBytes  leafType = "bytes"
	typeNull   leafType = "null"
)

// tree is a document whose order is kept, since SOPS' MAC goes over it in its order.
type tree struct {
	line   int
	keys   []string // of a mapping
	kids   []*tree  // of a mapping or a list
	isMap  bool
	isList bool
	text   string // of a leaf
	leaf   leafType
}

func (t *tree) get(key string) *tree {
	if t == nil {
		return nil
	}
	for i, k := range t.keys {
		if k == key {
			return t.kids[i]
		}
	}
	return nil
}

// str is the text of a string at key, or "".
func (t *tree) str(key string) string {
	if v := t.get(key); v != nil && v.leaf == typeString {
		return v.text
	}
	return ""
}

var errTooMany = fmt.Errorf("holds more than %d values", maxLeaves)

func yamlTree(data []byte) (*tree, int, error) {
	root, line, err := yamlRoot(data)
	if err != nil {
		return nil, line, err
	}
	left := 4 * maxLeaves
	return fromYAML(root, &left)
}

func fromYAML(n *yaml.Node, left *int) (*tree, int, error) {
	if *left--; *left < 0 {
		return nil, n.Line, errTooMany
	}
	t := &tree{line: n.Line}
	switch n.Kind {
	case yaml.MappingNode:
		t.isMap = true
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
				return nil, k.Line, errors.New("a key that is no string")
			}
			if t.get(k.Value) != nil {
				return nil, k.Line, errors.New("a key that stands twice")
			}
			kid, line, err := fromYAML(n.Content[i+1], left)
			if err != nil {
				return nil, line, err
			}
			t.keys, t.kids = append(t.keys, k.Value), append(t.kids, kid)
		}
	case yaml.SequenceNode:
		t.isList = true
		for _, c := range n.Content {
			kid, line, err := fromYAML(c, left)
			if err != nil {
				return nil, line, err
			}
			t.kids = append(t.kids, kid)
		}
	case yaml.ScalarNode:
		if err := t.scalar(n); err != nil {
			return nil, n.Line, err
		}
	default:
		return nil, n.Line, errors.New("is no value")
	}
	return t, 0, nil
}

func (t *tree) scalar(n *yaml.Node) error {
	switch n.ShortTag() {
	case "!!str":
		t.leaf, t.text = typeString, n.Value
	case "!!null":
		t.leaf = typeNull
	case "!!bool":
		var b bool
		if n.Decode(&b) != nil {
			return errors.New("is no bool")
		}
		t.leaf, t.text = typeBool, strconv.FormatBool(b)
	case "!!int":
		var i int64
		if n.Decode(&i) != nil {
			return errors.New("is too large a number")
		}
		t.leaf, t.text = typeInt, strconv.FormatInt(i, 10)
	case "!!float":
		var f float64
		if n.Decode(&f) != nil {
			return errors.New("is no number")
		}
		t.leaf, t.text = typeFloat, strconv.FormatFloat(f, 'f', -1, 64)
	default:
		return errors.New("is of a type that is not understood; quote it")
	}
	return nil
}

func jsonTree(data []byte) (*tree, int, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	left := 4 * maxLeaves
	line := func() int { return 1 + bytes.Count(data[:min(int(d.InputOffset()), len(data))], []byte("\n")) }
	t, err := fromJSON(d, &left, 0)
	if err != nil {
		return nil, line(), err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, line(), errors.New("goes on after its end")
	}
	return t, 0, nil
}

// fromJSON leaves out the lines of what it reads: finding each would take long.
func fromJSON(d *json.Decoder, left *int, depth int) (*tree, error) {
	if *left--; *left < 0 {
		return nil, errTooMany
	}
	if depth > maxDepth {
		return nil, errors.New("is nested too deeply")
	}
	token, err := d.Token()
	if err != nil {
		return nil, errors.New("is no JSON")
	}
	t := &tree{}
	switch v := token.(type) {
	case json.Delim:
		t.isMap, t.isList = v == '{', v == '['
		if !t.isMap && !t.isList {
			return nil, errors.New("is no JSON")
		}
		for d.More() {
			if t.isMap {
				k, err := d.Token()
				key, ok := k.(string)
				if err != nil || !ok {
					return nil, errors.New("is no JSON")
				}
				if t.get(key) != nil {
					return nil, errors.New("a key that stands twice")
				}
				t.keys = append(t.keys, key)
			}
			kid, err := fromJSON(d, left, depth+1)
			if err != nil {
				return nil, err
			}
			t.kids = append(t.kids, kid)
		}
		if _, err := d.Token(); err != nil {
			return nil, errors.New("is no JSON")
		}
	case string:
		t.leaf, t.text = typeString, v
	case bool:
		t.leaf, t.text = typeBool, strconv.FormatBool(v)
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return nil, errors.New("is too large a number")
		}
		t.leaf, t.text = typeFloat, strconv.FormatFloat(f, 'f', -1, 64)
		if i, err := v.Int64(); err == nil {
			t.leaf, t.text = typeInt, strconv.FormatInt(i, 10)
		}
	case nil:
		t.leaf = typeNull
	}
	return t, nil
}
