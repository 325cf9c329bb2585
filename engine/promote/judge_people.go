package promote

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
)

// approvals counts who has signed for one of these commits. Nobody who wrote any of what comes in counts, nor who promotes
// it; and one person fills one place, though he be in several groups.
func (j *judge) approvals(commits []source.ID) {
	rules := j.policy.Gates.Approvals
	if len(rules) == 0 {
		return
	}
	groups := map[string][]string{}
	var own, elsewhere []string
	for _, a := range j.facts.Approvals {
		if a.Environment == j.policy.Name && a.User != "" && a.Commit != "" && !slices.Contains(commits, a.Commit) {
			elsewhere = append(elsewhere, a.User+" has approved "+a.Commit.Short())
		}
		if a.User == "" || a.Commit == "" || a.Environment != j.policy.Name || !slices.Contains(commits, a.Commit) {
			continue
		}
		if slices.Contains(j.facts.Authors, a.User) || a.User == j.ask.By || a.User == j.facts.Candidate.Signer {
			if !slices.Contains(own, a.User) {
				own = append(own, a.User)
			}
			continue
		}
		groups[a.User] = append(groups[a.User], a.Groups...)
		if groups[a.User] == nil {
			groups[a.User] = []string{}
		}
	}
	slices.Sort(own)
	users := sortedKeys(groups)

	// A place is one person of one rule. Each user is led to a free place, and those before him move on if they can.
	var places []int // rule of each place
	for r, rule := range rules {
		for range min(max(rule.Count, 0), maxApprovals) {
			places = append(places, r)
		}
	}
	taken := make([]string, len(places))
	fits := func(user string, place int) bool {
		of := rules[places[place]].Of
		return len(of) == 0 || shares(of, groups[user])
	}
	var seat func(user string, tried []bool) bool
	seat = func(user string, tried []bool) bool {
		for p := range places {
			if tried[p] || !fits(user, p) {
				continue
			}
			tried[p] = true
			if taken[p] == "" || seat(taken[p], tried) {
				taken[p] = user
				return true
			}
		}
		return false
	}
	for _, u := range users {
		seat(u, make([]bool, len(places)))
	}

	var by, missing []string
	for r, rule := range rules {
		n := 0
		for p := range places {
			if places[p] != r {
				continue
			}
			if taken[p] == "" {
				n++
			} else {
				by = append(by, taken[p])
			}
		}
		if n > 0 {
			missing = append(missing, fmt.Sprintf("%d more of %s", n, ofWhom(rule)))
		}
	}
	slices.Sort(by)
	text := fmt.Sprintf("%d of %d", len(by), len(places))
	if len(by) > 0 {
		text += ": " + strings.Join(by, ", ")
	}
	if len(own) > 0 {
		text += "; " + strings.Join(own, ", ") + " wrote or promotes it and cannot approve it"
	}
	if len(missing) == 0 {
		j.tell(Gate{Name: GateApprovals, State: Open, Text: text})
		return
	}
	commit := commits[0]
	if commit == "" {
		commit = commits[len(commits)-1]
	}
	if commit != "" {
		text += "; for commit " + commit.Short()
	}
	if slices.Sort(elsewhere); len(elsewhere) > 0 {
		text += ", and " + few(slices.Compact(elsewhere))
	}
	j.tell(Gate{Name: GateApprovals, State: Waiting, Text: text, Turn: strings.Join(missing, ", ")})
}

func ofWhom(a Approvers) string {
	if len(a.Of) == 0 {
		return "anybody with a key"
	}
	return oneOf(a.Of)
}
