package sealed

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a file of secrets. It says nothing of values.
type Problem struct {
	File string // path in the repository
	Line int    // from 1; 0 when the whole file is meant
	Text string // what is wrong, and what was expected
}

// Error is "secrets/dev/db.yaml:3: what is wrong".
func (p Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems is every fault that was found, by file and line.
type Problems []Problem

// Error has one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

func (ps *Problems) add(file string, line int, format string, a ...any) {
	*ps = append(*ps, Problem{File: file, Line: line, Text: fmt.Sprintf(format, a...)})
}

func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return ps
}
