package firewall

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"

	"github.com/shoal-dev/shoal/engine/wire"
)

// change is what takes our table from what it is to what it should be. It prints as text and is carried out whole.
type change struct {
	rebuild    bool     // take the table away, if it is there, and make it anew
	newSets    []*set   // to make
	make       []chain  // to make, or to empty and fill again
	remove     []string // chains that nothing uses any more
	removeSets []string
	add        []element
	del        []element // none of a set that is removed
}

func (c *change) empty() bool {
	return !c.rebuild && len(c.newSets)+len(c.make)+len(c.remove)+len(c.removeSets)+len(c.add)+len(c.del) == 0
}

// String says what changes, one thing a line.
func (c *change) String() string {
	var lines []string
	if c.rebuild {
		lines = append(lines, "make the table anew")
	}
	for _, s := range c.newSets {
		lines = append(lines, "make set "+s.name)
	}
	for _, m := range c.make {
		lines = append(lines, fmt.Sprintf("write chain %s, %d rules", m.name, len(m.rules)))
	}
	for _, name := range c.remove {
		lines = append(lines, "remove chain "+name)
	}
	for _, name := range c.removeSets {
		lines = append(lines, "remove set "+name)
	}
	for _, e := range c.del {
		lines = append(lines, "delete "+e.String())
	}
	for _, e := range c.add {
		lines = append(lines, "add "+e.String())
	}
	return strings.Join(lines, "\n")
}

// between returns the change from one set of tables to another, and the usage of the new ones, given that of the
// old. It looks closer only at ports that differ.
func between(instance string, old, new *wire.Tables, used *usage) (*change, *usage) {
	c, u := &change{}, used.clone()
	before, after := newObjects(), newObjects()
	if old.PodCIDR != new.PodCIDR || old.Cluster != new.Cluster || old.ServiceCIDR != new.ServiceCIDR || old.DNS != new.DNS || old.Overlay != new.Overlay || old.Tunnel != new.Tunnel || old.Strict != new.Strict {
		before.addFixed(instance, old)
		after.addFixed(instance, new)
	}
	drop := func(p *wire.Port) {
		elementsOf(p, placeOf(old), func(e element) { c.del = append(c.del, e) })
		u.count(p, placeOf(old), -1)
		before.addSticky(p, placeOf(old))
	}
	put := func(p *wire.Port) {
		elementsOf(p, placeOf(new), func(e element) { c.add = append(c.add, e) })
		u.count(p, placeOf(new), 1)
		after.addSticky(p, placeOf(new))
	}
	i, j := 0, 0
	for i < len(old.Ports) || j < len(new.Ports) {
		switch order := comparePorts(old.Ports, i, new.Ports, j); {
		case order < 0:
			drop(&old.Ports[i])
			i++
		case order > 0:
			put(&new.Ports[j])
			j++
		default:
			if !old.Ports[i].Equal(new.Ports[j]) || placeOf(old) != placeOf(new) {
				drop(&old.Ports[i])
				put(&new.Ports[j])
			}
			i, j = i+1, j+1
		}
	}
	for a := range used.local {
		if u.local[a] == 0 {
			c.del = append(c.del, hairpinElement(a))
		}
	}
	for a := range u.local {
		if used.local[a] == 0 {
			c.add = append(c.add, hairpinElement(a))
		}
	}
	if !slices.Equal(old.Routes, new.Routes) {
		for e := range memberElements(old) {
			c.del = append(c.del, e)
		}
		for e := range memberElements(new) {
			c.add = append(c.add, e) // what stays is taken out of both by tidy
		}
	}
	if !slices.Equal(old.Routes, new.Routes) || old.Tunnel != new.Tunnel || old.PodCIDR != new.PodCIDR {
		for e := range sealedElements(old) {
			c.del = append(c.del, e)
		}
		for e := range sealedElements(new) {
			c.add = append(c.add, e)
		}
	}
	c.exchangeIsolated(old, new, before, after)
	before.addShared(used)
	after.addShared(u)
	c.exchange(before, after)
	c.tidy()
	return c, u
}

// exchange adds to c what makes the second objects of the first.
func (c *change) exchange(before, after objects) {
	for name, k := range after.chains {
		if had, there := before.chains[name]; !there || !had.image().equal(k.image()) {
			c.make = append(c.make, k)
		}
	}
	for name := range before.chains {
		if _, wanted := after.chains[name]; !wanted {
			c.remove = append(c.remove, name)
		}
	}
	for name, s := range after.sets {
		if _, there := before.sets[name]; !there {
			c.newSets = append(c.newSets, s)
		}
	}
	for name := range before.sets {
		if _, wanted := after.sets[name]; !wanted {
			c.removeSets = append(c.removeSets, name)
		}
	}
}

