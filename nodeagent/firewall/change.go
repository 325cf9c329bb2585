package firewall

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"

	"github.com/shoal-dev/shoal/engine/wire"
)

// change is what takes our table from what it is to what it should be. It prints as text and is carried out whole.
type change struct {
	rebuild bool     // take the table away, if it is there, and make it anew
	make    []chain  // to add, or to empty and fill again
	remove  []string // chains that nothing uses any more
	add     []element
	del     []element
}

func (c *change) empty() bool {
	return !c.rebuild && len(c.make) == 0 && len(c.remove) == 0 && len(c.add) == 0 && len(c.del) == 0
}

// String says what changes, one thing a line, sorted.
func (c *change) String() string {
	var lines []string
	if c.rebuild {
		lines = append(lines, "make the table anew")
	}
	for _, m := range c.make {
		lines = append(lines, fmt.Sprintf("write chain %s: %d rules", m.name, len(m.rules)))
	}
	for _, name := range c.remove {
		lines = append(lines, "remove chain "+name)
	}
	for _, e := range c.del {
		lines = append(lines, "delete "+e.String())
	}
	for _, e := range c.add {
		lines = append(lines, "add "+e.String())
	}
	return strings.Join(lines, "\n")
}

// between returns the change from one set of tables to another, from the ports that differ alone, and brings u
// (the usage of the old ones) up to date.
func between(instance string, old, new *wire.Tables, u *usage) (*change, error) {
	c := fixedChange(instance, old, new)
	before := usage{maps.Clone(u.chains), maps.Clone(u.local)}
	drop := func(p *wire.Port) {
		elementsOf(p, old.PodCIDR, func(e element) { c.del = append(c.del, e) }, u.drop)
	}
	add := func(p *wire.Port) {
		elementsOf(p, new.PodCIDR, func(e element) { c.add = append(c.add, e) }, u.add)
	}
	i, j := 0, 0
	for i < len(old.Ports) || j < len(new.Ports) {
		switch order := comparePorts(old.Ports, i, new.Ports, j); {
		case order < 0:
			drop(&old.Ports[i])
			i++
		case order > 0:
			add(&new.Ports[j])
			j++
		default:
			if !old.Ports[i].Equal(new.Ports[j]) {
				drop(&old.Ports[i])
				add(&new.Ports[j])
			}
			i, j = i+1, j+1
		}
	}
	for a := range before.local {
		if u.local[a] == 0 {
			c.del = append(c.del, hairpinElement(a))
		}
	}
	for a := range u.local {
		if before.local[a] == 0 {
			c.add = append(c.add, hairpinElement(a))
		}
	}
	for name := range before.chains {
		if u.chains[name] == 0 {
			c.remove = append(c.remove, name)
		}
	}
	for name := range u.chains {
		if before.chains[name] == 0 {
			made, err := countChain(name)
			if err != nil {
				return nil, err
			}
			c.make = append(c.make, made)
		}
	}
	c.tidy()
	return c, nil
}

