package promote

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/kube"
)

// Object is one rendered object: canonical JSON, defaulted.
type Object struct {
	Key  desired.Key
	JSON []byte
}

// Side is what one environment renders, for Same.
type Side struct {
	Objects []Object
	// Namespaces is what both sides call a namespace that has another name on each: {"staging": "", "staging-db": "db"}.
	Namespaces map[string]string
}

// Difference is a field of an object that is not the same on two sides.
type Difference struct {
	Object  string `json:"object"`            // "Deployment web", "ConfigMap db/settings": without the namespace that is home on both sides
	Path    string `json:"path"`              // "spec.replicas"; "": the whole object, which one side does not have
	A       string `json:"a,omitempty"`       // JSON, clipped; "": absent. "(redacted)" in Secrets
	B       string `json:"b,omitempty"`       // the same
	Allowed string `json:"allowed,omitempty"` // the entry of the list that allows it; "": none, so it is new
}

// String is "Deployment web: spec.replicas: 1 -> 3".
func (d Difference) String() string {
	word := func(s string) string { return cmp.Or(s, "absent") }
	s := d.Object
	if d.Path != "" {
		s += ": " + d.Path
	}
	s += ": " + word(d.A) + " -> " + word(d.B)
	if d.Allowed != "" {
		s += " (" + d.Allowed + ")"
	}
	return s
}

const (
	// maxShown bounds the bytes of a value that is shown.
	maxShown = 200
	// MaxDifferences bounds what Same returns; the last one then says so.
	MaxDifferences = 10_000
	// maxDepth bounds how deep objects are compared; Kubernetes' own kinds are less than thirty deep.
	maxDepth = 100
	redacted = "(redacted)"
)

