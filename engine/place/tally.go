package place

import "math/bits"

// topology is how a label divides the nodes: those with the same value are one domain.
type topology struct {
	key    string
	domain []int32  // of each node, -1 without the label
	nodes  []bitmap // of each domain; nil with single
	keyed  bitmap   // nodes that have the label
	single bool     // every domain is one node, and has its number
}

func newTopology(key string, spots []spot, words int) *topology {
	t := &topology{key: key, domain: make([]int32, len(spots)), keyed: make(bitmap, words)}
	byValue := make(map[string]int32)
	keyed := 0
	for i := range spots {
		t.domain[i] = -1
		if spots[i].node == nil {
			continue
		}
		value, there := spots[i].node.label(key)
		if !there {
			continue
		}
		keyed++
		t.keyed.set(int32(i))
		d, known := byValue[value]
		if !known {
			d = int32(len(byValue))
			byValue[value] = d
		}
		t.domain[i] = d
	}
	if len(byValue) == keyed {
		t.single = true
		t.keyed.each(func(i int32) { t.domain[i] = i })
		return t
	}
	t.nodes = make([]bitmap, len(byValue))
	for d := range t.nodes {
		t.nodes[d] = make(bitmap, words)
	}
	t.keyed.each(func(i int32) { t.nodes[t.domain[i]].set(i) })
	return t
}

// tally counts pods by domain.
type tally struct {
	topology *topology
	total    int64
	layers   layers  // by node, with a single topology
	count    []int64 // by domain, otherwise
	some     bitmap  // nodes of domains that have any, otherwise
}

func newTally(t *topology) *tally {
	if t.single {
		return &tally{topology: t}
	}
	return &tally{topology: t, count: make([]int64, len(t.nodes)), some: make(bitmap, len(t.keyed))}
}

// add counts a pod on a node (by 1) or takes it away (by -1).
func (t *tally) add(node int32, by int64) {
	d := t.topology.domain[node]
	if d < 0 {
		return
	}
	t.total += by
	switch {
	case t.topology.single && by > 0:
		t.layers.add(node, len(t.topology.keyed))
	case t.topology.single:
		t.layers.remove(node)
	default:
		t.count[d] += by
		if by > 0 && t.count[d] == 1 {
			for i, w := range t.topology.nodes[d] {
				t.some[i] |= w
			}
		}
		if by < 0 && t.count[d] == 0 {
			t.some.take(t.topology.nodes[d])
		}
	}
}

// on is the nodes in domains that have any; nil for none.
func (t *tally) on() bitmap {
	if !t.topology.single {
		return t.some
	}
	if len(t.layers) > 0 {
		return t.layers[0]
	}
	return nil
}

// at is the count in a node's domain, and whether it is in one.
func (t *tally) at(node int32) (int64, bool) {
	d := t.topology.domain[node]
	switch {
	case d < 0:
		return 0, false
	case t.topology.single:
		return int64(t.layers.of(node)), true
	}
	return t.count[d], true
}

// least returns the smallest count of the domains that have one of the nodes, and how many domains these are.
func (t *tally) least(among bitmap) (least int64, domains int64) {
	if t.topology.single {
		for w, x := range among {
			domains += int64(bits.OnesCount64(x & t.topology.keyed[w]))
		}
		for least < int64(len(t.layers)) && domains > 0 {
			for w, x := range among {
				if x&t.topology.keyed[w]&^t.layers[least][w] != 0 {
					return least, domains
				}
			}
			least++
		}
		return least, domains
	}
	for d, nodes := range t.topology.nodes {
		if !nodes.meets(among) {
			continue
		}
		if domains == 0 || t.count[d] < least {
			least = t.count[d]
		}
		domains++
	}
	return least, domains
}

// takeAbove removes from allow the nodes of domains with more than most.
func (t *tally) takeAbove(allow bitmap, most int64) {
	switch {
	case most < 0:
		clear(allow)
	case !t.topology.single:
		for d, c := range t.count {
			if c > most {
				allow.take(t.topology.nodes[d])
			}
		}
	case most < int64(len(t.layers)):
		allow.take(t.layers[most])
	}
}
