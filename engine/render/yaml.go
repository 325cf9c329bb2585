package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one document of a YAML file: canonical JSON, and the line of every field by its path.
type document struct {
	json  []byte
	line  int
	lines map[string]int // by pathString
}

// yamlDocuments reads all documents of a YAML file. A file with a fault in it gives problems only.
func yamlDocuments(file string, src []byte) ([]document, Problems) {
	if len(src) > MaxFile {
		return nil, Problems{{File: file, Text: fmt.Sprintf("has %d bytes; at most %d are read", len(src), MaxFile)}}
	}
	var docs []document
	var problems Problems
	dec := yaml.NewDecoder(bytes.NewReader(src))
	for {
		var node yaml.Node
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, append(problems, yamlProblem(file, err))
		}
		if len(docs) >= MaxObjects {
			return nil, append(problems, Problem{File: file, Line: node.Line, Text: fmt.Sprintf("has more than %d documents", MaxObjects)})
		}
		if node.Kind != yaml.DocumentNode || len(node.Content) != 1 {
			continue
		}
		root := node.Content[0]
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			continue // nothing between two ---
		}
		c := yamlConverter{file: file, lines: map[string]int{}, enc: encoder{max: MaxObjectBytes}}
		if root.Kind != yaml.MappingNode {
			c.fail(root, nil, "is no object: expected apiVersion, kind and metadata")
		} else {
			c.value(root, nil, 0)
		}
		problems = append(problems, c.problems...)
		docs = append(docs, document{json: c.enc.buf.Bytes(), line: root.Line, lines: c.lines})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return docs, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func yamlProblem(file string, err error) Problem {
	p := Problem{File: file, Text: err.Error()}
	if m := yamlLine.FindStringSubmatch(p.Text); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Text = strings.TrimPrefix(p.Text, m[0])
	}
	p.Text = "cannot be read as YAML: " + p.Text
	return p
}

// yamlConverter turns a node into canonical JSON. Anchors are written out as often as they are used, within limits.
type yamlConverter struct {
	file     string
	enc      encoder
	lines    map[string]int
	problems Problems
	aliased  int // nodes written because of an alias
	inAlias  int
	stopped  bool // past a limit: nothing more is worth saying
}

func (c *yamlConverter) fail(n *yaml.Node, path []string, format string, args ...any) {
	if c.stopped || len(c.problems) >= MaxProblems {
		return
	}
	c.problems = append(c.problems, Problem{File: c.file, Line: n.Line, Path: pathString(path), Text: fmt.Sprintf(format, args...)})
}

func (c *yamlConverter) stop(n *yaml.Node, path []string, format string, args ...any) {
	c.fail(n, path, format, args...)
	c.stopped = true
}

func (c *yamlConverter) value(n *yaml.Node, path []string, depth int) {
	if c.stopped {
		return
	}
	if c.inAlias > 0 {
		if c.aliased++; c.aliased > MaxAliases {
			c.stop(n, path, "aliases stand for more than %d values", MaxAliases)
			return
		}
	}
	if depth > MaxDepth {
		c.stop(n, nil, "is nested deeper than %d levels", MaxDepth)
		return
	}
	if c.enc.buf.Len() > c.enc.max {
		c.stop(n, nil, "has more than %d bytes of JSON", c.enc.max)
		return
	}
	if c.inAlias == 0 {
		c.lines[pathString(path)] = n.Line
	}
	switch n.Kind {
	case yaml.AliasNode:
		c.inAlias++
		c.value(n.Alias, path, depth+1)
		c.inAlias--
	case yaml.MappingNode:
		c.mapping(n, path, depth)
	case yaml.SequenceNode:
		c.enc.buf.WriteByte('[')
		for i, e := range n.Content {
			if i > 0 {
				c.enc.buf.WriteByte(',')
			}
			c.value(e, append(slices.Clone(path), strconv.Itoa(i)), depth+1)
		}
		c.enc.buf.WriteByte(']')
	case yaml.ScalarNode:
		c.scalar(n, path)
	default:
		c.fail(n, path, "cannot be read")
	}
}

