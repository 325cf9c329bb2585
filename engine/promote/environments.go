package promote

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
)

// Mode says who makes promotions into an environment.
type Mode string

const (
	Manual Mode = "manual" // a person asks; the default
	Auto   Mode = "auto"   // the ring does as soon as all gates are open
)

// Environment is what shoal.cue says of one environment as far as promotion goes.
type Environment struct {
	Name    string     `json:"name"`
	Ref     string     `json:"ref"` // "main", or "refs/heads/main"
	Class   string     `json:"class,omitempty"`
	After   []string   `json:"after,omitempty"` // environments it is promoted from; none: people push to it
	Promote Mode       `json:"promote,omitempty"`
	Gates   Gates      `json:"gates,omitzero"`
	Hotfix  HotfixRule `json:"hotfix,omitzero"`
	Same    *Sameness  `json:"same,omitempty"`
	// RollbackAfter is after how long the ring takes a promotion back that was never healthy; 0: it does not.
	RollbackAfter Duration `json:"rollbackAfter,omitempty"`
}

// Gated says whether anything rules what comes into the environment but the order of its branch.
func (e Environment) Gated() bool {
	g := e.Gates
	return len(e.After) > 0 || len(g.Approvals) > 0 || len(g.Windows) > 0 || len(g.Freezes) > 0 || e.Same != nil && e.Same.Block
}

// HotfixRule says who may change an environment without a promotion, and which gates that may leave out.
type HotfixRule struct {
	Waive []string `json:"waive,omitempty"` // gates: "soak", "verify" (all of them) or "verify:smoke"; none: no gate is waived
	By    []string `json:"by,omitempty"`    // groups; none: whoever may push to the ref
}

// Sameness says that an environment's objects equal another's except for listed fields.
type Sameness struct {
	As     string   `json:"as"`
	Except []string `json:"except,omitempty"` // "Deployment/*:spec.replicas"; fields.go has the forms
	Block  bool     `json:"block,omitempty"`  // a difference that is not listed stops a promotion
}

// Problem is one thing wrong with what shoal.cue says, at the field to mend.
type Problem struct {
	Path string // "environments.production.after[0]"
	Text string // what is wrong and what was expected
}

func (p Problem) Error() string { return p.Path + ": " + p.Text }

// Problems is all that is wrong, one a line.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(path, format string, a ...any) {
	*p = append(*p, Problem{path, fmt.Sprintf(format, a...)})
}

// maxEnvironments bounds the work of Order.
const maxEnvironments = 1000