// Same lists in which fields a and b differ, sorted by object and path, the allowed ones with the entry of except that
// allows them (fields.go). None that has no Allowed proves that they are the same but for the list. The order
// of lists counts, that of keys does not. Values of Secrets are compared and not shown.
//
// An error says which entry of except cannot be read, which object is no JSON, or which stands there twice.
func Same(a, b Side, except []string) ([]Difference, error) {
	if len(except) > maxExcept {
		return nil, fmt.Errorf("except: %d fields; at most %d", len(except), maxExcept)
	}
	allowed, problems := parseFields(except)
	if len(problems) > 0 {
		return nil, problems
	}
	before, err := a.index()
	if err != nil {
		return nil, err
	}
	after, err := b.index()
	if err != nil {
		return nil, err
	}
	keys := slices.Collect(maps.Keys(before))
	for k := range after {
		if _, both := before[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, desired.Key.Compare)
	c := comparison{}
	for _, k := range keys {
		c.object(k, before[k], after[k], allowed)
		if len(c.out) > MaxDifferences {
			c.out = append(c.out[:MaxDifferences], Difference{Object: "...", Path: "and more"})
			break
		}
	}
	return c.out, nil
}

// index reads the objects of a side, under the names that both sides use.
func (s Side) index() (map[desired.Key]map[string]any, error) {
	out := make(map[desired.Key]map[string]any, len(s.Objects))
	for _, o := range s.Objects {
		var tree map[string]any
		dec := json.NewDecoder(bytes.NewReader(o.JSON))
		dec.UseNumber()
		if err := dec.Decode(&tree); err != nil || tree == nil {
			return nil, fmt.Errorf("%s: it is no JSON object", o.Key)
		}
		key := o.Key
		meta, _ := tree["metadata"].(map[string]any)
		if common, ok := s.Namespaces[key.Namespace]; ok && key.Namespace != "" {
			key.Namespace = common
			if meta != nil {
				meta["namespace"] = common
			}
		}
		if common, ok := s.Namespaces[key.Name]; ok && key.Kind == "Namespace" && key.Group == "" {
			key.Name = common
			if meta != nil {
				meta["name"] = common
			}
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("%s: stands there twice, under the names that both sides share", key)
		}
		out[key] = tree
	}
	return out, nil
}

type comparison struct {
	out     []Difference
	name    string // of the object at hand
	secret  bool
	allowed []fields // that are about it
}

func (c *comparison) object(k desired.Key, a, b map[string]any, allowed []fields) {
	c.name, c.secret = k.String(), k.Kind == "Secret"
	c.allowed = c.allowed[:0]
	for i := range allowed {
		if allowed[i].object(k.Kind, k.Name) {
			c.allowed = append(c.allowed, allowed[i])
		}
	}
	if a == nil || b == nil {
		d := Difference{Object: c.name, Allowed: c.allows(nil)}
		if a != nil {
			d.A = "present"
		} else {
			d.B = "present"
		}
		c.out = append(c.out, d)
		return
	}
	c.compare(nil, "", a, b, true, true)
}

func (c *comparison) allows(steps []string) string {
	for i := range c.allowed {
		if c.allowed[i].allows(steps) {
			return c.allowed[i].text
		}
	}
	return ""
}

// below says whether a field below steps may differ while the one at steps may not.
func (c *comparison) below(steps []string) bool {
	for i := range c.allowed {
		f := &c.allowed[i]
		if len(f.steps) <= len(steps) {
			continue
		}
		if (&fields{steps: f.steps[:len(steps)]}).allows(steps) {
			return true
		}
	}
	return false
}

// compare adds the differences below one field. inA and inB say whether it is there. A subtree that one side lacks is one
// difference, unless something below it may differ: then each field counts for itself.
func (c *comparison) compare(steps []string, at string, a, b any, inA, inB bool) {
	if len(c.out) > MaxDifferences {
		return
	}
	am, aMap := a.(map[string]any)
	bm, bMap := b.(map[string]any)
	al, aList := a.([]any)
	bl, bList := b.([]any)
	deep := len(steps) < maxDepth && c.allows(steps) == ""
	open := inA && inB || c.below(steps)
	switch {
	case deep && aMap && bMap, deep && open && (aMap && !inB && len(am) > 0 || bMap && !inA && len(bm) > 0):
		both := map[string]bool{}
		for k := range am {
			both[k] = true
		}
		for k := range bm {
			both[k] = true
		}
		for _, k := range sortedKeys(both) {
			av, inA := am[k]
			bv, inB := bm[k]
			c.compare(append(slices.Clip(steps), k), joinStep(at, k, false), av, bv, inA, inB)
		}
	case deep && aList && bList, deep && open && (aList && !inB && len(al) > 0 || bList && !inA && len(bl) > 0):
		c.lists(steps, at, al, bl)
	default:
		av, bv := show(a, inA), show(b, inB)
		if av != bv {
			c.tell(steps, at, av, bv)
		}
	}
}

func (c *comparison) lists(steps []string, at string, a, b []any) {
	aNames, aNamed := names(a)
	bNames, bNamed := names(b)
	if !aNamed || !bNamed {
		for i := range max(len(a), len(b)) {
			var av, bv any
			if i < len(a) {
				av = a[i]
			}
			if i < len(b) {
				bv = b[i]
			}
			k := strconv.Itoa(i)
			c.compare(append(slices.Clip(steps), k), joinStep(at, k, true), av, bv, i < len(a), i < len(b))
		}
		return
	}
	for i, n := range aNames {
		j := slices.Index(bNames, n)
		var bv any
		if j >= 0 {
			bv = b[j]
		}
		c.compare(append(slices.Clip(steps), n), joinStep(at, n, true), a[i], bv, true, j >= 0)
	}
	for i, n := range bNames {
		if !slices.Contains(aNames, n) {
			c.compare(append(slices.Clip(steps), n), joinStep(at, n, true), nil, b[i], false, true)
		}
	}
	// Variables may refer to those before them, and init containers run one after the other.
	common := func(list, other []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(n string) bool { return !slices.Contains(other, n) })
	}
	if x, y := common(aNames, bNames), common(bNames, aNames); !slices.Equal(x, y) {
		c.tell(steps, at, "order "+strings.Join(x, " "), "order "+strings.Join(y, " "))
	}
}

func (c *comparison) tell(steps []string, at, a, b string) {
	d := Difference{Object: c.name, Path: clip(at, 500), A: clip(a, maxShown), B: clip(b, maxShown), Allowed: c.allows(steps)}
	if c.secret && !plainOfSecret(steps) {
		d.A, d.B = hide(a), hide(b)
	}
	c.out = append(c.out, d)
}

// plainOfSecret says whether a field of a Secret may be shown: none of those that might hold a value, in whatever form.
func plainOfSecret(steps []string) bool {
	return len(steps) == 1 && (steps[0] == "type" || steps[0] == "immutable") || len(steps) > 1 && steps[0] == "metadata" && steps[1] == "labels"
}

func hide(s string) string {
	if s == "" {
		return ""
	}
	return redacted
}

// names are the names of a list's elements, if each has one of its own.
func names(list []any) ([]string, bool) {
	out := make([]string, 0, len(list))
	seen := make(map[string]bool, len(list))
	for _, e := range list {
		m, _ := e.(map[string]any)
		n, _ := m["name"].(string)
		if n == "" || seen[n] {
			return nil, false
		}
		seen[n] = true
		out = append(out, n)
	}
	return out, true
}

// show prints a value as JSON, or "" where there is none.
func show(v any, there bool) string {
	if !there {
		return ""
	}
	b, err := kube.CanonicalJSON(v)
	if err != nil {
		return "?"
	}
	return string(b)
}
