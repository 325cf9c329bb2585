package place

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// static is what nodes are to kinds that differ in nothing but what they ask for, whatever is on the nodes.
type static struct {
	affine  bitmap  // what selector and affinity allow
	suits   bitmap  // of those, with an architecture and taints that suit
	taints  bitmap  // nodes whose taints are tolerated
	cordons bool    // cordoned nodes do as well
	open    bitmap  // of those that suit, the open ones that are relied on
	count   int     // how many these are
	marks   int     // when that was so, by Board.marks
	scores  []int64 // of preferences, by node; nil when all are the same
	classes []class // nodes by score, the best first; nil when all are the same
	shelved bool    // it has shelves of its own
	shelves []shelf // of those that suit, by zone
}

type class struct {
	score int64
	nodes bitmap
}

func (b *Board) static(k *Kind) *static {
	if s := b.statics[k.statics]; s != nil {
		return s
	}
	s := &static{
		affine: make(bitmap, b.words), suits: make(bitmap, b.words), taints: make(bitmap, b.words),
		cordons: k.Tolerates(cordon), scores: make([]int64, len(b.spots)),
	}
	first, mixed := true, false
	var before int64
	for i := range b.spots {
		n := b.spots[i].node
		if n == nil {
			continue
		}
		affine, tolerated := k.affine(n) == "", k.untolerated(n) == ""
		suits := affine && tolerated && k.runsOn(n)
		s.affine.put(int32(i), affine)
		s.taints.put(int32(i), tolerated)
		s.suits.put(int32(i), suits)
		s.scores[i] = k.score(n)
		if suits {
			mixed = mixed || !first && s.scores[i] != before
			first, before = false, s.scores[i]
		}
	}
	if !mixed {
		s.scores = nil
	} else {
		s.divide()
	}
	b.statics[k.statics] = s
	b.shelveFor(s)
	return s
}

// maxShelved bounds what moving a node to another level costs.
const maxShelved = 32

// shelveFor gives s shelves of its own, unless enough others have some.
func (b *Board) shelveFor(s *static) {
	if len(b.shelved) >= maxShelved {
		return
	}
	s.shelved, s.shelves = true, make([]shelf, len(b.zones))
	s.suits.each(func(i int32) { s.shelves[b.spots[i].zone].add(b.spots[i].level, 1) })
	b.shelved = append(b.shelved, s)
}

// opened returns the nodes of a degree of doubt that suit and are open now.
func (b *Board) opened(s *static, doubt int) bitmap {
	if doubt == 0 && s.open != nil && s.marks == b.marks {
		return s.open
	}
	open := slices.Clone(s.suits)
	open.keep(b.ready[doubt])
	if !s.cordons {
		open.take(b.cordoned)
	}
	if doubt == 0 {
		s.open, s.count, s.marks = open, open.count(), b.marks
	}
	return open
}

// divide puts the nodes that suit into classes by their score.
func (s *static) divide() {
	byScore := make(map[int64]bitmap)
	s.suits.each(func(i int32) {
		if byScore[s.scores[i]] == nil {
			byScore[s.scores[i]] = make(bitmap, len(s.suits))
		}
		byScore[s.scores[i]].set(i)
	})
	for score, nodes := range byScore {
		s.classes = append(s.classes, class{score, nodes})
	}
	slices.SortFunc(s.classes, func(a, b class) int { return cmp.Compare(b.score, a.score) })
}

// affine says how a node does not match nodeSelector or the required affinity; "" if it does.
func (k *Kind) affine(n *Node) string {
	for i := range k.selector {
		r := &k.selector[i]
		if v, there := n.label(r.key); !r.matches(v, there) {
			return "node selector " + r.String() + " does not match"
		}
	}
	if k.required == nil {
		return ""
	}
	for i := range k.required {
		if k.required[i].matches(n) {
			return ""
		}
	}
	if len(k.required) == 1 {
		return "node affinity " + k.required[0].String() + " does not match"
	}
	return "none of its node affinity's terms matches"
}

