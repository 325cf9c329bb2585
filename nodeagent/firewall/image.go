package firewall

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// image is the whole of our table: as it should be, or as it was found.
type image struct {
	chains   map[string]imageChain
	sets     map[string]string // name -> what it was defined as; absent ones are missing
	elements [len(sets)]map[string]string
}

type imageChain struct {
	base  string // type, hook, priority and policy; "" for a chain without
	rules []string
}

// target is what t makes of our table. Two ports that claim one address and port, or one node port, are an error.
func target(instance string, t *wire.Tables) (*image, *usage, error) {
	img := &image{chains: make(map[string]imageChain), sets: make(map[string]string)}
	for i := range img.elements {
		img.elements[i] = make(map[string]string)
	}
	for _, s := range sets {
		img.sets[s.name] = s.definition()
	}
	u := &usage{chains: make(map[string]int), local: make(map[netip.Addr]int)}
	for i := range t.Ports {
		p := &t.Ports[i]
		var twice error
		elementsOf(p, t.PodCIDR, func(e element) {
			if _, taken := img.elements[e.set.index][e.key]; taken {
				twice = fmt.Errorf("service %s port %d %s: its address or node port is another service's", p.Service, p.Port, p.Protocol)
			}
			img.elements[e.set.index][e.key] = e.value
		}, u.add)
		if twice != nil {
			return nil, nil, twice
		}
	}
	for a := range u.local {
		e := hairpinElement(a)
		img.elements[hairpin.index][e.key] = ""
	}
	for _, c := range fixedChains(instance, t) {
		img.chains[c.name] = c.image()
	}
	for name := range u.chains {
		c, err := countChain(name)
		if err != nil {
			return nil, nil, err
		}
		img.chains[name] = c.image()
	}
	return img, u, nil
}

// usage counts who needs a chain, and through how many ports a local pod is reached.
type usage struct {
	chains map[string]int
	local  map[netip.Addr]int
}

func (u *usage) add(chain string, local netip.Addr) {
	if chain != "" {
		u.chains[chain]++
	} else {
		u.local[local]++
	}
}

func (u *usage) drop(chain string, local netip.Addr) {
	if chain != "" {
		if u.chains[chain]--; u.chains[chain] == 0 {
			delete(u.chains, chain)
		}
	} else if u.local[local]--; u.local[local] == 0 {
		delete(u.local, local)
	}
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
	var b bytes.Buffer
	for _, e := range r {
		if l, ok := e.(*expr.Lookup); ok && l.SetID != 0 {
			c := *l
			c.SetID = 0
			e = &c
		}
		if d, ok := e.(*expr.Dynset); ok && d.SetID != 0 {
			c := *d
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

// definition says what a set is, in the words of nft.
func (s *set) definition() string {
	var names []string
	for _, k := range s.key {
		names = append(names, k.Name)
	}
	d := "type " + strings.Join(names, " . ")
	switch {
	case s.verdicts:
		d += " : verdict"
	case s.value != nil:
		names = names[:0]
		for _, v := range s.value {
			names = append(names, v.Name)
		}
		d += " : " + strings.Join(names, " . ")
	}
	if s.dynamic {
		d += fmt.Sprintf(" dynamic timeout size %d", s.size)
	}
	return d
}
