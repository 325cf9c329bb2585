package place

import (
	"iter"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Board has the nodes with what is on them, indexed so that a pod finds its node without a look at every other. It
// holds what the State holds in another form and nothing else: two Boards with the same nodes and seats choose alike,
// however they came about. It is used by one goroutine at a time.
type Board struct {
	spots []spot // by number: by zone, then id; each zone begins a word, so some numbers are of no node
	words int
	index map[NodeID]int32
	zones []zone // by name
	nodes int

	ready    [MaxDoubt + 1]bitmap // those that may be taken, by the doubt in them
	cordoned bitmap
	levels   [levels]bitmap
	shelves  []shelf   // by zone
	shelved  []*static // that have shelves of their own
	reasons  map[best]string
	ports    map[string]bitmap

	owners     map[string]*owner
	statics    map[string]*static
	kinds      map[*Kind]*kindState
	byLabel    map[pair]*meeting // kinds and terms that may meet by a label
	wide       []*term           // terms that any kind may meet
	terms      map[string]*term
	topologies map[string]*topology
	sweepAt    int // kinds at which those without pods are forgotten

	allow, exact bitmap // scratch
	marks        int    // counts what was marked: what was derived from ready and cordoned is of then
	last         last
}

// last is what was asked for last: pods of one owner come one after the other.
type last struct {
	node      NodeID
	number    int32
	ownerName string
	owner     *owner
	kind      *Kind
	state     *kindState
	best      best
	reason    string
}

// levels is how finely nodes are told apart by what is free.
const levels = 64

// spot is a node with what is on it; the zero spot is a number without a node.
type spot struct {
	used, have Resources
	zone       int32
	level      int32
	rank       int32 // among all nodes by id
	node       *Node
}

type zone struct {
	name     string
	from, to int // words
}

// shelf says at which levels a zone has nodes, so that only those are looked at.
type shelf struct {
	filled uint64
	at     [levels]int32 // nodes at each level
}

func (s *shelf) add(level, by int32) {
	if s.at[level] += by; s.at[level] == 0 {
		s.filled &^= 1 << level
	} else {
		s.filled |= 1 << level
	}
}

// owner is where the pods of one owner are, those that are being stopped left out.
type owner struct {
	zones  []int32
	layers layers
	total  int
}

// Seat is one pod on a node.
type Seat struct {
	Node    NodeID
	Kind    *Kind
	Owner   string
	Leaving bool // it was told to stop: it takes room, but is no longer counted among its owner's
}

// NewBoard makes a board of nodes, in any order, each id once. They must not be changed afterwards.
func NewBoard(nodes iter.Seq[*Node]) *Board {
	all := slices.SortedFunc(nodes, func(a, b *Node) int {
		if c := strings.Compare(a.zone(), b.zone()); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	b := &Board{
		index: make(map[NodeID]int32, len(all)), nodes: len(all), sweepAt: 1024,
		ports: make(map[string]bitmap), owners: make(map[string]*owner), statics: make(map[string]*static),
		reasons: make(map[best]string), kinds: make(map[*Kind]*kindState), byLabel: make(map[pair]*meeting), terms: make(map[string]*term), topologies: make(map[string]*topology),
	}
	for i, n := range all {
		if i == 0 || n.zone() != all[i-1].zone() {
			for len(b.spots)%64 != 0 {
				b.spots = append(b.spots, spot{})
			}
			b.zones = append(b.zones, zone{name: n.zone(), from: len(b.spots) / 64})
		}
		z := len(b.zones) - 1
		b.index[n.ID] = int32(len(b.spots))
		b.spots = append(b.spots, spot{node: n, zone: int32(z), have: n.Capacity})
		b.zones[z].to = (len(b.spots) + 63) / 64
	}
	b.words = (len(b.spots) + 63) / 64
	for rank, id := range slices.Sorted(maps.Keys(b.index)) {
		b.spots[b.index[id]].rank = int32(rank)
	}
	b.cordoned = make(bitmap, b.words)
	for d := range b.ready {
		b.ready[d] = make(bitmap, b.words)
	}
	b.allow, b.exact = make(bitmap, b.words), make(bitmap, b.words)
	b.shelves = make([]shelf, len(b.zones))
	for l := range b.levels {
		b.levels[l] = make(bitmap, b.words)
	}
	for i := range b.spots {
		if n := b.spots[i].node; n != nil {
			b.mark(int32(i), n)
			b.spots[i].level = level(&n.Capacity, &Resources{})
			b.enter(int32(i))
		}
	}
	return b
}

// Mark takes up that a node went down, came back, or was cordoned, and the like. It returns false if anything else of it
// differs, or if it is not known: then a new Board must be made.
func (b *Board) Mark(n *Node) bool {
	i, known := b.index[n.ID]
	if !known || !sameFacts(b.spots[i].node, n) {
		return false
	}
	b.spots[i].node = n
	b.mark(i, n)
	return true
}

func (b *Board) mark(i int32, n *Node) {
	of := n.doubt()
	for d := range b.ready {
		b.ready[d].put(i, d == of)
	}
	b.cordoned.put(i, n.Cordoned)
	b.marks++
}

func sameFacts(a, b *Node) bool {
	if a.Name != b.Name || a.Arch != b.Arch || a.zone() != b.zone() || a.Capacity != b.Capacity || !slices.Equal(a.Taints, b.Taints) || len(a.Labels) != len(b.Labels) {
		return false
	}
	for k, v := range a.Labels {
		if w, ok := b.Labels[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// Add puts a pod on the board. One on a node that is not known is left out.
func (b *Board) Add(s Seat) { b.seat(s, 1) }

// Remove takes away a pod that was added with an equal Seat.
func (b *Board) Remove(s Seat) { b.seat(s, -1) }

func (b *Board) seat(s Seat, by int64) {
	i := b.last.number
	if s.Node != b.last.node {
		var known bool
		if i, known = b.index[s.Node]; !known {
			return
		}
	}
	b.use(i, s.Kind.requests, by)
	for _, p := range s.Kind.ports {
		b.port(p, i, by)
	}
	if !s.Leaving {
		b.own(s.Owner, i, by)
	}
	b.state(s.Kind).seat(i, s.Leaving, by)
}

// use counts what a pod asks for, and moves the node to the level it then has.
func (b *Board) use(i int32, r Resources, by int64) {
	p := &b.spots[i]
	p.used = p.used.Plus(r, by)
	if l := level(&p.have, &p.used); l != p.level {
		b.leave(i)
		p.level = l
		b.enter(i)
	}
}

func (b *Board) enter(i int32) {
	p := &b.spots[i]
	b.levels[p.level].set(i)
	b.shelve(i, 1)
}

func (b *Board) leave(i int32) {
	b.levels[b.spots[i].level].clear(i)
	b.shelve(i, -1)
}

func (b *Board) shelve(i, by int32) {
	p := &b.spots[i]
	b.shelves[p.zone].add(p.level, by)
	for _, s := range b.shelved {
		if s.suits.has(i) {
			s.shelves[p.zone].add(p.level, by)
		}
	}
}

// level is how much of a node's scarcest resource is free, in 64ths: 63 is all, 0 next to nothing.
func level(have, used *Resources) int32 {
	least := int64(levels - 1)
	for _, r := range [...][2]int64{{have.MilliCPU, used.MilliCPU}, {have.Memory, used.Memory}, {have.Pods, used.Pods}} {
		if r[0] > 0 {
			least = min(least, max(r[0]-r[1], 0)*levels/r[0])
		}
	}
	return int32(least)
}

func (b *Board) port(p string, i int32, by int64) {
	taken := b.ports[p]
	if taken == nil {
		taken = make(bitmap, b.words)
		b.ports[p] = taken
	}
	taken.put(i, by > 0)
}

func (b *Board) own(name string, i int32, by int64) {
	o := b.owner(name)
	if o == nil {
		o = &owner{zones: make([]int32, len(b.zones))}
		b.owners[name] = o
		b.last.ownerName, b.last.owner = name, o
	}
	o.zones[b.spots[i].zone] += int32(by)
	if o.total += int(by); o.total == 0 {
		delete(b.owners, name)
		b.last.owner = nil
		return
	}
	if by > 0 {
		o.layers.add(i, b.words)
	} else {
		o.layers.remove(i)
	}
}

// owner is where the pods of an owner are, nil if it has none.
func (b *Board) owner(name string) *owner {
	if b.last.owner == nil || b.last.ownerName != name {
		b.last.ownerName, b.last.owner = name, b.owners[name]
	}
	return b.last.owner
}

// fits tells whether a node has room.
func (b *Board) fits(i int32, r *Resources) bool {
	p := &b.spots[i]
	have := &p.have
	return p.used.Pods < have.Pods &&
		(r.MilliCPU == 0 || r.MilliCPU <= have.MilliCPU-p.used.MilliCPU) &&
		(r.Memory == 0 || r.Memory <= have.Memory-p.used.Memory) &&
		(r.Ephemeral == 0 || r.Ephemeral <= have.Ephemeral-p.used.Ephemeral)
}

// cordon is the taint that a cordoned node stands for.
var cordon = Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
