// Package agree is how a ring comes to one mind about a commit: what may be activated is what a majority of its voters
// have rendered alike, each from the commit itself. It has no clock and talks to nobody; the agent and the simulator
// drive the same code.
//
// Every node renders a commit that it finds, puts the bytes on its disk, and gives its vote to the leader: the digest
// of the whole render, the apps that are held at their last good objects, and what it found that the commit's gates go by. The leader keeps the votes of the nodes in
// a Box, in memory alone: a new leader is told again, for who waits for a decision asks again. It renders, too, and
// judges its own render by the votes there are:
//
//	a majority of the voters has the same   the leader activates it
//	no majority can come any more           RenderMismatch: it is refused, and what ran goes on
//	else                                    it waits
//
// So nobody, the leader included, can have the ring run what is not in Git, and a node whose renders differ cannot hold
// the others up.
package agree

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// Vote is what a node's own render of a commit came to. It is given once the bytes are on its disk.
type Vote struct {
	Environment string         `json:"environment"`
	Commit      source.ID      `json:"commit"`
	D           desired.Digest `json:"d"`
	Held        []string       `json:"held,omitempty"`
	Gates       string         `json:"gates,omitempty"` // digest of what its environment's gates go by, as Git has it; "": no gate has a say
}

// Decision is what the leader made of a commit.
type Decision struct {
	Activated bool           `json:"activated"`
	D         desired.Digest `json:"d,omitempty"`       // that was activated
	Refused   string         `json:"refused,omitempty"` // why the ring did not take it
	Held      bool           `json:"held,omitempty"`    // not for what is in it: the ring takes none now, and it is to be asked again
}

// Verdict is what the votes there are make of a render.
type Verdict struct {
	Agreed   bool
	Mismatch string // why it never will be agreed, in words; "" as long as it may be
	Same     int    // voters that have the same
	Of       int    // voters
}

// Judge holds the leader's own vote to those that were cast, by node. Only the voters count.
func Judge(own Vote, voters []place.NodeID, cast map[place.NodeID]Vote) Verdict {
	v := Verdict{Of: len(voters)}
	others := map[place.NodeID]string{}
	for _, n := range voters {
		switch vote, ok := cast[n]; {
		case !ok || vote.Commit != own.Commit:
		case vote.D == own.D && slices.Equal(vote.Held, own.Held) && vote.Gates == own.Gates:
			v.Same++
		case vote.D == own.D && vote.Gates != own.Gates:
			others[n] = fmt.Sprintf("%.12s with other facts for its gates", vote.D)
		default:
			others[n] = fmt.Sprintf("%.12s", vote.D)
		}
	}
	need := v.Of/2 + 1
	v.Agreed = v.Same >= need
	if !v.Agreed && v.Of-len(others) < need { // those who have not said anything would not do
		v.Mismatch = "the voters' renders of it differ: " + describe(own, v.Same, others)
	}
	return v
}

func describe(own Vote, same int, others map[place.NodeID]string) string {
	parts := []string{fmt.Sprintf("%.12s on %d of them", own.D, same)}
	for _, n := range slices.Sorted(maps.Keys(others)) {
		parts = append(parts, fmt.Sprintf("%s on node %s", others[n], n))
	}
	return strings.Join(parts, ", ")
}
