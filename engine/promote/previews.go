package promote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/render"
)

// Previews is what shoal.cue says of previews, where the default branch is base; false: nothing. Problems are at its lines.
func Previews(environments []render.Environment, base string) (p preview.Policy, ok bool, problems render.Problems) {
	if len(environments) == 0 || environments[0].Policy.Previews == nil {
		return p, false, nil
	}
	said := environments[0].Policy
	var d struct {
		From, Base, Pin  string
		Quota, PerAuthor int
		TTL, Idle        Duration
		Drafts           bool
		Forks            preview.Forks
		Nodes            map[string]string
		Each             map[string]render.Quantity
	}
	dec := json.NewDecoder(bytes.NewReader(said.Previews))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return p, false, render.Problems{{File: "shoal.cue", Line: said.Line("previews"), Text: fmt.Sprintf("previews: %v", err)}}
	}
	p = preview.Policy{
		From: d.From, Base: d.Base, TTL: time.Duration(d.TTL), Quota: d.Quota, PerAuthor: d.PerAuthor, Idle: time.Duration(d.Idle),
		Drafts: d.Drafts, Pin: d.Pin, Forks: d.Forks,
	}
	if len(d.Nodes) > 0 {
		p.Nodes = d.Nodes
	}
	for name, quantity := range d.Each {
		if p.Each == nil {
			p.Each = map[string]string{}
		}
		p.Each[name] = string(quantity)
	}
	if p.Base == "" {
		p.Base = strings.TrimPrefix(base, "refs/heads/")
	}
	for _, text := range p.Check() {
		path, rest, _ := strings.Cut(text, ": ")
		problems = append(problems, render.Problem{File: "shoal.cue", Line: said.Line(path), Path: path, Text: rest})
	}
	for _, e := range environments {
		if e.Name == preview.Class { // secrets/preview/ would be its and theirs
			path := "environments." + e.Name
			problems = append(problems, render.Problem{File: "shoal.cue", Line: said.Line("previews"), Path: path, Text: "is what all previews are called; expected another name, or no previews"})
		}
	}
	return p, true, problems
}
