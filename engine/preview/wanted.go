package preview

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
)

// MaxPulls bounds the pull requests that are looked at; of more, the first by number are, and nothing is taken away.
const MaxPulls = 10_000

// Environment is a preview that should be there.
type Environment struct {
	Name    string    `json:"name"` // also its namespace
	Number  int       `json:"number,omitempty"`
	Branch  string    `json:"branch"` // as it is called; data, never a path
	Author  string    `json:"author"`
	Head    source.ID `json:"head"`   // that is shown
	Commit  source.ID `json:"commit"` // that runs: the merge of Head with its base
	Base    source.ID `json:"base,omitempty"`
	Since   int64     `json:"since"`             // when it was first wanted, ms
	Changed int64     `json:"changed"`           // when Commit was last another, ms
	Expires int64     `json:"expires,omitempty"` // ms; 0: not by itself
	Pinned  bool      `json:"pinned,omitempty"`
	Asleep  bool      `json:"asleep,omitempty"` // its pods stop until somebody asks for it
	Sandbox Sandbox   `json:"sandbox,omitzero"`
	Note    string    `json:"note,omitempty"` // why it does not show the newest head
	// Nodes are labels of the nodes that it may run on, as the base said when Commit was made; Each is what it may ask for, as the base says now.
	Nodes map[string]string `json:"nodes,omitempty"`
	Each  map[string]string `json:"each,omitempty"`
}

// Have is a preview that is there.
type Have struct {
	Environment
	Asked int64 `json:"asked,omitempty"` // when somebody last asked for it, ms
}

// Waiting is a pull request without a preview, and why.
type Waiting struct {
	Name   string `json:"name"`
	Number int    `json:"number,omitempty"`
	Branch string `json:"branch"`
	Place  int    `json:"place,omitempty"` // in the queue for a free preview, from 1; 0: it stands in none
	Why    string `json:"why"`
}

// Input is what Wanted judges.
type Input struct {
	Policy Policy
	Pulls  []Pull // all that are open
	// Complete says that Pulls is the whole list. If not, nothing that is there is taken away.
	Complete bool
	// Closed is numbers of pull requests that the forge says are closed: they go though the list is not complete. Unknown is numbers
	// that it neither lists nor finds: that is no proof, so they stay until their time is over.
	Closed, Unknown []int
	Have            []Have
	// Taken is names of environments that shoal.cue declares, and Refs their refs: no preview takes either.
	Taken, Refs []string
}

// Result is which previews should be there, which pull requests have none and why, and what must go; each by name.
type Result struct {
	Environments []Environment `json:"environments"`
	Waiting      []Waiting     `json:"waiting,omitempty"`
	Gone         []Gone        `json:"gone,omitempty"`
	Next         int64         `json:"next,omitempty"` // when time alone changes something next, ms; 0: never
}

// Wanted says which previews should be there at now, ms. Who has one keeps it while he may; free ones go to the author who
// has the fewest, then to who has waited longest.
func Wanted(in Input, now int64) Result {
	w := wanting{in: in, now: now, have: map[string]Have{}, lost: map[string]string{}, seen: map[string]bool{}, count: map[string]int{}}
	for _, h := range in.Have {
		w.have[h.Name] = h
	}
	pulls := distinct(in.Pulls)
	if len(pulls) > MaxPulls {
		pulls = pulls[:MaxPulls]
		w.in.Complete = false // what was not looked at is not closed
	}
	for _, p := range pulls {
		w.judge(p)
	}
	w.keepUnseen()
	w.seat()
	return w.result()
}

type wanting struct {
	in   Input
	now  int64
	have map[string]Have

	kept, queue []candidate
	granted     []candidate
	waiting     []Waiting
	lost        map[string]string // previews that are there and must go: why
	seen        map[string]bool
	count       map[string]int // granted previews by author
}

// candidate is a preview that may be there.
type candidate struct {
	env    Environment
	opened int64
	turn   int // how many of its author come before it
}

// distinct sorts pull requests by number and branch, and leaves one of each name: the last that was updated.
func distinct(pulls []Pull) []Pull {
	sorted := slices.Clone(pulls)
	slices.SortStableFunc(sorted, func(a, b Pull) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(branchOf(a), branchOf(b)), cmp.Compare(b.Updated, a.Updated), cmp.Compare(a.Head, b.Head))
	})
	return slices.CompactFunc(sorted, func(a, b Pull) bool { return a.Number == b.Number && branchOf(a) == branchOf(b) })
}

// branchOf tells branches apart; of pull requests the number does.
func branchOf(p Pull) string {
	if p.Number > 0 {
		return ""
	}
	return p.Branch
}