type yamlEntry struct {
	key   *yaml.Node
	value *yaml.Node
}

func (c *yamlConverter) mapping(n *yaml.Node, path []string, depth int) {
	entries := map[string]yamlEntry{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge":
			merges = append(merges, value)
			continue
		case key.Kind != yaml.ScalarNode:
			c.fail(key, path, "a key must be a text")
			continue
		}
		if before, twice := entries[key.Value]; twice {
			c.fail(key, append(slices.Clone(path), key.Value), "is written twice, first in line %d", before.key.Line)
			continue
		}
		entries[key.Value] = yamlEntry{key, value}
	}
	for _, m := range merges {
		c.merge(entries, m, path, 0)
	}
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names)
	c.enc.buf.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			c.enc.buf.WriteByte(',')
		}
		e := entries[name]
		at := append(slices.Clone(path), name)
		writeString(&c.enc.buf, name)
		c.enc.buf.WriteByte(':')
		c.value(e.value, at, depth+1)
		if c.inAlias == 0 {
			c.lines[pathString(at)] = e.key.Line
		}
	}
	c.enc.buf.WriteByte('}')
}

// merge adds the entries of `<<: *anchor` that the mapping does not have itself.
func (c *yamlConverter) merge(entries map[string]yamlEntry, m *yaml.Node, path []string, depth int) {
	if c.aliased++; depth > MaxDepth || c.aliased > MaxAliases {
		c.stop(m, path, "aliases stand for more than %d values", MaxAliases)
		return
	}
	if m.Kind == yaml.AliasNode {
		m = m.Alias
	}
	switch m.Kind {
	case yaml.SequenceNode:
		for _, e := range m.Content {
			c.merge(entries, e, path, depth+1)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(m.Content); i += 2 {
			key, value := m.Content[i], m.Content[i+1]
			if key.Kind == yaml.ScalarNode && key.Tag == "!!merge" {
				c.merge(entries, value, path, depth+1)
				continue
			}
			if c.aliased++; c.aliased > MaxAliases {
				c.stop(m, path, "aliases stand for more than %d values", MaxAliases)
				return
			}
			if _, ok := entries[key.Value]; !ok && key.Kind == yaml.ScalarNode {
				entries[key.Value] = yamlEntry{key, value}
			}
		}
	default:
		c.fail(m, path, "<< must name an object")
	}
}

// yaml11 are words that Kubernetes' YAML 1.1 reads as booleans and YAML 1.2 as texts.
var yaml11 = []string{"y", "yes", "n", "no", "on", "off"}

func (c *yamlConverter) scalar(n *yaml.Node, path []string) {
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	switch n.Tag {
	case "!!str", "!!timestamp":
		if plain && slices.Contains(yaml11, strings.ToLower(n.Value)) {
			c.fail(n, path, "%s is a boolean to some readers of YAML and a text to others; write true, false or %q", n.Value, n.Value)
			return
		}
		if err := c.enc.text(n.Value); err != nil {
			c.stop(n, path, "%v", err)
		}
	case "!!null":
		c.enc.buf.WriteString("null")
	case "!!bool":
		c.enc.buf.WriteString(strings.ToLower(n.Value))
	case "!!int":
		if len(n.Value) > 64 {
			c.fail(n, path, "is a number of more than 64 digits")
			return
		}
		var i int64
		if err := n.Decode(&i); err != nil {
			c.fail(n, path, "%s is a number out of range", n.Value)
			return
		}
		c.enc.buf.WriteString(strconv.FormatInt(i, 10))
	case "!!float":
		s, err := canonicalNumber(strings.ReplaceAll(n.Value, "_", ""))
		if err != nil || strings.ContainsAny(s, "IiNn") {
			c.fail(n, path, "%s is a number that JSON does not have", n.Value)
			return
		}
		c.enc.buf.WriteString(s)
	default:
		c.fail(n, path, "has the tag %s; only plain values are read", n.Tag)
	}
}
