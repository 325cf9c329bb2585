package promote

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// Record is one commit of an environment's branch, as Git has it.
type Record struct {
	Commit source.Commit
	Signer string    // user whose key signed it, verified; "" if nobody's did
	Of     source.ID // tree of the commit that its message names (Promotion: Shoal-Promoted-From), "" if that is not known
}

// Event is what happened to an environment, as Git alone tells it.
type Event struct {
	Commit   source.ID      `json:"commit"`
	When     int64          `json:"when"` // of the committer, ms
	Act      Act            `json:"act"`
	From     string         `json:"from,omitempty"`   // promotion: the environment
	Source   source.ID      `json:"source,omitempty"` // what came in: of a promotion, rollback, or hotfix with a second parent
	Render   desired.Digest `json:"render,omitempty"`
	By       string         `json:"by"`               // who asked, or else the author
	Author   string         `json:"author"`           // "Ada <ada@example.org>"
	Signer   string         `json:"signer,omitempty"` // verified
	Reason   string         `json:"reason,omitempty"`
	Waived   []string       `json:"waived,omitempty"`
	PinUntil int64          `json:"pinUntil,omitempty"`
	Evidence []Proof        `json:"evidence,omitempty"`
	Request  string         `json:"request,omitempty"`
	Subject  string         `json:"subject"`
	// Flaw is why the commit is not what it claims to be; "" if it is, as far as Git tells. Such a commit is Plain.
	Flaw string `json:"flaw,omitempty"`
}

