package promote

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
)

// Judge says whether what is asked may come into the environment of policy (Govern) at now, ms: every gate that has a say
// with its state, the evidence, whose turn it is, and when to ask again. It depends on its arguments alone.
//
// Into an environment that comes after none people push, so claims mean nothing there: a promotion that was merged back is
// a commit like others.
func Judge(policy Environment, ask Ask, facts Facts, now int64) Verdict {
	if len(policy.After) == 0 {
		ask = Ask{Act: Plain, By: ask.By}
	}
	j := judge{policy: policy, ask: ask, facts: facts, now: now}
	j.claim()
	switch ask.Act {
	case Promotion:
		j.pin()
		j.debt()
		j.sources()
		j.approvals([]source.ID{ask.Source})
		j.calendar()
		j.same()
	case Hotfix:
		j.sources()
		// Who approves before the commit is made does so for the change that it takes in.
		j.approvals([]source.ID{facts.Candidate.ID, facts.Of.ID})
		j.calendar()
		j.same()
	case Plain:
		if len(policy.After) == 0 {
			j.approvals([]source.ID{facts.Candidate.ID})
			j.calendar()
			j.same()
		}
	case Rollback, Pin, Unpin: // what ran here before has passed the gates; undo must not wait
	}
	return verdict(j.gates, now)
}

type judge struct {
	policy Environment
	ask    Ask
	facts  Facts
	now    int64
	gates  []Gate
}

// tell adds a gate's answer, unless a hotfix has waived it.
func (j *judge) tell(g Gate) {
	if waivable(g.Name) && covers(j.ask.Waived, g.Name) {
		g = Gate{Name: g.Name, Environment: g.Environment, State: Waived, Text: "waived: " + j.ask.Reason}
	}
	j.gates = append(j.gates, g)
}

func (j *judge) refuse(gate, turn, format string, a ...any) {
	j.tell(Gate{Name: gate, State: Refused, Turn: turn, Text: fmt.Sprintf(format, a...)})
}

// claim compares what the commit says it is with what it is.
func (j *judge) claim() {
	text, why := "", ""
	switch j.ask.Act {
	case Plain:
		text, why = j.claimPlain()
	case Promotion:
		text, why = j.claimPromotion()
	case Rollback:
		text, why = j.claimRollback()
	case Hotfix:
		text, why = j.claimHotfix()
	case Pin, Unpin:
		text, why = j.claimPin()
	default:
		why = fmt.Sprintf("it claims to be %q, which is nothing known", clip(string(j.ask.Act), 64))
	}
	if why != "" {
		j.refuse(GateClaim, "author", "%s", why)
		return
	}
	j.tell(Gate{Name: GateClaim, State: Open, Text: text})
}

func (j *judge) claimPlain() (text, why string) {
	if len(j.policy.After) == 0 {
		return "a push", ""
	}
	why = fmt.Sprintf("it is neither a promotion, a rollback nor a hotfix, and %s is promoted into from %s; expected `shoal promote`, or the trailer Shoal-Hotfix",
		j.policy.Name, oneOf(j.policy.After))
	if j.ask.Hint != "" {
		why += "; " + j.ask.Hint
	}
	return "", why
}

func (j *judge) claimPromotion() (text, why string) {
	a, f := j.ask, j.facts
	from := a.From + " " + a.Source.Short()
	if !slices.Contains(j.policy.After, a.From) {
		return "", fmt.Sprintf("it comes from %s, and %s is promoted into from %s only", a.From, j.policy.Name, oneOf(j.policy.After))
	}
	if f.Of.ID != a.Source || f.Of.Tree == "" {
		return "", fmt.Sprintf("commit %s is not in the repository", a.Source.Short())
	}
	if why := j.shape(true); why != "" {
		return "", why
	}
	run, ok := j.run(a.From)
	switch {
	case !ok:
		return "", fmt.Sprintf("%s has not run %s", a.From, a.Source.Short())
	case run.Tree != f.Of.Tree:
		return "", fmt.Sprintf("%s ran another tree as %s than the repository has", a.From, a.Source.Short())
	case a.Render != "" && run.Render != a.Render:
		return "", fmt.Sprintf("it is of render %s, and %s ran %s at %s: that is not what was looked at", short(string(a.Render)), a.From, short(string(run.Render)), a.Source.Short())
	case run.Undone != "":
		return "", fmt.Sprintf("%s went back from %s: %s", a.From, a.Source.Short(), run.Undone)
	case f.Candidate.ID == "" && f.Active.Tree == f.Of.Tree:
		return "", fmt.Sprintf("%s runs what %s is", j.policy.Name, from)
	}
	return "promotes " + from, ""
}

