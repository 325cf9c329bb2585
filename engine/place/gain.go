package place

import (
	"math/bits"
	"strconv"
)

// clearly is by how much of its scarcest resource one node must be freer than another before a pod is moved for that: a
// sixteenth, in parts of whole.
const clearly = whole / 16

// whole is the load of a node of whose scarcest resource nothing is free.
const whole = 1 << 20

// Gain tells whether a pod that is on one node would clearly be better on another one that suits it, and in what. The pod
// itself must not be on the board. It goes by the rules of Place, with the differences that make moves come to an end:
//
//   - Where other pods are counts only against a move, by preferred pod affinity and by spread constraints with
//     ScheduleAnyway: pods that run after or from each other would never come to rest.
//   - A node must be clearly freer after the move than the other is before it.
//   - Cordons are no reason to go.
//
// Each move that has a gain makes one thing better and none of those before it worse: pods that are where they do not
// suit; pods on unsteady nodes, by doubt; preferences for nodes; pods of one owner in one zone, by the sum of the squares of
// their numbers; the same by node; the loads of the nodes, sorted. So a board on which pods are moved while there is a gain
// comes to rest.
func (b *Board) Gain(k *Kind, owner string, from, to NodeID) (what string, ok bool) {
	i, known := b.index[from]
	j, known2 := b.index[to]
	if !known || !known2 || i == j {
		return "", false
	}
	s, o := b.state(k), b.owner(owner)
	was, is := b.spots[i].node, b.spots[j].node
	if !s.static.suits.has(i) {
		return k.unsuited(was), true
	}
	if d, e := was.doubt(), is.doubt(); d != e {
		return "its node is unsteady", e < d
	}
	if b.preference(s, j) < b.preference(s, i) || b.strains(s, j) > b.strains(s, i) {
		return "", false
	}
	if s.static.scores != nil && s.static.scores[i] != s.static.scores[j] {
		return "the node is preferred", s.static.scores[j] > s.static.scores[i]
	}
	if o != nil {
		if x, y := o.zones[b.spots[i].zone], o.zones[b.spots[j].zone]; x != y {
			return among(x, y, "in its zone"), y < x
		}
		if x, y := o.layers.of(i), o.layers.of(j); x != y {
			return among(x, y, "on its node"), y < x
		}
	}
	before, after := b.load(i, &k.requests), b.load(j, &k.requests)
	if b.load(i, &Resources{}) >= before || after+clearly > before {
		return "", false
	}
	return percent(before) + "% of its node is taken, and " + percent(after) + "% there with it", true
}

// among says how many others of an owner's pods there are.
func among(here, there int32, of string) string {
	others := " others"
	if here == 1 {
		others = " other"
	}
	return strconv.Itoa(int(here)) + others + " of its owner " + of + ", " + strconv.Itoa(int(there)) + " there"
}

func percent(load int64) string { return strconv.FormatInt(load*100/whole, 10) }

// strains is how much a pod of a kind strains spread constraints with ScheduleAnyway on a node.
func (b *Board) strains(s *kindState, i int32) int64 {
	if !s.weighs() {
		return 0
	}
	return s.strain(i, make([]int64, len(s.spreads)))
}

// load is how much of a node's scarcest resource is taken once more is, in parts of whole.
func (b *Board) load(i int32, more *Resources) (most int64) {
	p := &b.spots[i]
	for _, r := range [...][3]int64{{p.have.MilliCPU, p.used.MilliCPU, more.MilliCPU}, {p.have.Memory, p.used.Memory, more.Memory}, {p.have.Pods, p.used.Pods, more.Pods}} {
		if r[0] > 0 {
			hi, lo := bits.Mul64(uint64(min(r[1]+r[2], r[0]-1)), whole)
			part, _ := bits.Div64(hi, lo, uint64(r[0]))
			most = max(most, int64(part))
		}
	}
	return most
}