// untolerated names a taint that keeps the pod off; "" if none does.
func (k *Kind) untolerated(n *Node) string {
	for _, t := range n.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !k.Tolerates(t) {
			return "taint " + t.String() + " is not tolerated"
		}
	}
	return ""
}

// unsuited says why a node is out of the question whatever is on it; "" if it is not.
func (k *Kind) unsuited(n *Node) string {
	if why := k.affine(n); why != "" {
		return why
	}
	if !k.runsOn(n) {
		return "its image is not for " + n.Arch
	}
	return k.untolerated(n)
}

func (k *Kind) runsOn(n *Node) bool { return len(k.archs) == 0 || slices.Contains(k.archs, n.Arch) }

// avoided is what a taint that is only to be avoided weighs: as much as the strongest preference.
const avoided = 100

// score is how much a node is preferred.
func (k *Kind) score(n *Node) int64 {
	var score int64
	for i := range k.preferred {
		if k.preferred[i].term.matches(n) {
			score += k.preferred[i].weight
		}
	}
	for _, t := range n.Taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !k.Tolerates(t) {
			score -= avoided
		}
	}
	return score
}

// term counts the pods that a podTerm selects, by domain; and, if pods want to be apart from those, these pods.
type term struct {
	podTerm
	matched *tally
	wanting *tally // pods with this term among their anti-affinity
}

// kindState is what a board knows of a kind.
type kindState struct {
	kind   *Kind
	static *static
	active []int32 // nodes with its pods, one entry a pod, in no order
	leaves []int32 // and with those that are being stopped

	apart, together, likes, spreads []*term // its own, as in Kind

	among []bitmap // nodes whose domains count for each of its spread constraints
	marks int      // when that was so, by Board.marks

	counted []*term // those that its pods count for
	averse  []*term // those of anti-affinity, of whatever kind, that select it
}

func (b *Board) state(k *Kind) *kindState {
	if b.last.kind == k {
		return b.last.state
	}
	if s := b.kinds[k]; s != nil {
		b.last.kind, b.last.state = k, s
		return s
	}
	if len(b.kinds) >= b.sweepAt {
		b.sweep()
	}
	s := &kindState{kind: k, static: b.static(k)}
	b.kinds[k] = s
	b.introduce(s)
	for i := range k.apart {
		t := b.term(&k.apart[i])
		t.wanting = cmp.Or(t.wanting, newTally(t.matched.topology))
		s.apart = append(s.apart, t)
		b.spreadAverse(t)
	}
	for i := range k.together {
		s.together = append(s.together, b.term(&k.together[i]))
	}
	for i := range k.likes {
		s.likes = append(s.likes, b.term(&k.likes[i].term))
	}
	for i := range k.spreads {
		s.spreads = append(s.spreads, b.term(&k.spreads[i].term))
	}
	return s
}

// meet notes that the kind's pods count for a term, if it selects them.
func (s *kindState) meet(t *term) {
	if !t.matches(s.kind) {
		return
	}
	s.counted = append(s.counted, t)
	if t.wanting != nil {
		s.averse = append(s.averse, t)
	}
}

// spreadAverse tells kinds that a term is one of anti-affinity, which it was not from the first.
func (b *Board) spreadAverse(t *term) {
	for s := range b.acquainted(t) {
		if slices.Contains(s.counted, t) && !slices.Contains(s.averse, t) {
			s.averse = append(s.averse, t)
		}
	}
}

