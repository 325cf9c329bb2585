package promote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// Declared is what shoal.cue says of an environment, as far as promotion goes. An error says which of its fields is not what this
// engine knows; Repository finds the rest that may be wrong.
func Declared(e render.Environment) (Environment, error) {
	out := Environment{Ref: source.FullRefName(e.Ref), Class: e.Class}
	if len(e.Policy.JSON) > 0 {
		d := json.NewDecoder(bytes.NewReader(e.Policy.JSON))
		d.DisallowUnknownFields()
		if err := d.Decode(&out); err != nil {
			return Environment{}, fmt.Errorf("environments.%s: %w", e.Name, err)
		}
	}
	out.Name = e.Name
	return out, nil
}

// Repository reads and checks what shoal.cue says of all its environments. They are sorted as Order does; problems are at their
// lines in shoal.cue.
func Repository(environments []render.Environment) ([]Environment, render.Problems) {
	var problems render.Problems
	all := make([]Environment, 0, len(environments))
	lines := map[string]int{}
	for _, e := range environments {
		maps.Copy(lines, e.Policy.Lines)
		d, err := Declared(e)
		if err != nil {
			problems = append(problems, render.Problem{File: "shoal.cue", Line: e.Policy.Line("environments." + e.Name), Text: err.Error()})
			continue
		}
		all = append(all, d)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	order, wrong := Order(all)
	where := render.Policy{Lines: lines}
	for _, p := range wrong {
		problems = append(problems, render.Problem{File: "shoal.cue", Line: where.Line(p.Path), Path: p.Path, Text: p.Text})
	}
	return order, problems.Sorted()
}