// fixedChange starts a change with those fixed chains that differ (another pod CIDR, another DNS address).
func fixedChange(instance string, old, new *wire.Tables) *change {
	c := &change{}
	if old.PodCIDR == new.PodCIDR && old.Cluster == new.Cluster && old.ServiceCIDR == new.ServiceCIDR && old.DNS == new.DNS {
		return c
	}
	have := make(map[string]imageChain)
	for _, k := range fixedChains(instance, old) {
		have[k.name] = k.image()
	}
	for _, k := range fixedChains(instance, new) {
		if !have[k.name].equal(k.image()) {
			c.make = append(c.make, k)
		}
	}
	return c
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

// tidy takes out what is deleted and added unchanged, and sorts the rest.
func (c *change) tidy() {
	byKey := func(a, b element) int {
		return cmp.Or(cmp.Compare(a.set.index, b.set.index), cmp.Compare(a.key, b.key), cmp.Compare(a.value, b.value))
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
	c.del, c.add = del, add
	slices.Sort(c.remove)
	slices.SortFunc(c.make, func(a, b chain) int { return strings.Compare(a.name, b.name) })
}

func (c imageChain) equal(o imageChain) bool {
	return c.base == o.base && slices.Equal(c.rules, o.rules)
}

// repair returns the change from what was found to what should be, and what is wrong in words. A table that is
// missing, or whose chains or sets were made otherwise, is made anew.
func repair(found, want *image, instance string, t *wire.Tables) (*change, []string, error) {
	if found == nil {
		return everything(want, instance, t, []string{"table " + tableName(instance) + " is missing"})
	}
	drift, rebuild := differences(found, want)
	if rebuild {
		return everything(want, instance, t, drift)
	}
	c := &change{}
	byName, err := chainsOf(want, instance, t)
	if err != nil {
		return nil, nil, err
	}
	for name, w := range want.chains {
		if f, there := found.chains[name]; !there || !f.equal(w) {
			c.make = append(c.make, byName[name])
		}
	}
	for name := range found.chains {
		if _, wanted := want.chains[name]; !wanted {
			c.remove = append(c.remove, name)
		}
	}
	for i, s := range sets {
		if s.dynamic {
			continue
		}
		for k, v := range found.elements[i] {
			if w, wanted := want.elements[i][k]; !wanted || w != v {
				c.del = append(c.del, element{s, k, v})
			}
		}
		for k, v := range want.elements[i] {
			if f, there := found.elements[i][k]; !there || f != v {
				c.add = append(c.add, element{s, k, v})
			}
		}
	}
	c.tidy()
	return c, drift, nil
}

// everything makes the table anew.
func everything(want *image, instance string, t *wire.Tables, drift []string) (*change, []string, error) {
	c := &change{rebuild: true}
	byName, err := chainsOf(want, instance, t)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range byName {
		c.make = append(c.make, k)
	}
	for i, s := range sets {
		for k, v := range want.elements[i] {
			c.add = append(c.add, element{s, k, v})
		}
	}
	c.tidy()
	return c, drift, nil
}

func chainsOf(want *image, instance string, t *wire.Tables) (map[string]chain, error) {
	byName := make(map[string]chain, len(want.chains))
	for _, k := range fixedChains(instance, t) {
		byName[k.name] = k
	}
	for name := range want.chains {
		if _, fixed := byName[name]; fixed {
			continue
		}
		k, err := countChain(name)
		if err != nil {
			return nil, err
		}
		byName[name] = k
	}
	return byName, nil
}

// differences says what is wrong, sorted, and whether only a new table mends it.
func differences(found, want *image) (drift []string, rebuild bool) {
	for name, w := range want.chains {
		f, there := found.chains[name]
		switch {
		case !there:
			drift = append(drift, "chain "+name+" is missing")
		case f.base != w.base:
			drift = append(drift, fmt.Sprintf("chain %s was changed: %s", name, f.base))
			rebuild = true
		case len(f.rules) != len(w.rules):
			drift = append(drift, fmt.Sprintf("chain %s has %d rules, want %d", name, len(f.rules), len(w.rules)))
		case !f.equal(w):
			drift = append(drift, "a rule of chain "+name+" was changed")
		}
	}
	for name, f := range found.chains {
		if _, wanted := want.chains[name]; !wanted {
			drift = append(drift, "chain "+name+" is not ours")
			rebuild = rebuild || f.base != "" || !isCountChain(name)
		}
	}
	for name, w := range want.sets {
		if f, there := found.sets[name]; !there {
			drift, rebuild = append(drift, "set "+name+" is missing"), true
		} else if f != w {
			drift, rebuild = append(drift, fmt.Sprintf("set %s was changed: %s", name, f)), true
		}
	}
	for name := range found.sets {
		if _, wanted := want.sets[name]; !wanted {
			drift, rebuild = append(drift, "set "+name+" is not ours"), true
		}
	}
	for i, s := range sets {
		if s.dynamic {
			continue
		}
		for k, v := range found.elements[i] {
			if w, wanted := want.elements[i][k]; !wanted {
				drift = append(drift, element{s, k, v}.String()+" is not ours")
			} else if w != v {
				drift = append(drift, element{s, k, v}.String()+" was changed")
			}
		}
		for k, v := range want.elements[i] {
			if _, there := found.elements[i][k]; !there {
				drift = append(drift, element{s, k, v}.String()+" is missing")
			}
		}
	}
	slices.Sort(drift)
	return drift, rebuild
}

func isCountChain(name string) bool {
	_, err := countChain(name)
	return err == nil
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
