package sealed

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlRoot is the root of the one document in data. Anchors, aliases and tags are errors, so the walk over it is as long as the text. The
// parser's own words are left out: somebody may have put a plaintext there.
func yamlRoot(data []byte) (root *yaml.Node, line int, err error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, 0, errors.New("is empty")
		}
		return nil, yamlLine(err), errors.New("is no YAML")
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, 0, errors.New("holds more than one document")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, 0, errors.New("is no YAML")
	}
	line, err = plainYAML(doc.Content[0], 0)
	return doc.Content[0], line, err
}

func plainYAML(n *yaml.Node, depth int) (int, error) {
	switch {
	case depth > maxDepth:
		return n.Line, errors.New("is nested too deeply")
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return n.Line, errors.New("anchors and aliases are not understood here")
	case n.Style&yaml.TaggedStyle != 0:
		return n.Line, errors.New("tags are not understood here")
	}
	for _, c := range n.Content {
		if line, err := plainYAML(c, depth+1); err != nil {
			return line, err
		}
	}
	return 0, nil
}

func yamlLine(err error) int {
	_, rest, _ := strings.Cut(err.Error(), "line ")
	digits, _, _ := strings.Cut(rest, ":")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// mapping is a mapping by its keys, which are all of known and each stand once.
func mapping(n *yaml.Node, bad func(*yaml.Node, string, ...any), known ...string) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	if n.Kind != yaml.MappingNode {
		bad(n, "expected a mapping of %s", strings.Join(known, ", "))
		return out
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch {
		case k.Kind != yaml.ScalarNode || !slices.Contains(known, k.Value):
			bad(k, "an unknown key; expected %s", strings.Join(known, ", "))
		case out[k.Value] != nil:
			bad(k, "%s stands twice", k.Value)
		default:
			out[k.Value] = n.Content[i+1]
		}
	}
	return out
}
