package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// grant is one alternative of what a principal may do. Nil lists mean everything, empty ones nothing.
type grant struct {
	environments []string
	paths        []string
	approve      []string // groups
}

// rights is trust.yaml.
type rights struct {
	require    bool
	groups     map[string][]string // group -> patterns of environments
	principals map[string][]grant  // nil: everybody may do everything
}

// allows says why principal may not put what touches paths into environment, or nil. With side set the commit
// came in by a merge, so that environments do not matter.
func (r *rights) allows(principal, environment string, side bool, paths []string) error {
	if r.principals == nil {
		return nil
	}
	grants, listed := r.principals[principal]
	if !listed {
		return fmt.Errorf("keys/trust.yaml does not list %s", principal)
	}
	var here []grant
	for _, g := range grants {
		if side && (g.environments == nil || len(g.environments) > 0) || g.covers(environment) {
			here = append(here, g)
		}
	}
	if len(here) == 0 {
		if side {
			return fmt.Errorf("keys/trust.yaml lets %s sign in no environment", principal)
		}
		return fmt.Errorf("keys/trust.yaml does not let %s sign in %s", principal, environment)
	}
	for _, p := range paths {
		if !slices.ContainsFunc(here, func(g grant) bool { return g.holds(p) }) {
			return fmt.Errorf("%q is outside the paths that keys/trust.yaml gives %s", cut(p), principal)
		}
	}
	return nil
}

func (g grant) covers(environment string) bool {
	return g.environments == nil || anyName(g.environments, environment)
}

func (g grant) holds(path string) bool {
	return g.paths == nil || slices.ContainsFunc(g.paths, func(p string) bool { return matchPath(p, path) })
}

func anyName(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matchName(p, name) })
}

// approves returns the groups in whose name principal approves for environment, sorted. The second result is
// false if the approval does not count; without principals in trust.yaml it counts and there are no groups.
func (r *rights) approves(principal, environment string) ([]string, bool) {
	if r.principals == nil {
		return nil, true
	}
	var groups []string
	for _, g := range r.principals[principal] {
		for _, name := range g.approve {
			if anyName(r.groups[name], environment) {
				groups = append(groups, name)
			}
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), len(groups) > 0
}

// parseRights reads trust.yaml. It knows every key it takes; aliases, tags and second documents are errors.
func parseRights(file string, data []byte) (rights, Problems) {
	var r rights
	var ps Problems
	root, err := yamlRoot(data)
	if err != nil {
		line, text := yamlPlace(err)
		ps.add(file, line, "%s", text)
		return r, ps
	}
	if root == nil {
		return r, nil
	}
	p := yamlReader{file: file, problems: &ps}
	for key, value := range p.entries(root, "require", "groups", "principals") {
		switch key.Value {
		case "require":
			switch {
			case value.Kind != yaml.ScalarNode || value.ShortTag() != "!!bool":
				p.at(value, "require: expected true or false")
			default:
				if err := value.Decode(&r.require); err != nil {
					p.at(value, "require: expected true or false")
				}
			}
		case "groups":
			r.groups = map[string][]string{}
			for name, body := range p.entries(value) {
				if len(r.groups) == MaxPrincipals {
					p.at(name, "more than %d groups", MaxPrincipals)
					break
				}
				p.name(name)
				r.groups[name.Value] = []string{}
				for _, list := range p.entries(body, "environments") {
					r.groups[name.Value] = p.patterns(list, false)
				}
			}
		case "principals":
			r.principals = map[string][]grant{}
			for name, body := range p.entries(value) {
				if len(r.principals) == MaxPrincipals {
					p.at(name, "more than %d principals", MaxPrincipals)
					break
				}
				p.name(name)
				r.principals[name.Value] = p.grants(body)
			}
		}
	}
	for _, grants := range r.principals {
		for _, g := range grants {
			for _, name := range g.approve {
				if _, ok := r.groups[name]; !ok && !slices.ContainsFunc(ps, func(o Problem) bool { return strings.Contains(o.Text, "group "+name+" ") }) {
					ps.add(file, 0, "group %s is not declared under groups", name)
				}
			}
		}
	}
	slices.SortFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Text, b.Text)
	})
	return r, ps
}

