package source

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"time"
)

// Reader is a node that may read a repository for the others of its ring.
type Reader struct {
	Node  string
	Reads bool // it is up, and its last look at the repository worked
}

const (
	// pollersOfRing is how many nodes look at a repository regularly: when one is lost the other goes on meanwhile.
	pollersOfRing = 2
	// patience is how many intervals a node waits for word of the repository before it looks for itself, and patienceMore what
	// is added to them, for intervals that are shorter than what a word takes on a loaded machine.
	patience     = 3
	patienceMore = time.Second
	// rarely is how many times as long as a poller's is the interval of a node that does not poll, at least; in a larger ring
	// it is as many times as there are nodes, so that those looks of all are no more than one further poller's.
	rarely = 10
)

// Pollers are the nodes that look at a repository regularly, so that the others need not: of those that can read it the
// two that come first in an order that depends on the node and the repository alone. So it is nobody's choice, nodes
// that know the same choose the same, and when one goes only its own place is taken by another.
func Pollers(repository string, readers []Reader) []string {
	type ranked struct {
		node string
		rank [sha256.Size]byte
	}
	var all []ranked
	for _, r := range readers {
		if r.Reads {
			all = append(all, ranked{r.Node, sha256.Sum256([]byte(repository + "\x00" + r.Node))})
		}
	}
	slices.SortFunc(all, func(a, b ranked) int {
		return cmp.Or(slices.Compare(a.rank[:], b.rank[:]), cmp.Compare(a.node, b.node))
	})
	var out []string
	for _, r := range all[:min(len(all), pollersOfRing)] {
		out = append(out, r.node)
	}
	return out
}

// Watch is what a node knows when it asks how often to look at the repository.
type Watch struct {
	Repository string
	Self       Reader
	Others     []Reader // those that are up
	Interval   time.Duration
	Heard      time.Duration // since the repository was last read by anyone of whom this node knows; negative: it never was
}

// Turn is how often a node looks at the repository.
type Turn struct {
	Every   time.Duration
	Polls   bool     // for the ring
	Alone   bool     // it polls although others should, for it has not heard of them: not all at once, then
	Pollers []string // that this node relies on; itself among them if it is one
}

// Turn says how often the node looks. One that is not among the pollers does so rarely: it finds out whether it could, and
// for how long at most the word of another stands for what is in the repository.
func (w Watch) Turn() Turn {
	if len(w.Others) == 0 {
		return Turn{Every: w.Interval, Polls: true, Pollers: []string{w.Self.Node}}
	}
	t := Turn{Every: w.Interval, Pollers: Pollers(w.Repository, append(slices.Clone(w.Others), w.Self))}
	switch {
	case slices.Contains(t.Pollers, w.Self.Node):
		t.Polls = true
	case w.Heard < 0 || w.Heard > w.Patience():
		t.Polls, t.Alone = true, true
	default:
		t.Every *= time.Duration(max(rarely, len(w.Others)+1))
	}
	return t
}

// Patience is how old the newest word of the repository may be. A poller whose own last look is older does not read it,
// whatever became of that look.
func (w Watch) Patience() time.Duration { return patience*w.Interval + patienceMore }