// String is a line for people.
func (e Event) String() string {
	what := "changed it: " + e.Subject
	switch e.Act {
	case Promotion:
		what = fmt.Sprintf("promoted %s %s", e.From, e.Source.Short())
	case Rollback:
		what = "rolled back to " + e.Source.Short()
	case Hotfix:
		what = "made a hotfix that waived " + orNothing(strings.Join(e.Waived, ", "))
	case Pin:
		what = "pinned it"
	case Unpin:
		what = "lifted the pin"
	case Plain:
	}
	s := fmt.Sprintf("%s %s %s %s", stamp(e.When), e.Commit.Short(), e.By, what)
	if e.PinUntil != 0 {
		s += ", pinned until " + stamp(e.PinUntil)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Signer != "" {
		s += " (signed by " + e.Signer + ")"
	}
	if e.Flaw != "" {
		s += " [" + e.Flaw + "]"
	}
	return s
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// History reads what happened to an environment out of its branch: the first-parent history, newest first, and so are the
// events. Nothing but the commits is asked, so that a clone is enough for an audit.
func History(commits []Record) []Event {
	trees := map[source.ID]source.ID{}
	for _, r := range commits {
		trees[r.Commit.ID] = r.Commit.Tree
	}
	events := make([]Event, 0, len(commits))
	for i, r := range commits {
		e := event(r, trees)
		if i+1 < len(commits) && e.Flaw == "" && (len(r.Commit.Parents) == 0 || r.Commit.Parents[0] != commits[i+1].Commit.ID) {
			e.Flaw = "the commit behind it in this list is not its first parent"
		}
		events = append(events, e)
	}
	return events
}

func event(r Record, trees map[source.ID]source.ID) Event {
	c := r.Commit
	e := Event{
		Commit: c.ID, When: c.Committer.When.UnixMilli(), Act: Plain, Author: Line(c.Author.String(), maxBy), Signer: r.Signer,
		By: Line(c.Author.Name, maxBy), Subject: Line(c.Subject(), 200),
	}
	a, err := Read(c.Message)
	if err != nil {
		e.Flaw = err.Error()
		return e
	}
	if a.Act == Plain {
		e.Flaw = a.Hint
		return e
	}
	if e.Flaw = a.flaw(r, trees); e.Flaw != "" {
		return e
	}
	e.Act, e.From, e.Source, e.Render, e.Reason = a.Act, a.From, a.Source, a.Render, a.Reason
	e.Waived, e.PinUntil, e.Evidence, e.Request = a.Waived, a.PinUntil, a.Evidence, a.Request
	if a.By != "" {
		e.By = a.By
	}
	if a.Act == Hotfix && len(c.Parents) == 2 {
		e.Source = c.Parents[1]
	}
	return e
}

// flaw says in what a commit differs from what its message claims.
func (a Ask) flaw(r Record, trees map[source.ID]source.ID) string {
	c := r.Commit
	switch a.Act {
	case Promotion:
		if len(c.Parents) == 0 || len(c.Parents) > 2 || c.Parents[len(c.Parents)-1] != a.Source {
			return fmt.Sprintf("says that it promotes %s, which is not its second parent", a.Source.Short())
		}
		if r.Of != "" && r.Of != c.Tree {
			return fmt.Sprintf("says that it promotes %s, and has another tree", a.Source.Short())
		}
	case Rollback:
		of := r.Of
		if of == "" {
			of = trees[a.Source]
		}
		if of != "" && of != c.Tree {
			return fmt.Sprintf("says that it rolls back to %s, and has another tree", a.Source.Short())
		}
	case Pin, Unpin:
		if len(c.Parents) == 1 && trees[c.Parents[0]] != "" && trees[c.Parents[0]] != c.Tree {
			return "says that it changes nothing, and has another tree than the commit before it"
		}
	case Hotfix, Plain:
	}
	return ""
}

// PinnedBy is the pin that stands at now by an environment's history, nil if none does.
func PinnedBy(events []Event, now int64) *Pinned {
	for _, e := range events {
		switch {
		case e.Act == Unpin:
			return nil
		case e.PinUntil != 0 && e.PinUntil <= now:
			return nil // pins made before it gave way to it
		case e.PinUntil != 0:
			return &Pinned{Until: e.PinUntil, By: e.By, Reason: e.Reason, Commit: e.Commit}
		}
	}
	return nil
}

// UndoneBy lists the promotions that rollbacks took back, by an environment's history.
func UndoneBy(events []Event) []Undone {
	var out []Undone
	for i, e := range events {
		if e.Act != Rollback {
			continue
		}
		for _, before := range events[i+1 : max(i+1, target(events, e))] {
			if before.Act == Promotion {
				out = append(out, Undone{Source: before.Source, By: e.By, Reason: e.Reason})
			}
		}
	}
	return out
}

// target is where the commit of a rollback stands in a history, or 0.
func target(events []Event, rollback Event) int {
	return max(0, slices.IndexFunc(events, func(e Event) bool { return e.Commit == rollback.Source }))
}

// Owed lists the hotfixes of an environment's history that are not paid: what they changed is not yet where promotions
// come from. paid says of a commit whether the one that is to be promoted descends from it, or says so (MergedBack). A
// hotfix that was rolled back is owed no more.
func Owed(events []Event, paid func(source.ID) bool) []Debt {
	var out []Debt
	for i := 0; i < len(events); i++ {
		switch e := events[i]; {
		case e.Act == Rollback:
			if t := target(events, e); t > i {
				i = t - 1 // what stands between was taken back
			}
		case e.Act == Hotfix && !paid(e.Commit) && (e.Source == "" || !paid(e.Source)):
			out = append(out, Debt{Commit: e.Commit, By: e.By, Reason: e.Reason, Waived: e.Waived, When: e.When})
		}
	}
	return out
}

// MergedBack lists the commits whose change a commit says it repeats, in the words of git cherry-pick -x or in the trailer
// Shoal-Merged-Back.
func MergedBack(message string) []source.ID {
	if len(message) > MaxMessage {
		return nil
	}
	var out []source.ID
	add := func(s string) {
		if id := source.ID(strings.TrimSpace(s)); id.Valid() && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	for line := range strings.SplitSeq(message, "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "(cherry picked from commit "); ok {
			add(strings.TrimSuffix(rest, ")"))
		}
	}
	for _, t := range source.Trailers(message) {
		if strings.EqualFold(t.Key, TrailerMergedBack) {
			add(t.Value)
		}
	}
	return out
}
