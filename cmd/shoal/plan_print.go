package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/shoal-dev/shoal/engine/diff"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// printPlan prints a plan for people. Its problems are told apart, as the command's error.
func printPlan(w io.Writer, p api.Plan, actions bool) {
	defer printLosses(w, p.Losses)
	if p.Report == nil {
		return
	}
	c := painter(w)
	r := *p.Report
	r.Problems = nil
	for line := range strings.Lines(r.Text()) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "+ "):
			line = c.green("+") + line[1:]
		case strings.HasPrefix(line, "~ "):
			line = c.yellow("~") + line[1:]
		case strings.HasPrefix(line, "- "):
			line = c.red("-") + line[1:]
		case strings.HasPrefix(line, "    ! "):
			line = "    " + c.red("!") + line[len("    !"):]
		case strings.HasPrefix(line, "would ") || strings.HasPrefix(line, "none of this"):
			line = c.red(line)
		case strings.HasPrefix(line, "warning: "):
			line = c.yellow(line)
		case line == diff.FirstTitle || line == diff.RestTitle:
			line = c.bold(line)
		}
		fmt.Fprintln(w, line)
	}
	if actions {
		fmt.Fprintln(w, c.bold("first steps"))
		for _, a := range p.Actions {
			fmt.Fprintf(w, "  %s: %s\n", a.Node, a.Action)
		}
	}
}

// leastMarkdown is the least room that a plan is given in a comment.
const leastMarkdown = 4096

// printMarkdown prints a comment for a pull request. Together the plans are no longer than a forge takes.
func printMarkdown(w io.Writer, plans []api.Plan) error {
	most := diff.MaxComment/leastMarkdown - 1
	var b strings.Builder
	for i, p := range plans {
		if p.Report == nil {
			return usageError{errors.New("-o markdown: expected a directory, a commit or A..B")}
		}
		if i == most {
			fmt.Fprintf(&b, "\nFor want of room, %s not shown.\n", count(len(plans)-i, "more environment is", "more environments are"))
			break
		}
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(p.Report.Markdown((diff.MaxComment-leastMarkdown)/min(len(plans), most) - 1))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}