// term returns the count of a selection, begun with the pods that are there.
func (b *Board) term(p *podTerm) *term {
	name := p.String()
	if t := b.terms[name]; t != nil {
		return t
	}
	topology := b.topologies[p.key]
	if topology == nil {
		topology = newTopology(p.key, b.spots, b.words)
		b.topologies[p.key] = topology
	}
	t := &term{podTerm: *p, matched: newTally(topology)}
	b.terms[name] = t
	b.file(t)
	for s := range b.acquainted(t) {
		if !t.matches(s.kind) {
			continue
		}
		s.counted = append(s.counted, t)
		for _, i := range s.active {
			t.matched.add(i, 1)
		}
		if !t.active {
			for _, i := range s.leaves {
				t.matched.add(i, 1)
			}
		}
	}
	return t
}

// seat counts a pod of the kind on a node.
func (s *kindState) seat(i int32, leaving bool, by int64) {
	list := &s.active
	if leaving {
		list = &s.leaves
	}
	if by > 0 {
		*list = append(*list, i)
	} else if at := slices.Index(*list, i); at >= 0 {
		last := len(*list) - 1
		(*list)[at] = (*list)[last]
		*list = (*list)[:last]
	}
	for _, t := range s.counted {
		if !leaving || !t.active {
			t.matched.add(i, by)
		}
	}
	for _, t := range s.apart {
		t.wanting.add(i, by)
	}
}

// pair is a label of pods in a namespace.
type pair struct{ namespace, key, value string }

// meeting is the kinds with a label, and the terms that ask for it among other things.
type meeting struct {
	kinds []*kindState
	terms []*term
}

func (b *Board) meeting(p pair) *meeting {
	m := b.byLabel[p]
	if m == nil {
		m = &meeting{}
		b.byLabel[p] = m
	}
	return m
}

// handle is a label without which a pod does not match; false if there is no such one.
func (t *term) handle() (pair, bool) {
	if len(t.namespaces) != 1 {
		return pair{}, false
	}
	for _, s := range t.selectors {
		for i := range s {
			if s[i].op == corev1.NodeSelectorOpIn && len(s[i].values) == 1 {
				return pair{t.namespaces[0], s[i].key, s[i].values[0]}, true
			}
		}
	}
	return pair{}, false
}

// file puts a term where kinds will meet it.
func (b *Board) file(t *term) {
	if h, ok := t.handle(); ok {
		m := b.meeting(h)
		m.terms = append(m.terms, t)
	} else {
		b.wide = append(b.wide, t)
	}
}

// introduce has a new kind meet the terms that may select it, and puts it where later ones will look.
func (b *Board) introduce(s *kindState) {
	for k, v := range s.kind.labels {
		m := b.meeting(pair{s.kind.namespace, k, v})
		m.kinds = append(m.kinds, s)
		for _, t := range m.terms {
			s.meet(t)
		}
	}
	for _, t := range b.wide {
		s.meet(t)
	}
}

// acquainted are the kinds that a term may select.
func (b *Board) acquainted(t *term) iter.Seq[*kindState] {
	if h, ok := t.handle(); ok {
		return slices.Values(b.meeting(h).kinds)
	}
	return maps.Values(b.kinds)
}

// sweep forgets kinds without pods, and what only they asked for.
func (b *Board) sweep() {
	b.last.kind, b.last.state = nil, nil
	statics, terms := make(map[string]*static), make(map[string]*term)
	used := make(map[*static]bool)
	for k, s := range b.kinds {
		if len(s.active)+len(s.leaves) == 0 {
			delete(b.kinds, k)
			continue
		}
		statics[k.statics], used[s.static] = s.static, true
		for _, list := range [][]*term{s.apart, s.together, s.likes, s.spreads} {
			for _, t := range list {
				terms[t.String()] = t
			}
		}
	}
	b.statics, b.terms, b.wide, b.byLabel = statics, terms, nil, make(map[pair]*meeting)
	b.shelved = slices.DeleteFunc(b.shelved, func(s *static) bool { return !used[s] })
	for _, t := range terms {
		b.file(t)
	}
	for _, s := range b.kinds {
		s.counted, s.averse = nil, nil
		b.introduce(s)
	}
	b.sweepAt = max(1024, 2*len(b.kinds))
}
