package place

import (
	"cmp"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Place chooses the node of a pod; it does not put it there. Of the nodes that are open to it and have room it takes
//
//  1. the most preferred: by weights of preferred node affinity, and of preferred pod affinity and anti-affinity for each
//     pod selected; a taint PreferNoSchedule that is not tolerated weighs -100;
//  2. the one that strains spread constraints with ScheduleAnyway least;
//  3. one of the zone with the fewest pods of its owner;
//  4. one with the fewest pods of its owner;
//  5. one of which the most is free, before the pod, in 64ths of its scarcest resource;
//  6. the one whose id is lowest.
//
// Nodes that are unsteady are the last resort: one is taken only if no other suits, and of these one with the least doubt.
func (b *Board) Place(k *Kind, owner string) Verdict { return b.place(k, owner, nil) }

// PlaceAmong is Place with no other nodes than those named, as when a volume is bound to its node.
func (b *Board) PlaceAmong(k *Kind, owner string, nodes []NodeID) Verdict {
	only := make(bitmap, b.words)
	for _, id := range nodes {
		if i, known := b.index[id]; known {
			only.set(i)
		}
	}
	return b.place(k, owner, only)
}

func (b *Board) place(k *Kind, owner string, only bitmap) Verdict {
	if b.nodes == 0 {
		return Verdict{Reason: "0/0 nodes: no node has joined"}
	}
	s := b.state(k)
	o := b.owner(owner)
	for doubt := range b.ready {
		if doubt > 0 && !s.static.suits.meets(b.ready[doubt]) {
			continue
		}
		if at, of := b.choose(s, o, only, doubt); at >= 0 {
			id := b.spots[at].node.ID
			b.last.node, b.last.number = id, at
			return Verdict{Node: id, Reason: b.reason(at, of, o, doubt), Doubt: doubt}
		}
	}
	return Verdict{Reason: b.explain(s, only)}
}

// choose takes the best of the nodes of one degree of doubt, -1 if none suits, and says how many were open to the pod.
func (b *Board) choose(s *kindState, o *owner, only bitmap, doubt int) (at int32, of int) {
	allow := b.opened(s.static, doubt)
	narrowed := only != nil || s.picky()
	if narrowed {
		b.narrow(s, only, doubt, nil)
		allow = b.allow
	}
	at = -1
	switch {
	case s.weighs():
		at = b.weigh(allow, s, o, doubt)
	case s.static.classes == nil:
		at = b.pick(allow, s, o)
	default:
		some := make(bitmap, b.words)
		for i := 0; at < 0 && i < len(s.static.classes); i++ {
			copy(some, allow)
			some.keep(s.static.classes[i].nodes)
			at = b.pick(some, s, o)
		}
	}
	switch {
	case at < 0:
		return at, 0
	case narrowed || doubt > 0:
		return at, allow.count()
	}
	return at, s.static.count
}

// picky tells whether what is on nodes may keep a pod of the kind off them, other than by the room it takes.
func (s *kindState) picky() bool {
	return len(s.kind.ports)+len(s.apart)+len(s.averse)+len(s.together)+len(s.spreads) > 0
}

// weighs tells whether every node must be looked at, because preferences hang on where pods are.
func (s *kindState) weighs() bool {
	return len(s.likes) > 0 || slices.ContainsFunc(s.kind.spreads, func(c spread) bool { return !c.hard })
}

// teller is told after each step why the nodes that went with it did; nil when nobody asks.
type teller func(why string)

func (t teller) say(what, which string) {
	if t != nil {
		t(what + which)
	}
}

// narrow leaves in b.allow the nodes of a degree of doubt that nothing but their room may still rule out.
func (b *Board) narrow(s *kindState, only bitmap, doubt int, tell teller) {
	allow := b.allow
	copy(allow, b.opened(s.static, doubt))
	if only != nil {
		allow.keep(only)
	}
	tell.say("", "")
	for _, p := range s.kind.ports {
		if taken := b.ports[p]; taken != nil {
			allow.take(taken)
			tell.say("host port is taken: ", p)
		}
	}
	for _, t := range s.apart {
		if on := t.matched.on(); on != nil {
			allow.take(on)
			tell.say("anti-affinity by ", t.key)
		}
	}
	averse := s.averse
	if tell != nil { // in an order that does not hang on who came first
		averse = slices.SortedFunc(slices.Values(averse), func(x, y *term) int { return strings.Compare(x.String(), y.String()) })
	}
	for _, t := range averse {
		if on := t.wanting.on(); on != nil {
			allow.take(on)
			tell.say("anti-affinity of a pod that is there, by ", t.key)
		}
	}
	b.gather(s, tell)
	b.even(s, doubt, tell)
}

// gather holds the pod to its required affinity. The first of a group that wants to be together may go anywhere.
func (b *Board) gather(s *kindState, tell teller) {
	first := true
	for _, t := range s.together {
		first = first && t.matched.total == 0 && t.matches(s.kind)
	}
	for _, t := range s.together {
		switch on := t.matched.on(); {
		case first:
			b.allow.keep(t.matched.topology.keyed)
		case on == nil:
			clear(b.allow)
		default:
			b.allow.keep(on)
		}
		tell.say("affinity by ", t.key)
	}
}

// even holds the pod to the spread constraints that must hold.
func (b *Board) even(s *kindState, doubt int, tell teller) {
	for i := range s.kind.spreads {
		c := &s.kind.spreads[i]
		if !c.hard {
			continue
		}
		t := s.spreads[i].matched
		b.allow.keep(t.topology.keyed)
		tell.say("without the label it is to be spread over, ", c.term.key)
		least, domains := t.least(b.among(s, i, doubt))
		if domains < c.minDomains {
			least = 0
		}
		t.takeAbove(b.allow, least+c.maxSkew-c.self)
		tell.say("uneven spread over ", c.term.key)
	}
}

// among is the nodes whose domains count for the i-th spread constraint. Those that are down or of more doubt than the
// nodes to choose from do not: nobody could make good for them.
func (b *Board) among(s *kindState, i, doubt int) bitmap {
	if doubt > 0 {
		return b.domains(s, i, doubt)
	}
	if s.among == nil || s.marks != b.marks {
		s.among, s.marks = make([]bitmap, len(s.spreads)), b.marks
		for j := range s.among {
			s.among[j] = b.domains(s, j, 0)
		}
	}
	return s.among[i]
}

func (b *Board) domains(s *kindState, i, doubt int) bitmap {
	c := &s.kind.spreads[i]
	nodes := slices.Clone(b.ready[0])
	for _, more := range b.ready[1 : doubt+1] {
		nodes.add(more)
	}
	if !c.anyNode {
		nodes.keep(s.static.affine)
	}
	if c.noTaints {
		nodes.keep(s.static.taints)
	}
	for j := range s.spreads {
		if s.kind.spreads[j].hard == c.hard {
			nodes.keep(s.spreads[j].matched.topology.keyed)
		}
	}
	return nodes
}

// pick takes the best node of allow, by the rules of Place from the third on; -1 if none has room.
func (b *Board) pick(allow bitmap, s *kindState, o *owner) int32 {
	if o == nil {
		return b.first(allow, s, nil, -1)
	}
	for least := nextCount(o.zones, -1); least >= 0; least = nextCount(o.zones, least) {
		for j := range len(o.layers) + 1 {
			some := false
			for z := range b.zones {
				if o.zones[z] == least {
					from, to := b.zones[z].from, b.zones[z].to
					some = o.layers.exactly(j, b.exact[from:to], allow[from:to], from) || some
				}
			}
			if !some {
				continue
			}
			if at := b.first(b.exact, s, o.zones, least); at >= 0 {
				return at
			}
		}
	}
	return -1
}

// nextCount is the smallest count above another, -1 if there is none.
func nextCount(counts []int32, above int32) int32 {
	next := int32(-1)
	for _, c := range counts {
		if c > above && (next < 0 || c < next) {
			next = c
		}
	}
	return next
}

// first returns the node with room that has the most free, of the zones that count so many; nil counts mean all zones.
func (b *Board) first(allow bitmap, s *kindState, counts []int32, count int32) int32 {
	var own []shelf
	if s.static.shelved {
		own = s.static.shelves
	} else {
		own = b.shelves
	}
	var filled uint64
	for z := range b.zones {
		if counts == nil || counts[z] == count {
			filled |= own[z].filled
		}
	}
	for ; filled != 0; filled &^= 1 << (bits.Len64(filled) - 1) {
		l := bits.Len64(filled) - 1
		best := int32(-1)
		for z := range b.zones {
			if own[z].filled&(1<<l) == 0 || counts != nil && counts[z] != count {
				continue
			}
			if at := b.firstIn(&b.zones[z], allow, b.levels[l], s.kind); at >= 0 && (best < 0 || b.spots[at].rank < b.spots[best].rank) {
				best = at
			}
		}
		if best >= 0 {
			return best
		}
	}
	return -1
}

func (b *Board) firstIn(z *zone, allow, at bitmap, k *Kind) int32 {
	for w := z.from; w < z.to; w++ {
		for x := allow[w] & at[w]; x != 0; x &= x - 1 {
			if i := int32(w<<6 | bits.TrailingZeros64(x)); b.fits(i, &k.requests) {
				return i
			}
		}
	}
	return -1
}

// weigh looks at every node of allow.
func (b *Board) weigh(allow bitmap, s *kindState, o *owner, doubt int) int32 {
	least := make([]int64, len(s.spreads))
	for i := range s.kind.spreads {
		if c := &s.kind.spreads[i]; !c.hard {
			least[i], _ = s.spreads[i].matched.least(b.among(s, i, doubt))
		}
	}
	best := int32(-1)
	var most, strain int64
	allow.each(func(i int32) {
		if !b.fits(i, &s.kind.requests) {
			return
		}
		score, pull := b.preference(s, i), s.strain(i, least)
		if best >= 0 && cmp.Or(cmp.Compare(most, score), cmp.Compare(pull, strain), b.compare(i, best, o)) >= 0 {
			return
		}
		best, most, strain = i, score, pull
	})
	return best
}

func (b *Board) preference(s *kindState, i int32) int64 {
	var score int64
	if s.static.scores != nil {
		score = s.static.scores[i]
	}
	for j, t := range s.likes {
		n, _ := t.matched.at(i)
		score += s.kind.likes[j].weight * n
	}
	return score
}

// unlabelled is the strain of a node that lacks the label pods are to be spread over: more than any count.
const unlabelled = 1 << 40

// strain is by how many pods a node's domains are ahead of the emptiest.
func (s *kindState) strain(i int32, least []int64) int64 {
	var sum int64
	for j := range s.kind.spreads {
		c := &s.kind.spreads[j]
		if c.hard {
			continue
		}
		n, there := s.spreads[j].matched.at(i)
		if !there {
			sum += unlabelled
			continue
		}
		sum += n - least[j]
	}
	return sum
}

// compare orders two nodes by the rules of Place from the third on.
func (b *Board) compare(i, j int32, o *owner) int {
	x, y := &b.spots[i], &b.spots[j]
	spread := 0
	if o != nil {
		spread = cmp.Or(cmp.Compare(o.zones[x.zone], o.zones[y.zone]), cmp.Compare(o.layers.of(i), o.layers.of(j)))
	}
	return cmp.Or(spread, cmp.Compare(y.level, x.level), cmp.Compare(x.rank, y.rank))
}

// LastResort is how the reason begins of a pod that goes to an unsteady node.
const LastResort = "unsteady; nothing steadier suits"

// reason says why the pod goes to a node.
func (b *Board) reason(at int32, n int, o *owner, doubt int) string {
	switch {
	case doubt > 0 && n == 1:
		return LastResort
	case doubt > 0:
		return LastResort + ": " + b.reason(at, n, o, 0)
	}
	if n == 1 && b.nodes == 1 {
		return "the only node"
	}
	if n == 1 {
		return "the only one of " + strconv.Itoa(b.nodes) + " nodes that suits"
	}
	p := &b.spots[at]
	r := best{of: n, level: p.level}
	if o != nil {
		r.here, r.inZone = o.layers.of(at), o.zones[p.zone]
	}
	if r == b.last.best && b.last.reason != "" {
		return b.last.reason
	}
	text, said := b.reasons[r]
	if !said {
		if len(b.reasons) >= maxReasons {
			clear(b.reasons)
		}
		text = r.text(len(b.zones) > 1)
		b.reasons[r] = text
	}
	b.last.best, b.last.reason = r, text
	return text
}

// best is why a node was the best. Few reasons differ, so that their texts are kept.
type best struct {
	of                  int
	here, inZone, level int32
}

const maxReasons = 4096

func (r best) text(zones bool) string {
	b := make([]byte, 0, 128)
	b = strconv.AppendInt(append(b, "best of "...), int64(r.of), 10)
	b = append(b, " nodes that suit: "...)
	if zones {
		b = append(strconv.AppendInt(b, int64(r.inZone), 10), " pods of its owner in its zone, "...)
		b = append(strconv.AppendInt(b, int64(r.here), 10), " there, "...)
	} else {
		b = append(strconv.AppendInt(b, int64(r.here), 10), " pods of its owner there, "...)
	}
	return string(append(strconv.AppendInt(b, int64(r.level+1)*100/levels, 10), "% free"...))
}

// explain counts the nodes by what is wrong with them.
func (b *Board) explain(s *kindState, only bitmap) string {
	k := s.kind
	var wrong misfits
	before := make(bitmap, b.words)
	for doubt := range b.ready {
		if !s.static.suits.meets(b.ready[doubt]) {
			continue
		}
		b.narrow(s, only, doubt, func(why string) {
			if why != "" {
				before.take(b.allow)
				before.each(func(int32) { wrong.add(misfit{why, ""}) })
			}
			copy(before, b.allow)
		})
		b.allow.each(func(i int32) { wrong.add(room(k.requests, b.spots[i].node.Capacity, b.spots[i].used)) })
	}
	for i := range b.spots {
		if n := b.spots[i].node; n != nil {
			if why := k.closed(n, only != nil && !only.has(int32(i)), s.static.cordons); why != "" {
				wrong.add(misfit{why, ""})
			}
		}
	}
	return "0/" + strconv.Itoa(b.nodes) + " nodes: " + wrong.String()
}

// closed says why a node is not open to the pod; "" if it is.
func (k *Kind) closed(n *Node, elsewhere, cordons bool) string {
	switch {
	case elsewhere:
		return "not a node it is bound to"
	case n.Down:
		return "down"
	case n.doubt() < 0:
		return "unsteady"
	case n.Cordoned && !cordons:
		return "cordoned"
	}
	return k.unsuited(n)
}
