package preview

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Gone is a preview that is there and must go.
type Gone struct {
	Name   string `json:"name"`
	Number int    `json:"number,omitempty"`
	Why    string `json:"why"`
}

// Kinds is what is looked for of an environment; a receipt counts each.
var Kinds = []string{"object", "pod", "cgroup", "netns", "link", "rule", "name", "ref"}

// Thing is something on a node, or in the ledger, that belongs to an environment.
type Thing struct {
	Kind        string `json:"kind"` // one of Kinds
	Name        string `json:"name"`
	Node        string `json:"node,omitempty"` // "": in the ledger
	Environment string `json:"environment"`
}

// Receipt says what is left of a preview that must be gone.
type Receipt struct {
	Name  string  `json:"name"`
	Why   string  `json:"why"`
	Clean bool    `json:"clean"` // all nodes have looked, and nothing is left
	Left  []Thing `json:"left,omitempty"`
	// Unseen is the nodes that have not said what they hold: it may be more than Left.
	Unseen []string `json:"unseen,omitempty"`
}

// Receipt is what is left of a preview among all that was found, where unseen nodes could not be asked.
func (g Gone) Receipt(found []Thing, unseen []string) Receipt {
	r := Receipt{Name: g.Name, Why: g.Why, Unseen: slices.Sorted(slices.Values(unseen))}
	for _, t := range found {
		if t.Environment == g.Name {
			r.Left = append(r.Left, t)
		}
	}
	slices.SortFunc(r.Left, func(a, b Thing) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Node, b.Node))
	})
	r.Left = slices.Compact(r.Left)
	r.Clean = len(r.Left) == 0 && len(unseen) == 0
	return r
}

// String is "pr-12 is gone (it is not open any more): 0 objects, 0 pods, ...", or what is left.
func (r Receipt) String() string {
	count := map[string]int{}
	for _, t := range r.Left {
		count[t.Kind]++
	}
	kinds := slices.Clone(Kinds)
	for _, t := range r.Left {
		if !slices.Contains(kinds, t.Kind) {
			kinds = append(kinds, t.Kind)
		}
	}
	var parts []string
	for _, k := range kinds {
		s := "s"
		switch {
		case count[k] == 1, strings.HasSuffix(k, "s"):
			s = ""
		}
		if r.Clean || count[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s%s", count[k], k, s))
		}
	}
	state := "is gone"
	if !r.Clean {
		state = "is not gone yet"
	}
	out := fmt.Sprintf("%s %s (%s)", r.Name, state, r.Why)
	if len(parts) > 0 {
		out += ": " + strings.Join(parts, ", ")
	}
	if len(r.Unseen) > 0 {
		out += "; not heard of: " + strings.Join(r.Unseen, ", ")
	}
	return out
}
