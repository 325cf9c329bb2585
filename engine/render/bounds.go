package render

import (
	"encoding/json"
	"slices"

	"cuelang.org/go/cue"

	"github.com/shoal-dev/shoal/engine/kube"
)

// limitsOf reads the quota of an environment, and looks over it and the labels of its nodes.
func limitsOf(e *Environment, v cue.Value, c *valueProblems) error {
	var err error
	if e.Quota, err = quotaOf(v.LookupPath(cue.ParsePath("quota"))); err != nil {
		return err
	}
	for f, said := range map[string]map[string]string{"nodes": e.Nodes, "quota": e.Quota} {
		path := []string{"environments", e.Name, f}
		e.Policy.note(c, path)
		for name := range said {
			e.Policy.note(c, append(slices.Clip(path), name))
		}
	}
	tell := func(at string, faults []kube.Fault) {
		for _, f := range faults {
			path := FieldPath(at, f.Path)
			c.out = append(c.out, Problem{File: "shoal.cue", Line: e.Policy.Line(path), Path: path, Text: f.Text})
		}
	}
	tell(e.Policy.NodesAt, kube.CheckNodes(e.Nodes))
	tell(e.Policy.QuotaAt, kube.CheckQuota(e.Quota))
	return nil
}

// FieldPath is the path of a field of what stands at a path: environments.dev.quota."requests.cpu". "" is no field.
func FieldPath(at, field string) string {
	if field == "" {
		return at
	}
	return at + "." + pathString([]string{field})
}

// quotaOf reads quantities as their author wrote them; nil if there are none.
func quotaOf(v cue.Value) (map[string]string, error) {
	if !v.Exists() {
		return nil, nil
	}
	b, err := v.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var said map[string]Quantity
	if err := json.Unmarshal(b, &said); err != nil || len(said) == 0 {
		return nil, err
	}
	out := map[string]string{}
	for name, q := range said {
		out[name] = string(q)
	}
	return out, nil
}

// Quantity is the text of a quantity, which JSON may have as a number too. It is not parsed.
type Quantity string

// UnmarshalJSON implements json.Unmarshaler.
func (q *Quantity) UnmarshalJSON(b []byte) error {
	var n json.Number // takes a number, and a string that holds one
	if json.Unmarshal(b, &n) == nil {
		*q = Quantity(n)
		return nil
	}
	var s string
	err := json.Unmarshal(b, &s)
	*q = Quantity(s)
	return err
}