// judge decides on one pull request by itself: it may have a preview, or it may not and why.
func (w *wanting) judge(p Pull) {
	name := Name(p)
	h, there := w.have[name]
	if w.seen[name] {
		return
	}
	w.seen[name] = true
	why := w.unwanted(p, name)
	env := Environment{
		Name: name, Number: p.Number, Branch: p.Branch, Author: p.Author, Head: p.Head, Commit: p.Merge.Commit, Base: p.Merge.Base,
		Since: w.now, Pinned: w.in.Policy.pinned(p),
	}
	if p.Fork {
		env.Sandbox = sandboxed
	}
	if there {
		env.Since = h.Since
	}
	if ttl := w.in.Policy.TTL.Milliseconds(); ttl > 0 && !env.Pinned {
		env.Expires = p.Updated + ttl
		if why == "" && env.Expires <= w.now {
			why = fmt.Sprintf("its head was not updated for %s", w.in.Policy.TTL)
		}
	}
	if why == "" && (p.Merge.Commit == "" || p.Merge.Head != p.Head) {
		note := "its merge with " + orBase(p.Base) + " is not made yet"
		if p.Merge.Head == p.Head && len(p.Merge.Conflicts) > 0 {
			note = "it conflicts with " + orBase(p.Base) + " in " + few(p.Merge.Conflicts)
		} else if p.Merge.Head == p.Head && p.Merge.Why != "" {
			note = "it cannot be merged with " + orBase(p.Base) + ": " + p.Merge.Why
		}
		if there && h.Commit != "" && h.Sandbox == env.Sandbox {
			env.Head, env.Commit, env.Base, env.Note = h.Head, h.Commit, h.Base, note
		} else {
			why = note
		}
	}
	switch {
	case why == "" && there:
		w.kept = append(w.kept, candidate{env: env, opened: p.Opened})
	case why == "":
		w.queue = append(w.queue, candidate{env: env, opened: p.Opened})
	case there && !w.in.Complete:
		h.Note = "the list of pull requests is not complete, so nothing is taken away; else: " + why
		w.kept = append(w.kept, candidate{env: h.Environment, opened: p.Opened})
	default:
		w.wait(env, 0, why)
		if there {
			w.lost[name] = why
		}
	}
}

func (w *wanting) wait(env Environment, place int, why string) {
	w.waiting = append(w.waiting, Waiting{Name: env.Name, Number: env.Number, Branch: env.Branch, Place: place, Why: why})
}

// Unwanted says why a pull request may have no preview, whatever its merge and the quota say; "" if it may.
func Unwanted(in Input, p Pull) string {
	w := wanting{in: in}
	return w.unwanted(p, Name(p))
}

// unwanted says why a pull request may have no preview, whatever its merge and the quota say.
func (w *wanting) unwanted(p Pull, name string) string {
	policy := w.in.Policy
	ref := source.FullRefName(p.Branch)
	switch {
	case policy.From == FromPulls && p.Number <= 0:
		return "previews are of pull requests, and this is a branch"
	case policy.From != FromPulls && p.Number > 0:
		return "previews are of branches " + quoted(policy.From) + ", and this is a pull request"
	case policy.From != FromPulls && !matches(policy.From, p.Branch):
		return "its branch is none of " + quoted(policy.From)
	case policy.From != FromPulls && (p.Branch == policy.Base || slices.ContainsFunc(w.in.Refs, func(r string) bool { return source.FullRefName(r) == ref })):
		return "its branch is that of an environment"
	case slices.Contains(w.in.Taken, name):
		return "an environment is called " + name
	case policy.Base != "" && p.Number > 0 && p.Base != policy.Base:
		return fmt.Sprintf("it goes to %s, and previews are of what goes to %s", quoted(p.Base), quoted(policy.Base))
	case !p.Head.Valid():
		return "its head is no commit"
	case p.Draft && !policy.Drafts:
		return "it is a draft"
	case p.Fork && policy.Forks.Approval == "":
		return "it comes from a fork, and forks get no previews"
	case p.Fork && p.Approved != p.Head:
		return fmt.Sprintf("it comes from a fork; a maintainer approves commit %s by the label %q", p.Head.Short(), policy.Forks.Approval)
	}
	return ""
}

// keepUnseen keeps what is there and was not listed, unless that is proof that it is closed.
func (w *wanting) keepUnseen() {
	for _, h := range w.in.Have {
		if w.seen[h.Name] {
			continue
		}
		over := h.Expires != 0 && !h.Pinned && h.Expires <= w.now
		switch unknown := slices.Contains(w.in.Unknown, h.Number); {
		case slices.Contains(w.in.Closed, h.Number):
			w.lost[h.Name] = "it is closed"
			continue
		case unknown && over:
			w.lost[h.Name] = "the forge neither lists nor finds it, and its time is over"
			continue
		case unknown:
			h.Note = "the forge neither lists nor finds it, which is no proof that it is closed"
		case w.in.Complete:
			w.lost[h.Name] = "it is not open any more"
			continue
		default:
			h.Note = "the list of pull requests is not complete, so nothing is taken away"
		}
		w.kept = append(w.kept, candidate{env: h.Environment, opened: h.Since})
	}
}

