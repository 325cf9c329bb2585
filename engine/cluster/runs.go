package cluster

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// maxRuns is how many runs of an environment are kept: so far back a rollback goes, and a promotion knows what ran.
const maxRuns = 64

type runKey struct {
	environment string
	index       uint64
}

func (a runKey) compare(b runKey) int {
	return cmp.Or(strings.Compare(a.environment, b.environment), cmp.Compare(a.index, b.index))
}

func (a runKey) String() string { return a.environment + "/" + decimal(a.index) }

// History walks what an environment ran and runs, the newest last.
func (s *State) History(environment string) iter.Seq[*Run] {
	return func(yield func(*Run) bool) {
		for k, r := range s.runs.rows.from(runKey{environment, 0}) {
			if k.environment != environment || !yield(r.val) {
				return
			}
		}
	}
}

// lastRun is what an environment runs.
func (s *State) lastRun(environment string) (last *Run, ok bool) {
	for r := range s.History(environment) {
		last = r
	}
	return last, last != nil
}

// begun notes that an environment runs another commit from now on. Where nothing of it is another, not even an image, it has
// been healthy for as long as before.
func (t *tx) begun(a *Activate) {
	now := &Run{Index: t.s.index, Act: promote.Plain, Images: a.Images, Run: promote.Run{
		Environment: a.Environment, Commit: a.Commit, Tree: a.Tree, Render: promote.Exact(a.D, a.Images), Since: t.now,
	}}
	if a.Claim != nil {
		now.Act = a.Claim.Ask.Act
	}
	if last, ok := t.s.lastRun(a.Environment); ok {
		if last.Render == now.Render {
			now.Healthy, now.Proven = last.Healthy, last.Proven
		}
		was := *last
		was.Until = t.now
		t.s.runs.set(&t.s, &was)
	}
	t.s.runs.set(&t.s, now)
	t.queueVerifiers(a.Environment)
	t.s.stir(a.Environment)
	if now.Act == promote.Rollback {
		t.undo(a)
	}
	for t.count(a.Environment) > maxRuns {
		for r := range t.s.History(a.Environment) {
			t.forgetRun(r)
			break
		}
	}
}

// undo marks what a rollback took back: all that came after the commit that it goes back to.
func (t *tx) undo(a *Activate) {
	runs := slices.Collect(t.s.History(a.Environment))
	for i := len(runs) - 2; i >= 0 && runs[i].Commit != a.Claim.Ask.Source && runs[i].Tree != a.Tree; i-- {
		was := *runs[i]
		was.Undone = cmp.Or(a.Claim.Ask.Reason, "rolled back")
		t.s.runs.set(&t.s, &was)
	}
}

func (t *tx) count(environment string) (n int) {
	for range t.s.History(environment) {
		n++
	}
	return n
}

// forgetRun drops a run, and what was found on its render unless another run is of the same.
func (t *tx) forgetRun(r *Run) {
	t.s.runs.drop(&t.s, runKey{r.Environment, r.Index})
	if t.s.ran(r.Environment, r.Render) {
		return
	}
	for e := range t.s.EvidenceOn(r.Environment, r.Render) {
		t.s.evidence.drop(&t.s, evidenceKey{e.Environment, e.Render, e.Gate})
	}
}

// forgetRuns drops all of an environment that is retired.
func (t *tx) forgetRuns(environment string) {
	for _, r := range slices.Collect(t.s.History(environment)) {
		t.forgetRun(r)
	}
}

// ran tells whether an environment ran a render, as far as is known.
func (s *State) ran(environment string, render desired.Digest) bool {
	for r := range s.History(environment) {
		if r.Render == render {
			return true
		}
	}
	return false
}

type evidenceKey struct {
	environment string
	render      desired.Digest
	gate        string
}

func (a evidenceKey) compare(b evidenceKey) int {
	return cmp.Or(strings.Compare(a.environment, b.environment), cmp.Compare(a.render, b.render), strings.Compare(a.gate, b.gate))
}

func (a evidenceKey) String() string {
	return fmt.Sprintf("%s/%s/%s", a.environment, a.render, a.gate)
}

// EvidenceOn walks what was found on a render of an environment, by gate.
func (s *State) EvidenceOn(environment string, render desired.Digest) iter.Seq[*EvidenceValue] {
	return func(yield func(*EvidenceValue) bool) {
		for k, r := range s.evidence.rows.from(evidenceKey{environment, render, ""}) {
			if k.environment != environment || k.render != render || !yield(r.val) {
				return
			}
		}
	}
}

// maxGates bounds what is known of one render.
const maxGates = 64

// evidence takes what a node found on what an environment runs or ran: the last answer takes the place of those before.
func (t *tx) evidence(from From, e *Evidence) error {
	node, ok := t.s.nodes.Get(from.Node)
	kind, name, _ := strings.Cut(e.Gate, ":")
	switch {
	case !ok:
		return fmt.Errorf("there is no node %q", clip(string(from.Node), 64))
	case kind != promote.GateChecks && kind != promote.GateVerify || name == "" || len(e.Gate) > 253:
		return fmt.Errorf("evidence of node %s: gate %q: expected checks:NAME or verify:JOB", node.Name, clip(e.Gate, 64))
	case len(e.Text) > maxText:
		return fmt.Errorf("evidence of node %s: its text has %d bytes, at most %d are kept", node.Name, len(e.Text), maxText)
	case !t.s.ran(e.Environment, e.Render):
		return staleError{fmt.Errorf("environment %s has not run %s, as far as is known", clip(e.Environment, 64), short(e.Render))}
	}
	k := evidenceKey{e.Environment, e.Render, e.Gate}
	if _, ok := t.s.evidence.Get(k); !ok {
		n := 0
		for range t.s.EvidenceOn(e.Environment, e.Render) {
			n++
		}
		if n >= maxGates {
			return fmt.Errorf("environment %s: there is evidence of %d gates on %s already", e.Environment, maxGates, short(e.Render))
		}
	}
	t.s.evidence.set(&t.s, &EvidenceValue{Evidence: *e, Since: t.now, Node: from.Node})
	return nil
}

// Past is which commits ran in an environment, as far as is known.
func (s *State) Past(environment string) (past []source.ID) {
	for r := range s.History(environment) {
		past = append(past, r.Commit)
	}
	return past
}