// shape compares the candidate's tree and parents with those of a promotion, a rollback, or a hotfix that was made by
// Make. A candidate that is only thought of has none.
func (j *judge) shape(second bool) string {
	c, of := j.facts.Candidate, j.facts.Of
	if c.ID == "" {
		return ""
	}
	if c.Tree != of.Tree {
		return fmt.Sprintf("its tree is %s and that of %s is %s: something was changed by hand", c.Tree.Short(), of.ID.Short(), of.Tree.Short())
	}
	want := 1
	if second && j.facts.Active.ID != "" {
		want = 2
	}
	if len(c.Parents) != want || second && c.Parents[want-1] != of.ID {
		if second {
			return fmt.Sprintf("its parents are not the commit before it and %s", of.ID.Short())
		}
		return "it has not one parent, the commit before it"
	}
	return ""
}

func (j *judge) claimRollback() (text, why string) {
	f := j.facts
	if f.Of.ID != j.ask.Source || f.Of.Tree == "" {
		return "", fmt.Sprintf("commit %s is not in the repository", j.ask.Source.Short())
	}
	if !slices.Contains(f.Past, j.ask.Source) {
		return "", fmt.Sprintf("commit %s never ran in %s; expected one that did", j.ask.Source.Short(), j.policy.Name)
	}
	if why := j.shape(false); why != "" {
		return "", why
	}
	return "goes back to " + j.ask.Source.Short(), ""
}

func (j *judge) claimHotfix() (text, why string) {
	f, rule := j.facts, j.policy.Hotfix
	for _, g := range j.ask.Waived {
		if !covers(rule.Waive, g) {
			return "", fmt.Sprintf("it waives %s, and %s allows hotfixes to waive %s", g, j.policy.Name, oneOf(rule.Waive))
		}
	}
	if len(rule.By) > 0 && !shares(rule.By, f.ByGroups) {
		return "", fmt.Sprintf("%s may not make hotfixes in %s; expected one of %s", j.who(), j.policy.Name, oneOf(rule.By))
	}
	if len(f.Candidate.Parents) > 1 {
		if why := j.shape(true); why != "" {
			return "", why
		}
	}
	for _, b := range f.Between {
		if b.Act == Plain || b.Act == Promotion {
			return "", fmt.Sprintf("a %s commit that has not come in stands between it and what runs, and would come in with it", b.Act)
		}
	}
	waives := strings.Join(j.ask.Waived, ", ")
	if waives == "" {
		waives = "nothing"
	}
	return fmt.Sprintf("a hotfix that waives %s: %s", waives, j.ask.Reason), ""
}

func (j *judge) claimPin() (text, why string) {
	f := j.facts
	switch {
	case f.Candidate.ID != "" && f.Candidate.Tree != f.Active.Tree:
		return "", fmt.Sprintf("a %s changes nothing, and its tree is not the one that runs", j.ask.Act)
	case j.ask.Act == Unpin:
		return "lifts the pin", ""
	case j.ask.PinUntil <= j.now && f.Candidate.ID == "":
		return "", "its time " + stamp(j.ask.PinUntil) + " is over"
	}
	return "pins until " + stamp(j.ask.PinUntil), ""
}

// who is who asks, for people.
func (j *judge) who() string {
	switch {
	case j.ask.By != "":
		return j.ask.By
	case j.facts.Candidate.Signer != "":
		return j.facts.Candidate.Signer
	}
	return "who made it"
}

// pin holds promotions while somebody has pinned the environment, and keeps the ring from doing again by itself what a
// person took back.
func (j *judge) pin() {
	if p := j.facts.Pin; p != nil && p.Until > j.now {
		j.tell(Gate{
			Name: GatePin, State: Waiting, Until: p.Until, Turn: turnTime + ", or who lifts the pin",
			Text: fmt.Sprintf("%s has pinned %s: %s", orNobody(p.By), j.policy.Name, p.Reason),
		})
		return
	}
	if j.ask.By == Automatic {
		for _, u := range j.facts.Undone {
			if u.Source == j.ask.Source {
				j.refuse(GatePin, "author", "%s went back from it: %s; expected a newer commit, or somebody who promotes it by hand", orNobody(u.By), orNobody(u.Reason))
				return
			}
		}
	}
}