// seat gives out previews: first to who has one, then one after the other to the author who has the fewest.
func (w *wanting) seat() {
	perAuthor := w.in.Policy.PerAuthor
	if perAuthor == 0 {
		perAuthor = MaxQuota
	}
	slices.SortFunc(w.kept, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(bit(!a.env.Pinned), bit(!b.env.Pinned)), cmp.Compare(a.env.Since, b.env.Since), byName(a, b))
	})
	for _, c := range w.kept {
		why := ""
		switch {
		case !w.in.Complete:
		case len(w.granted) >= w.in.Policy.Quota:
			why = fmt.Sprintf("only %d previews may be there now", w.in.Policy.Quota)
		case w.count[c.env.Author] >= perAuthor:
			why = fmt.Sprintf("%s may have only %d previews now", quoted(c.env.Author), perAuthor)
		}
		if why == "" {
			w.grant(c)
		} else {
			w.lost[c.env.Name] = why
			w.wait(c.env, 0, why)
		}
	}
	// Every author's pull requests stand in a line, and all first ones come before all second ones.
	slices.SortFunc(w.queue, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.opened, b.opened), byName(a, b)) })
	turns := maps.Clone(w.count)
	for i := range w.queue {
		c := &w.queue[i]
		c.turn = turns[c.env.Author]
		turns[c.env.Author]++
	}
	slices.SortStableFunc(w.queue, func(a, b candidate) int { return cmp.Compare(a.turn, b.turn) })
	place := 0
	for _, c := range w.queue {
		switch author := c.env.Author; {
		case w.count[author] >= perAuthor:
			w.wait(c.env, 0, fmt.Sprintf("%s has %d previews, and may have no more", quoted(author), w.count[author]))
		case len(w.granted) >= w.in.Policy.Quota:
			place++
			w.wait(c.env, place, fmt.Sprintf("all %d previews are taken; it is number %d in the queue", w.in.Policy.Quota, place))
		default:
			w.grant(c)
		}
	}
}

func (w *wanting) grant(c candidate) {
	w.granted = append(w.granted, c)
	w.count[c.env.Author]++
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func byName(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.env.Number, b.env.Number), cmp.Compare(a.env.Name, b.env.Name))
}

func (w *wanting) result() Result {
	r := Result{Environments: []Environment{}}
	soon := func(t int64) {
		if t > w.now && (r.Next == 0 || t < r.Next) {
			r.Next = t
		}
	}
	for _, c := range w.granted {
		env := c.env
		env.Changed = w.now
		h, there := w.have[env.Name]
		env.Nodes, env.Each = w.in.Policy.Nodes, w.in.Policy.Each
		if there && h.Commit == env.Commit {
			env.Changed, env.Nodes = h.Changed, h.Nodes // who renders it anew comes to what it was
		}
		if idle := w.in.Policy.Idle.Milliseconds(); idle > 0 {
			since := max(env.Changed, h.Asked) // who pushed will look
			env.Asleep = since+idle <= w.now
			soon(since + idle)
		}
		soon(env.Expires)
		r.Environments = append(r.Environments, env)
	}
	slices.SortFunc(r.Environments, func(a, b Environment) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Name, b.Name))
	})
	r.Waiting = w.waiting
	slices.SortStableFunc(r.Waiting, func(a, b Waiting) int { return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Name, b.Name)) })
	for _, h := range w.in.Have {
		if why, ok := w.lost[h.Name]; ok {
			r.Gone = append(r.Gone, Gone{Name: h.Name, Number: h.Number, Why: why})
		}
	}
	slices.SortFunc(r.Gone, func(a, b Gone) int { return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Name, b.Name)) })
	r.Gone = slices.Compact(r.Gone)
	return r
}

func orBase(base string) string {
	if base == "" {
		return "its base"
	}
	return quoted(base)
}

// quoted is what a stranger wrote, fit for a line.
func quoted(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	q := fmt.Sprintf("%q", s)
	if len(q) == len(s)+2 && s != "" && !strings.ContainsAny(s, " `<>&@#") {
		return s
	}
	return q
}

// few is the first names of a list and how many more there are.
func few(names []string) string {
	const most = 3
	var out []string
	for _, n := range names[:min(most, len(names))] {
		out = append(out, quoted(n))
	}
	s := strings.Join(out, ", ")
	if len(names) > most {
		s += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return s
}
