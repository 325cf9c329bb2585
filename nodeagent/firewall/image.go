package firewall

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/wire"
)

// image is the whole of our table: as it should be, or as it was found.
type image struct {
	chains   map[string]imageChain
	sets     map[string]string            // name -> what it was made as
	elements map[string]map[string]string // by name of the set; not those of sets of clients
}

type imageChain struct {
	base  string // type, hook, priority and policy; "" for a chain without
	rules []string
}

func (c imageChain) equal(o imageChain) bool {
	return c.base == o.base && slices.Equal(c.rules, o.rules)
}

// objects are chains and sets by name.
type objects struct {
	chains map[string]chain
	sets   map[string]*set
}

func newObjects() objects { return objects{make(map[string]chain), make(map[string]*set)} }

func (o objects) addSet(sets ...*set) {
	for _, s := range sets {
		o.sets[s.name] = s
	}
}

func (o objects) addChain(chains ...chain) {
	for _, c := range chains {
		o.chains[c.name] = c
	}
}

// addFixed adds what does not depend on Services.
func (o objects) addFixed(instance string, t *wire.Tables) {
	o.addSet(servicePorts, nodePorts, loopPorts, hairpin, members, isolatedPods)
	if t.Tunnel != (cluster.Tunnel{}) {
		o.addSet(sealed)
	}
	o.addChain(fixedChains(instance, t)...)
	o.addChain(isolating(t)...)
}

// addSticky adds what a port has for itself, which is nothing but for session affinity.
func (o objects) addSticky(p *wire.Port, here place) {
	if p.Affinity == 0 {
		return
	}
	for _, e := range entrances(p, here) {
		if e.keep == 0 {
			continue
		}
		proto, _ := number(p.Protocol)
		chains, sets := stickyChains(e.chain, proto, e.to, e.keep)
		o.addChain(chains...)
		o.addSet(sets...)
	}
}

// addShared adds what ports share.
func (o objects) addShared(u *usage) {
	for way, counts := range u.counts {
		key := serviceKey()
		if way != byAddress {
			key = nodeKey()
		}
		most := 0
		for n := range counts {
			most = max(most, n)
			if n > 1 {
				o.addChain(countChain(way, n))
			}
		}
		for i := range most {
			s := endpointSet(way, i)
			o.addSet(s)
			o.addChain(endpointChain(s, key))
		}
	}
}

// usage counts how many ways to a port lead to so many endpoints, and to how many ports a local pod belongs.
type usage struct {
	counts map[string]map[int]int // way -> number of endpoints -> ways to ports
	local  map[netip.Addr]int
}

func newUsage() *usage {
	return &usage{map[string]map[int]int{byAddress: {}, byNode: {}, byLoop: {}}, make(map[netip.Addr]int)}
}

func (u *usage) clone() *usage {
	c := newUsage()
	for way, counts := range u.counts {
		c.counts[way] = maps.Clone(counts)
	}
	c.local = maps.Clone(u.local)
	return c
}

// count adds a port (by 1) or takes it away (by -1).
func (u *usage) count(p *wire.Port, here place, by int) {
	for _, e := range entrances(p, here) {
		if e.keep == 0 {
			add(u.counts[e.way], len(e.to), by)
		}
		for _, to := range e.to {
			if here.pods.Contains(to.Addr()) {
				add(u.local, to.Addr(), by)
			}
		}
	}
}

func add[K comparable](m map[K]int, k K, by int) {
	if m[k] += by; m[k] == 0 {
		delete(m, k)
	}
}

// target is what sound tables make of ours.
func target(instance string, t *wire.Tables) (*image, objects, *usage) {
	u, o := newUsage(), newObjects()
	img := &image{chains: make(map[string]imageChain), sets: make(map[string]string), elements: make(map[string]map[string]string)}
	put := func(e element) {
		m := img.elements[e.set.name]
		if m == nil {
			m = make(map[string]string)
			img.elements[e.set.name] = m
		}
		m[e.key] = e.value
	}
	for i := range t.Ports {
		p := &t.Ports[i]
		elementsOf(p, placeOf(t), put)
		u.count(p, placeOf(t), 1)
		o.addSticky(p, placeOf(t))
	}
	for a := range u.local {
		put(hairpinElement(a))
	}
	for e := range memberElements(t) {
		put(e)
	}
	for e := range sealedElements(t) {
		put(e)
	}
	for i := range t.Isolated {
		isolationElements(&t.Isolated[i], put)
		o.addIsolation(&t.Isolated[i])
	}
	o.addFixed(instance, t)
	o.addShared(u)
	for name, c := range o.chains {
		img.chains[name] = c.image()
	}
	for name, s := range o.sets {
		img.sets[name] = s.definition()
	}
	return img, o, u
}

func (c chain) image() imageChain {
	var i imageChain
	if c.hook != nil {
		i.base = baseText(string(c.hook.kind), uint32(c.hook.at), int32(c.hook.priority), true)
	}
	for _, r := range c.rules {
		i.rules = append(i.rules, r.bytes())
	}
	return i
}

func baseText(kind string, hook uint32, priority int32, accept bool) string {
	return fmt.Sprintf("%s hook %d priority %d accept %t", kind, hook, priority, accept)
}

// bytes is the rule as it goes over netlink, so that a rule read back can be compared whole.
func (r rule) bytes() string {
	if len(r.draw) == 0 {
		return exprBytes(r.exprs)
	}
	elements := make(map[string]string, len(r.draw))
	for i, name := range r.draw {
		elements[string(bigEndian32(uint32(i)))] = name
	}
	return exprBytes(slices.Concat(r.exprs, r.numgen()[:1])) + drawText(elements) // the library cannot read Byteorder
}

// numgen draws the index of one of the chains, in the order of bytes in which nft prints the keys of such a map.
func (r rule) numgen() words {
	return words{
		&expr.Numgen{Register: key0, Modulus: uint32(len(r.draw)), Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: key0, DestRegister: key0, Op: expr.ByteorderHton, Len: 4, Size: 4},
	}
}

// drawText is what a map without a name says.
func drawText(elements map[string]string) string {
	var b strings.Builder
	b.WriteString("draw")
	for _, k := range slices.Sorted(maps.Keys(elements)) {
		fmt.Fprintf(&b, " %x:%s", k, elements[k])
	}
	return b.String()
}

func exprBytes(exprs []expr.Any) string {
	var b bytes.Buffer
	for _, e := range exprs {
		switch x := e.(type) { // the numbers of sets are of one transaction
		case *expr.Lookup:
			c := *x
			c.SetID = 0
			e = &c
		case *expr.Dynset:
			c := *x
			c.SetID = 0
			e = &c
		}
		raw, err := expr.Marshal(unix.NFPROTO_IPV4, e)
		if err != nil {
			fmt.Fprintf(&b, "[%T: %v]", e, err)
			continue
		}
		b.Write(raw)
	}
	return b.String()
}

// definition says what a set is, in words that can be made of one read back too.
func (s *set) definition() string {
	return definition(s.verdicts || s.value != nil, s.clients, s.keyBytes())
}

func definition(isMap, clients bool, keyBytes uint32) string {
	return fmt.Sprintf("map %t clients %t key %d bytes", isMap, clients, keyBytes)
}

func (s *set) keyBytes() uint32 {
	if s.verdicts {
		return 0 // see keyBytes of what was found
	}
	return uint32(4 * len(s.key))
}
