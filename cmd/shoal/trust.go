package main

import (
	"fmt"
	"io"
	"time"

	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// checkKeys finds what is wrong in keys/, and warns of whom it keeps out.
func checkKeys(tree source.Tree, environments []render.Environment, now time.Time, w io.Writer) (problems render.Problems) {
	keys, flaws := trust.FromTree(tree)
	for _, p := range flaws {
		problems = append(problems, render.Problem{File: p.File, Line: p.Line, Text: p.Text})
	}
	names := make([]string, len(environments))
	for i, env := range environments {
		names[i] = env.Name
	}
	for _, p := range keys.Lockouts(names, now) {
		fmt.Fprintf(w, "warning: %s\n", p)
	}
	return problems
}
