package promote

import (
	"fmt"
	"slices"
	"strings"
)

// The names of gates. Those of Jobs and checks have more behind a colon: "verify:smoke".
const (
	GateClaim     = "claim"
	GatePin       = "pin"
	GateDebt      = "debt"
	GateSoak      = "soak"
	GateHealth    = "health"
	GateVerify    = "verify"
	GateChecks    = "checks"
	GateApprovals = "approvals"
	GateWindow    = "window"
	GateFreeze    = "freeze"
	GateSame      = "same"
)

// gateWords are the gates that a hotfix may waive.
var gateWords = []string{GateSoak, GateHealth, GateVerify, GateChecks, GateApprovals, GateWindow, GateFreeze, GateSame}

// Bounds of what shoal.cue may ask.
const (
	maxList      = 32 // Jobs, checks, rules of approval, windows
	maxFreezes   = 64
	maxApprovals = 16 // people in all rules
	maxExcept    = 500
	maxURL       = 2048
	maxQuery     = 4096
)

// Gates is what must hold before something comes into an environment.
type Gates struct {
	Soak      Duration         `json:"soak,omitempty"`   // how long each environment in `after` must have run this very render, healthy
	Health    bool             `json:"health,omitempty"` // ... and that it is healthy
	Verify    []string         `json:"verify,omitempty"` // Jobs that must have succeeded there on this render
	Checks    map[string]Check `json:"checks,omitempty"`
	Approvals []Approvers      `json:"approvals,omitempty"`
	Windows   []Span           `json:"windows,omitempty"` // only then; none: at any time
	Freezes   []Span           `json:"freezes,omitempty"` // never then
}

// Check is a question with an answer yes or no that one node asks now and then. What it finds is Evidence.
type Check struct {
	HTTP     string   `json:"http,omitempty"`     // a URL that must answer 2xx, or
	PromQL   string   `json:"promql,omitempty"`   // a query that must give something: "latency:p90 < 0.3"
	At       string   `json:"at,omitempty"`       // PromQL: the URL of Prometheus
	Interval Duration `json:"interval,omitempty"` // how often it is asked; 1m unless set, at least 10s
	Expires  Duration `json:"expires,omitempty"`  // how long an answer counts; three intervals unless set
	On       []string `json:"on,omitempty"`       // environments of `after`; none: each
}

// Every is how often the check is asked, in ms.
func (c Check) Every() int64 {
	if c.Interval == 0 {
		return 60_000
	}
	return c.Interval.Millis()
}

// Counts is how long an answer counts, in ms.
func (c Check) Counts() int64 {
	if c.Expires == 0 {
		return 3 * c.Every()
	}
	return c.Expires.Millis()
}

// Approvers is a rule of approval: so many people of these groups. One person counts for one rule.
type Approvers struct {
	Count int      `json:"count"`
	Of    []string `json:"of,omitempty"` // groups; none: anybody whose key is in the repository
}

// isGate says whether s has the form of a gate's name.
func isGate(s string) bool {
	word, name, more := strings.Cut(s, ":")
	if more {
		return (word == GateVerify || word == GateChecks) && isWord(name)
	}
	return isLabel(word)
}

func waivable(gate string) bool {
	word, _, _ := strings.Cut(gate, ":")
	return slices.Contains(gateWords, word)
}

// covers says whether a list of gates names one: itself, or the word before its colon.
func covers(list []string, gate string) bool {
	word, _, _ := strings.Cut(gate, ":")
	return slices.Contains(list, gate) || slices.Contains(list, word)
}

// check says what is wrong with the gates of e.
func (g Gates) check(at string, e Environment) (problems Problems) {
	if len(e.After) == 0 && (g.Soak > 0 || g.Health || len(g.Verify) > 0 || len(g.Checks) > 0) {
		problems.add(at, "soak, health, verify and checks ask where a commit ran before, and nothing is promoted into %s; expected after: [ENVIRONMENT], or none of these gates", e.Name)
	}
	for i, job := range g.Verify {
		if path := fmt.Sprintf("%s.verify[%d]", at, i); !isWord(job) {
			problems.add(path, "%q is no name of a Job", clip(job, 64))
		} else if slices.Contains(g.Verify[:i], job) {
			problems.add(path, "%s stands there twice", job)
		}
	}
	for what, n := range map[string]int{"verify": len(g.Verify), "checks": len(g.Checks), "approvals": len(g.Approvals), "windows": len(g.Windows)} {
		if n > maxList {
			problems.add(at+"."+what, "%d of them; at most %d", n, maxList)
		}
	}
	if len(g.Freezes) > maxFreezes {
		problems.add(at+".freezes", "%d of them; at most %d", len(g.Freezes), maxFreezes)
	}
	for _, name := range sortedKeys(g.Checks) {
		problems = append(problems, g.Checks[name].check(at+".checks."+name, name, e)...)
	}
	sum := 0
	for i, a := range g.Approvals {
		sum += max(a.Count, 0)
		if a.Count < 1 || sum > maxApprovals {
			problems.add(fmt.Sprintf("%s.approvals[%d].count", at, i), "%d; expected at least 1, and at most %d in all", a.Count, maxApprovals)
		}
	}
	if _, bad := NewCalendar(g.Windows, g.Freezes); len(bad) > 0 {
		for _, p := range bad {
			problems.add(at+"."+p.Path, "%s", p.Text)
		}
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return problems
}

func (c Check) check(at, name string, e Environment) (problems Problems) {
	if !isWord(name) {
		problems.add(at, "%q is no name; expected letters, digits, hyphens, dots and underscores, at most 63", clip(name, 64))
	}
	web := func(s string) bool {
		return len(s) <= maxURL && (strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")) && isLine(s, maxURL) && !strings.Contains(s, " ")
	}
	switch {
	case (c.HTTP == "") == (c.PromQL == ""):
		problems.add(at, "expected one of http and promql")
	case c.HTTP != "" && !web(c.HTTP):
		problems.add(at+".http", "%q; expected a URL that begins with http:// or https://", clip(c.HTTP, 64))
	case c.PromQL != "" && len(c.PromQL) > maxQuery:
		problems.add(at+".promql", "%d bytes; at most %d", len(c.PromQL), maxQuery)
	case c.PromQL != "" && !web(c.At):
		problems.add(at+".at", "%q; expected the URL of Prometheus", clip(c.At, 64))
	}
	if every := c.Every(); every < 10_000 {
		problems.add(at+".interval", "%s; expected at least 10s", c.Interval)
	} else if c.Counts() < every {
		problems.add(at+".expires", "%s; expected no less than the interval of %s, or no answer would count until the next", c.Expires, elapsed(every))
	}
	for i, on := range c.On {
		if !slices.Contains(e.After, on) {
			problems.add(fmt.Sprintf("%s.on[%d]", at, i), "%q; expected one of after: %s", clip(on, 64), oneOf(e.After))
		}
	}
	return problems
}
