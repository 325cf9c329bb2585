package render

import (
	"encoding/json"
	"fmt"
	"slices"

	"cuelang.org/go/cue"
)

// policyFields are what shoal.cue says of an environment for package promote.
var policyFields = []string{"after", "gates", "hotfix", "promote", "rollbackAfter", "same"}

// policyOf reads them, with their places.
func policyOf(name string, v cue.Value, c *valueProblems) (Policy, error) {
	at := pathString([]string{"environments", name})
	p := Policy{Lines: map[string]int{}, NodesAt: at + ".nodes", QuotaAt: at + ".quota"}
	fields := map[string]json.RawMessage{}
	p.note(c, []string{"environments", name})
	for _, f := range policyFields {
		at := v.LookupPath(cue.MakePath(cue.Str(f)))
		if !at.Exists() {
			continue
		}
		b, err := at.MarshalJSON()
		if err != nil {
			return p, err
		}
		fields[f] = b
		var decoded any
		if err := json.Unmarshal(b, &decoded); err != nil {
			return p, fmt.Errorf("environments.%s.%s: %w", name, f, err)
		}
		p.walk(c, []string{"environments", name, f}, decoded)
	}
	if len(fields) == 0 {
		return p, nil
	}
	b, err := json.Marshal(fields)
	p.JSON = b
	return p, err
}

// previewsOf reads what shoal.cue says of previews into each environment.
func previewsOf(v cue.Value, c *valueProblems, environments []Environment) error {
	at := v.LookupPath(cue.ParsePath("previews"))
	if !at.Exists() {
		return nil
	}
	b, err := at.MarshalJSON()
	if err != nil {
		return err
	}
	for i := range environments {
		p := &environments[i].Policy
		p.Previews = b
		if p.Lines == nil {
			p.Lines = map[string]int{}
		}
		var fields map[string]any
		if err := json.Unmarshal(b, &fields); err != nil {
			return err
		}
		p.walk(c, []string{"previews"}, fields)
	}
	return nil
}

// walk notes where the fields of a value stand. What a list holds stands where the list does.
func (p *Policy) walk(c *valueProblems, path []string, v any) {
	p.note(c, path)
	if m, ok := v.(map[string]any); ok {
		for _, k := range sortedKeys(m) {
			p.walk(c, append(slices.Clip(path), k), m[k])
		}
	}
}

func (p *Policy) note(c *valueProblems, path []string) {
	if pos, depth := where(c.files, path); depth == len(path) && pos.IsValid() {
		p.Lines[pathString(path)] = pos.Line()
	}
}
