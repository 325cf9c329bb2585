//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// beatingApp may run once only, and says fifty times a second that it does.
const beatingApp = `package one

import "shoal.dev/schema"

schema.#Package

app: one: {
	image: "shoal.local/probe:v1"
	args: ["lines", "-rate", "50"]
	strict: true
}
`

// stint is when a container ran, as its log tells: the first and the last line that it wrote.
type stint struct {
	node        string
	first, last time.Time
}

// witness knows when each instance of an app ran, on whichever machine, from the logs on their disks.
type witness struct {
	r      *ring
	app    string
	stints map[string]stint // by log file
}

func (r *ring) witness(app string) *witness { return &witness{r, app, map[string]stint{}} }

// look reads what has been written since, of logs that may be gone the next time.
func (w *witness) look() {
	for _, n := range w.r.nodes {
		files, _ := filepath.Glob(filepath.Join(n.root(), n.Logs, "*_"+w.app+"-*", "*", "*.log*"))
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				continue // its pod is gone
			}
			s := stint{node: n.name}
			for lines := bufio.NewScanner(f); lines.Scan(); {
				stamp, _, _ := strings.Cut(lines.Text(), " ")
				at, err := time.Parse(time.RFC3339Nano, stamp)
				if err != nil {
					continue // torn, where the machine lost its power
				}
				if s.first.IsZero() {
					s.first = at
				}
				s.last = at
			}
			f.Close()
			if !s.first.IsZero() {
				w.stints[file] = s
			}
		}
	}
}

// ran waits until so many have written something.
func (w *witness) ran(want int) {
	w.r.t.Helper()
	w.r.nodes[0].Eventually(10*time.Second, func() error {
		if w.look(); len(w.stints) != want {
			return fmt.Errorf("%d instances of %s ran, want %d: %v", len(w.stints), w.app, want, w.stints)
		}
		return nil
	})
}

// alone fails the test if two ran at a time, and returns how often it went to another machine.
func (w *witness) alone(t *testing.T) (moves int) {
	t.Helper()
	w.look()
	all := slices.SortedFunc(maps.Values(w.stints), func(a, b stint) int { return a.first.Compare(b.first) })
	for i := 1; i < len(all); i++ {
		before, s := all[i-1], all[i]
		if s.node != before.node {
			moves++
		}
		if !s.first.After(before.last) {
			t.Errorf("%s ran on %s from %s, and on %s until %s", w.app, s.node, s.first.Format(time.StampMicro), before.node, before.last.Format(time.StampMicro))
		}
	}
	return moves
}

// times are how long something took, over several rounds.
type times []time.Duration

// String gives the figures that are quoted: the middle one, the 90th percentile, and the longest.
func (all times) String() string {
	if len(all) == 0 {
		return "none"
	}
	sorted := slices.Sorted(slices.Values(all))
	at := func(percent int) time.Duration { return sorted[(len(sorted)*percent+99)/100-1].Round(time.Millisecond) }
	return fmt.Sprintf("n %d, p50 %s, p90 %s, max %s", len(all), at(50), at(90), at(100))
}

// middle is the one that half of them do not exceed.
func (all times) middle() time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)/2]
}

// rounds is how often something is done: so often, or with FULL=1 more often.
func rounds(few, full int) int {
	if os.Getenv("FULL") != "" {
		return full
	}
	return few
}
