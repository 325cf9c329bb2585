package ledger

import (
	"cmp"
	"slices"

	"github.com/shoal-dev/shoal/engine/place"
)

// mostVoters is how many nodes vote at most: a fifth voter lets two fail, a seventh would only make commits slower.
const mostVoters = 5

// seat is a node of the ring, or a member that is to leave it, as the leader sees it.
type seat struct {
	node   place.NodeID
	self   bool // the leader
	wanted bool // belongs to the ring
	member bool // gets the log
	voter  bool
	ready  bool // was heard of just now, and has what is committed
	lost   bool // not heard of, or reported to have failed, for a while
	gone   bool // is not wanted for long enough not to be on its way in
	yields bool // is about to leave the ring: it gets the log, and is not to vote
}

// op is one change of who gets the log and who votes.
type op string

const (
	opNone    op = ""
	opAdd     op = "add"     // as a non-voter
	opPromote op = "promote" // to a voter
	opYield   op = "yield"   // the leader hands over
	opDemote  op = "demote"  // to a non-voter
	opRemove  op = "remove"
)

// nextMove returns the one change that comes next, or opNone. The voters are the largest odd number of nodes that
// belong to the ring and stay in it, five at most. An even number is only passed through: a single new voter would have to be there for
// every commit and let no more fail. A voter that failed keeps its seat until another node can take it.
//
//	voters  wanted  ready non-voters  does
//	1       2       1                 nothing
//	1       3       1                 nothing: the other is not ready
//	1       3       2                 promote, promote
//	3       4       1, one lost       promote, demote the lost one
//	3       2       -                 demote who left, demote, remove who left
func nextMove(seats []seat) (op, place.NodeID) {
	slices.SortFunc(seats, func(a, b seat) int { return cmp.Compare(a.node, b.node) })
	var voters, candidates, worst []seat // worst: who gives up a seat, the first first
	wanted, spare, leads := 0, false, false
	for _, s := range seats {
		stays := s.wanted && !s.yields
		if stays {
			wanted++
		}
		switch {
		case s.wanted && !s.member:
			return opAdd, s.node
		case s.voter:
			voters = append(voters, s)
			spare = spare || !stays || s.lost
			leads = leads || !s.self && stays && s.ready // could take over
			if !s.self {
				worst = append(worst, s)
			}
		case stays && s.ready:
			candidates = append(candidates, s)
		}
	}
	slices.SortStableFunc(worst, func(a, b seat) int { // of equal ones the last by name
		return cmp.Or(rank(a)-rank(b), cmp.Compare(b.node, a.node))
	})
	if wanted == 0 {
		return opNone, "" // nobody knows yet
	}
	target := min(wanted, mostVoters)
	target -= 1 - target%2
	even := len(voters)%2 == 0
	selfWanted := slices.ContainsFunc(voters, func(s seat) bool { return s.self && s.wanted && !s.yields })
	switch {
	case len(candidates) > 0 && len(voters) < target && (even || len(candidates) > 1 || spare),
		len(candidates) > 0 && len(voters) == target && spare:
		return opPromote, candidates[0].node
	case !selfWanted && leads:
		return opYield, ""
	case (even || len(voters) > target) && len(worst) > 0:
		return opDemote, worst[0].node
	}
	for _, s := range seats {
		if s.member && !s.voter && s.gone {
			return opRemove, s.node
		}
	}
	return opNone, ""
}

// rank orders voters by how little they are missed.
func rank(s seat) int {
	switch {
	case !s.wanted, s.yields:
		return 0
	case s.lost:
		return 1
	}
	return 2
}