// comparePorts orders the heads of two sorted lists, of which one may be at its end.
func comparePorts(old []wire.Port, i int, new []wire.Port, j int) int {
	if i == len(old) {
		return 1
	}
	if j == len(new) {
		return -1
	}
	a, b := &old[i], &new[j]
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// tidy takes out what is deleted and added unchanged or goes with its set, and sorts the rest.
func (c *change) tidy() {
	byKey := func(a, b element) int {
		return cmp.Or(cmp.Compare(a.set.name, b.set.name), cmp.Compare(a.key, b.key), cmp.Compare(a.value, b.value))
	}
	slices.SortFunc(c.del, byKey)
	slices.SortFunc(c.add, byKey)
	var del, add []element
	i, j := 0, 0
	for i < len(c.del) || j < len(c.add) {
		switch {
		case j == len(c.add) || i < len(c.del) && byKey(c.del[i], c.add[j]) < 0:
			del = append(del, c.del[i])
			i++
		case i == len(c.del) || byKey(c.del[i], c.add[j]) > 0:
			add = append(add, c.add[j])
			j++
		default:
			i, j = i+1, j+1
		}
	}
	slices.Sort(c.remove)
	slices.Sort(c.removeSets)
	del = slices.DeleteFunc(del, func(e element) bool {
		_, gone := slices.BinarySearch(c.removeSets, e.set.name)
		return gone
	})
	c.del, c.add = del, add
	slices.SortFunc(c.make, func(a, b chain) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(c.newSets, func(a, b *set) int { return strings.Compare(a.name, b.name) })
}

// repair returns the change from what was found to what should be, and what is wrong in words. A table that is
// missing, or in which something was made otherwise or added that cannot be taken out, is made anew.
func repair(found, want *image, o objects, instance string) (*change, []string) {
	c := &change{}
	var drift []string
	if found == nil {
		drift, c.rebuild = []string{"table " + tableName(instance) + " is missing"}, true
	} else {
		drift, c.rebuild = differences(found, want, o)
	}
	if c.rebuild {
		found = &image{}
	}
	for name, w := range want.chains {
		if f, there := found.chains[name]; !there || !f.equal(w) {
			c.make = append(c.make, o.chains[name])
		}
	}
	for name := range found.chains {
		if _, wanted := want.chains[name]; !wanted {
			c.remove = append(c.remove, name)
		}
	}
	for name := range want.sets {
		if _, there := found.sets[name]; !there {
			c.newSets = append(c.newSets, o.sets[name])
		}
	}
	for name := range found.sets {
		if _, wanted := want.sets[name]; !wanted {
			c.removeSets = append(c.removeSets, name)
		}
	}
	for name, s := range o.sets {
		if s.clients {
			continue
		}
		have, wanted := found.elements[name], want.elements[name]
		for k, v := range have {
			if w, there := wanted[k]; !there || w != v {
				c.del = append(c.del, element{s, k, v})
			}
		}
		for k, v := range wanted {
			if f, there := have[k]; !there || f != v {
				c.add = append(c.add, element{s, k, v})
			}
		}
	}
	c.tidy()
	return c, drift
}

// differences says what is wrong, sorted, and whether only a new table mends it.
func differences(found, want *image, o objects) (drift []string, rebuild bool) {
	say := func(format string, args ...any) { drift = append(drift, fmt.Sprintf(format, args...)) }
	for name, w := range want.chains {
		f, there := found.chains[name]
		switch {
		case !there:
			say("chain %s is missing", name)
		case f.base != w.base:
			say("chain %s was changed: %s", name, f.base)
			rebuild = true
		case len(f.rules) != len(w.rules):
			say("chain %s has %d rules, want %d", name, len(f.rules), len(w.rules))
		case !f.equal(w):
			say("a rule of chain %s was changed", name)
		}
	}
	for name, f := range found.chains {
		if _, wanted := want.chains[name]; !wanted {
			say("chain %s is not wanted", name)
			rebuild = rebuild || f.base != "" || !removable(name)
		}
	}
	for name, w := range want.sets {
		if f, there := found.sets[name]; !there {
			say("set %s is missing", name)
		} else if f != w {
			say("set %s was changed: %s", name, f)
			rebuild = true
		}
	}
	for name := range found.sets {
		if _, wanted := want.sets[name]; !wanted {
			say("set %s is not wanted", name)
			rebuild = rebuild || !removable(name)
		}
	}
	for name, s := range o.sets {
		have, wanted := found.elements[name], want.elements[name]
		for k, v := range have {
			if w, there := wanted[k]; !there {
				say("%s is not wanted", element{s, k, v})
			} else if w != v {
				say("%s was changed", element{s, k, v})
			}
		}
		for k, v := range wanted {
			if _, there := have[k]; !there {
				say("%s is missing", element{s, k, v})
			}
		}
	}
	slices.Sort(drift)
	return drift, rebuild
}

// removable tells whether a name is one that an earlier Apply may have left, and that nothing fixed refers to.
func removable(name string) bool {
	for _, kind := range []string{"cnt-", "ep-", "aff-", ofIsolation} {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(name, byNode), byLoop), kind) {
			return true
		}
	}
	return false
}

func (e element) String() string {
	text := e.set.name + " { " + fields(e.key, e.set.key)
	switch {
	case e.set.verdicts:
		text += " : goto " + e.value
	case e.set.value != nil:
		text += " : " + fields(e.value, e.set.value)
	}
	return text + " }"
}

// fields prints the parts of a key or value as nft does.
func fields(raw string, types []nftables.SetDatatype) string {
	if len(raw) != 4*len(types) {
		return fmt.Sprintf("%x", raw)
	}
	var parts []string
	for i, t := range types {
		b := []byte(raw[4*i : 4*i+4])
		switch t.Name {
		case nftables.TypeIPAddr.Name:
			parts = append(parts, netip.AddrFrom4([4]byte(b)).String())
		case nftables.TypeInetProto.Name:
			parts = append(parts, protocolName(b[0]))
		case nftables.TypeInetService.Name:
			parts = append(parts, strconv.Itoa(int(b[0])<<8|int(b[1])))
		default:
			parts = append(parts, strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b)), 10))
		}
	}
	return strings.Join(parts, " . ")
}

func protocolName(n byte) string {
	for _, p := range []wire.Protocol{wire.TCP, wire.UDP, wire.SCTP} {
		if have, _ := number(p); have == n {
			return string(p)
		}
	}
	return strconv.Itoa(int(n))
}