// yamlReader takes nodes apart and says what is wrong with their lines.
type yamlReader struct {
	file     string
	problems *Problems
}

func (p yamlReader) at(n *yaml.Node, format string, a ...any) {
	p.problems.add(p.file, n.Line, format, a...)
}

// entries walks over a mapping whose keys are all of known, if any are given, and each stand once.
func (p yamlReader) entries(n *yaml.Node, known ...string) func(func(k, v *yaml.Node) bool) {
	return func(yield func(k, v *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			p.at(n, "expected a mapping%s", oneOf(known))
			return
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			switch {
			case k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str":
				p.at(k, "expected a name as key")
			case seen[k.Value]:
				p.at(k, "%q stands twice", cut(k.Value))
			case len(known) > 0 && !slices.Contains(known, k.Value):
				p.at(k, "unknown key %q%s", cut(k.Value), oneOf(known))
			default:
				seen[k.Value] = true
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

func oneOf(known []string) string {
	if len(known) == 0 {
		return ""
	}
	return "; expected " + strings.Join(known, ", ")
}

func (p yamlReader) name(n *yaml.Node) {
	if err := CheckPrincipal(n.Value); err != nil {
		p.at(n, "%v", err)
	}
}

func (p yamlReader) grants(n *yaml.Node) []grant {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	if len(nodes) > MaxPatterns {
		p.at(n, "more than %d alternatives", MaxPatterns)
		return nil
	}
	grants := []grant{}
	for _, n := range nodes {
		var g grant
		for key, list := range p.entries(n, "environments", "paths", "approve") {
			switch key.Value {
			case "environments":
				g.environments = p.patterns(list, false)
			case "paths":
				g.paths = p.patterns(list, true)
			case "approve":
				g.approve = p.strings(list)
			}
		}
		grants = append(grants, g)
	}
	return grants
}

func (p yamlReader) patterns(n *yaml.Node, paths bool) []string {
	list := p.strings(n)
	for _, s := range list {
		if err := checkPattern(s, paths); err != nil {
			p.at(n, "%q %v", cut(s), err)
		}
	}
	return list
}

// strings is a list of strings; it is never nil, so that what is wrong grants nothing.
func (p yamlReader) strings(n *yaml.Node) []string {
	list := []string{}
	if n.Kind != yaml.SequenceNode {
		p.at(n, "expected a list")
		return list
	}
	if len(n.Content) > MaxPatterns {
		p.at(n, "more than %d entries in a list", MaxPatterns)
		return list
	}
	for _, e := range n.Content {
		if e.Kind != yaml.ScalarNode || e.ShortTag() != "!!str" {
			p.at(e, "expected a string")
			continue
		}
		list = append(list, e.Value)
	}
	return list
}

// yamlRoot is the root of the one document in data, or nil if there is none. Aliases, anchors and tags of its own are errors,
// so the walk over it is as long as the text.
func yamlRoot(data []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("no document")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	return root, plainYAML(root, 0)
}

func plainYAML(n *yaml.Node, depth int) error {
	switch {
	case depth > 16:
		return fmt.Errorf("line %d: nested more than 16 levels deep", n.Line)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fmt.Errorf("line %d: anchors and aliases are not understood here", n.Line)
	case n.Style&yaml.TaggedStyle != 0:
		return fmt.Errorf("line %d: tags are not understood here", n.Line)
	}
	for _, c := range n.Content {
		if err := plainYAML(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// yamlPlace is the line that an error of yamlRoot names, or 0, and the rest of its text.
func yamlPlace(err error) (line int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		digits, more, ok := strings.Cut(rest, ": ")
		n := 0
		for _, c := range digits {
			if c < '0' || c > '9' || n > 1e6 {
				return 0, text
			}
			n = n*10 + int(c-'0')
		}
		if ok {
			return n, more
		}
	}
	return 0, text
}