// Order checks the environments of a repository and sorts them so that each stands behind those it comes after, ties by
// name. With problems there is no order.
func Order(environments []Environment) ([]Environment, Problems) {
	var problems Problems
	if len(environments) > maxEnvironments {
		problems.add("environments", "%d of them; at most %d", len(environments), maxEnvironments)
		return nil, problems
	}
	sorted := slices.Clone(environments)
	slices.SortStableFunc(sorted, func(a, b Environment) int { return strings.Compare(a.Name, b.Name) })
	byName, byRef := map[string]bool{}, map[string]Environment{}
	var names []string
	for _, e := range sorted {
		if byName[e.Name] {
			problems.add("environments."+e.Name, "stands there twice")
		}
		byName[e.Name] = true
		names = append(names, e.Name)
	}
	names = slices.Compact(names)
	for _, e := range sorted {
		at := "environments." + e.Name
		if !isLabel(e.Name) {
			problems.add(at, "%q is no DNS label; expected lower-case letters, digits and hyphens, at most 63", clip(e.Name, 64))
		}
		ref := source.FullRefName(e.Ref)
		if err := source.CheckRefName(ref); err != nil {
			problems.add(at+".ref", "%v", err)
		} else if other, taken := byRef[ref]; taken && len(e.After)+len(other.After) > 0 {
			problems.add(at+".ref", "%s is the ref of environment %s too; expected a ref of its own, or a promotion could not move one without the other", ref, other.Name)
		} else {
			byRef[ref] = e
		}
		problems = append(problems, e.check(at, names)...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return sequence(sorted)
}

// check goes over what one environment says, where names are all there are.
func (e Environment) check(at string, names []string) (problems Problems) {
	for i, from := range e.After {
		path := fmt.Sprintf("%s.after[%d]", at, i)
		switch {
		case from == e.Name:
			problems.add(path, "an environment does not come after itself")
		case !slices.Contains(names, from):
			problems.add(path, "%q is no environment; expected %s", clip(from, 64), oneOf(without(names, e.Name)))
		case slices.Contains(e.After[:i], from):
			problems.add(path, "%s stands there twice", from)
		}
	}
	switch {
	case e.Promote != "" && e.Promote != Manual && e.Promote != Auto:
		problems.add(at+".promote", "%q; expected auto or manual", clip(string(e.Promote), 64))
	case e.Promote == Auto && len(e.After) == 0:
		problems.add(at+".promote", "auto, but nothing is promoted into %s; expected after: [ENVIRONMENT]", e.Name)
	}
	switch {
	case e.RollbackAfter != 0 && len(e.After) == 0:
		problems.add(at+".rollbackAfter", "%s, but nothing is promoted into %s; expected after: [ENVIRONMENT]", e.RollbackAfter, e.Name)
	case e.RollbackAfter != 0 && e.RollbackAfter.Millis() < 1000:
		problems.add(at+".rollbackAfter", "%s; expected at least 1s", e.RollbackAfter)
	}
	problems = append(problems, e.Gates.check(at+".gates", e)...)
	for i, g := range e.Hotfix.Waive {
		if !isGate(g) || !waivable(g) {
			problems.add(fmt.Sprintf("%s.hotfix.waive[%d]", at, i), "%q is no gate that can be waived; expected %s", clip(g, 64), oneOf(gateWords))
		}
	}
	if s := e.Same; s != nil {
		if s.As == e.Name || !slices.Contains(names, s.As) {
			problems.add(at+".same.as", "%q; expected %s", clip(s.As, 64), oneOf(without(names, e.Name)))
		}
		if len(s.Except) > maxExcept {
			problems.add(at+".same.except", "%d fields; at most %d", len(s.Except), maxExcept)
		} else if _, bad := parseFields(s.Except); len(bad) > 0 {
			for _, p := range bad {
				problems.add(at+".same."+p.Path, "%s", p.Text)
			}
		}
	}
	return problems
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// sequence sorts environments behind those they come after, or names a circle. They are sorted by name.
func sequence(environments []Environment) ([]Environment, Problems) {
	var order []Environment
	done := map[string]bool{}
	for len(order) < len(environments) {
		moved := false
		for _, e := range environments {
			if !done[e.Name] && !slices.ContainsFunc(e.After, func(n string) bool { return !done[n] }) {
				done[e.Name], moved = true, true
				order = append(order, e)
				break // the first by name that may come, so that an order has one form
			}
		}
		if !moved {
			return nil, Problems{circle(environments, done)}
		}
	}
	return order, nil
}

// circle follows what each waits for from the first environment that waits, until a name comes again.
func circle(environments []Environment, done map[string]bool) Problem {
	after := map[string]string{}
	first := ""
	for _, e := range environments {
		if done[e.Name] {
			continue
		}
		if first == "" {
			first = e.Name
		}
		i := slices.IndexFunc(e.After, func(n string) bool { return !done[n] })
		after[e.Name] = e.After[i]
	}
	var path []string
	for at := first; ; at = after[at] {
		if i := slices.Index(path, at); i >= 0 {
			path = append(path[i:], at)
			break
		}
		path = append(path, at)
	}
	return Problem{"environments." + path[0] + ".after", "goes round in a circle: " + strings.Join(path, " after ") + "; expected one environment that comes after none"}
}

// Govern is what rules in an environment. That it is there, and its ref, come from the default branch (declared). All else
// comes from the tree that is active in it, so that nobody relaxes the gates he is about to pass; nil: nothing is active
// yet, or it does not name the environment.
func Govern(declared Environment, active *Environment) Environment {
	if active == nil {
		return declared
	}
	rules := *active
	rules.Name, rules.Ref = declared.Name, declared.Ref
	return rules
}