func orNobody(s string) string {
	if s == "" {
		return "somebody"
	}
	return s
}

// debt holds what would take a hotfix back unsaid.
func (j *judge) debt() {
	if len(j.facts.Owed) == 0 {
		return
	}
	owed := slices.Clone(j.facts.Owed)
	slices.SortFunc(owed, func(a, b Debt) int { return strings.Compare(string(a.Commit), string(b.Commit)) })
	var texts, people []string
	for _, d := range owed {
		texts = append(texts, fmt.Sprintf("%s (%s)", d.Commit.Short(), d.Reason))
		if d.By != "" && !slices.Contains(people, d.By) {
			people = append(people, d.By)
		}
	}
	turn := oneOf(people)
	if len(people) == 0 {
		turn = "author"
	}
	j.refuse(GateDebt, turn, "%s does not have the hotfix %s and would take it back; expected a commit that has it merged", j.ask.Source.Short(), clip(strings.Join(texts, ", "), 400))
}

// calendar is the windows and freezes. Both say when the environment opens next with regard to the other.
func (j *judge) calendar() {
	g := j.policy.Gates
	if len(g.Windows) == 0 && len(g.Freezes) == 0 {
		return
	}
	all, problems := NewCalendar(g.Windows, g.Freezes)
	if len(problems) > 0 { // it was active, so it had been checked; an engine's change may bring it here
		j.refuse(GateWindow, j.policy.Name, "gates.%s", problems[0].Error())
		return
	}
	counted := *all
	if covers(j.ask.Waived, GateWindow) {
		counted.windows = nil
	}
	if covers(j.ask.Waived, GateFreeze) {
		counted.freezes = nil
	}
	next := counted.Next(j.now)
	tell := func(name string, open bool, text string, own Calendar) {
		gate := Gate{Name: name, State: Open, Text: text, Changes: own.first(j.now, !open)}
		if !open {
			gate.State, gate.Turn, gate.Until = Waiting, turnTime, next
			if next == 0 {
				gate.Text += "; it does not open within 400 days"
			}
		}
		j.tell(gate)
	}
	if len(g.Windows) > 0 {
		text := "outside of its windows"
		if all.inWindow(j.now) {
			text = "within a window"
		}
		tell(GateWindow, all.inWindow(j.now), text, Calendar{windows: all.windows})
	}
	if len(g.Freezes) > 0 {
		why, frozen := all.frozen(j.now)
		text := "no freeze"
		if frozen {
			text = "frozen"
			if why != "" {
				text += ": " + why
			}
		}
		tell(GateFreeze, !frozen, text, Calendar{freezes: all.freezes})
	}
}

// same holds what would make the environment differ from another in a field that is not listed.
func (j *judge) same() {
	s := j.policy.Same
	if s == nil {
		return
	}
	if !j.facts.Compared {
		if s.Block {
			j.tell(Gate{Name: GateSame, Environment: s.As, State: Waiting, Text: "it was not compared yet", Turn: j.policy.Name})
		}
		return
	}
	var news []string
	for _, d := range j.facts.Differences {
		if d.Allowed == "" {
			news = append(news, d.Object+": "+d.Path)
		}
	}
	slices.Sort(news)
	switch {
	case len(news) == 0:
		j.tell(Gate{Name: GateSame, Environment: s.As, State: Open, Text: "nothing differs but what is listed"})
	case s.Block:
		j.tell(Gate{Name: GateSame, Environment: s.As, State: Refused, Turn: "author", Text: "differs in " + few(news) + "; expected these alike, or listed in same.except"})
	default:
		j.tell(Gate{Name: GateSame, Environment: s.As, State: Open, Text: "differs in " + few(news)})
	}
}

// few is the first names of a list and how many more there are.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func shares(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

func short(s string) string {
	if s == "" {
		return "none"
	}
	return s[:min(12, len(s))]
}
