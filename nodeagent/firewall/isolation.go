package firewall

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// isolatedPods leads from a pod's address to the chain of its Isolation.
var isolatedPods = &set{name: "isolated-pods", key: []nftables.SetDatatype{nftables.TypeIPAddr}, verdicts: true}

// ofIsolation begins the names of the chain of each Isolation and of the set of those that its pods may speak to.
const ofIsolation = "iso-"

// isolationName is such a name. What nft would not read is named by its digest.
func isolationName(i *wire.Isolation) string {
	plain := func(c rune) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' }
	if i.Name != "" && len(i.Name) <= 63 && !strings.ContainsFunc(i.Name, func(c rune) bool { return !plain(c) }) {
		return ofIsolation + i.Name
	}
	sum := sha256.Sum256([]byte(i.Name))
	return ofIsolation + "." + hex.EncodeToString(sum[:16])
}

func mayReach(name string) *set {
	return &set{name: name, key: []nftables.SetDatatype{nftables.TypeIPAddr}}
}

// isolating are the chains that isolation begins and ends with. They look at a packet when its destination is the last one, by way of
// whatever Service, and before it is known whether it is for the node itself or passes through. A pod cannot bear another's address
// there (forged), and what no connection is known for is no answer.
func isolating(t *wire.Tables) []chain {
	rest := []rule{all(words{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: key0}, equal(key0, []byte{reply})}, words{accept()})}
	if t.DNS.IsValid() {
		for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			rest = append(rest, all(words{
				daddr(key0), equal(key0, t.DNS.Addr().AsSlice()), meta(expr.MetaKeyL4PROTO, key0), equal(key0, []byte{protocol}),
				dport(key0), equal(key0, bigEndian16(t.DNS.Port())), accept(),
			}))
		}
	}
	return []chain{
		{"filter-prerouting", &hook{nftables.ChainTypeFilter, *nftables.ChainHookPrerouting, *nftables.ChainPriorityFilter}, []rule{all(words{saddr(key0)}, goVia(isolatedPods))}},
		{"isolated", nil, append(rest, all(words{drop()}))},
	}
}

// reply is IP_CT_DIR_REPLY: from who was spoken to first.
const reply = 1

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }

// addIsolation adds what an Isolation has for itself.
func (o objects) addIsolation(i *wire.Isolation) {
	name := isolationName(i)
	o.addSet(mayReach(name))
	o.addChain(chain{name: name, rules: []rule{
		all(words{daddr(key0), &expr.Lookup{SourceRegister: key0, SetName: name}, accept()}),
		all(words{&expr.Verdict{Kind: expr.VerdictGoto, Chain: "isolated"}}),
	}})
}

// isolationElements calls add with every element of an Isolation.
func isolationElements(i *wire.Isolation, add func(element)) {
	name := isolationName(i)
	to := mayReach(name)
	for _, a := range i.To {
		ip := a.As4()
		add(element{to, string(ip[:]), ""})
	}
	for _, a := range i.From {
		ip := a.As4()
		add(element{isolatedPods, string(ip[:]), name})
	}
}

// isolates tells whether an element is of isolation: those go first, so that a table that is made anew in several steps has no
// step without them.
func (e element) isolates() bool {
	return e.set == isolatedPods || strings.HasPrefix(e.set.name, ofIsolation)
}

// exchangeIsolated adds to c and to the objects what takes the first isolations to the second.
func (c *change) exchangeIsolated(old, new *wire.Tables, before, after objects) {
	drop := func(i *wire.Isolation) {
		before.addIsolation(i)
		isolationElements(i, func(e element) { c.del = append(c.del, e) })
	}
	put := func(i *wire.Isolation) {
		after.addIsolation(i)
		isolationElements(i, func(e element) { c.add = append(c.add, e) })
	}
	i, j := 0, 0
	for i < len(old.Isolated) || j < len(new.Isolated) {
		switch {
		case j == len(new.Isolated) || i < len(old.Isolated) && old.Isolated[i].Name < new.Isolated[j].Name:
			drop(&old.Isolated[i])
			i++
		case i == len(old.Isolated) || old.Isolated[i].Name > new.Isolated[j].Name:
			put(&new.Isolated[j])
			j++
		default:
			if !old.Isolated[i].Equal(new.Isolated[j]) {
				drop(&old.Isolated[i])
				put(&new.Isolated[j])
			}
			i, j = i+1, j+1
		}
	}
}

// checkIsolated refuses what the rules could not hold.
func checkIsolated(isolated []wire.Isolation) error {
	of := map[netip.Addr]string{}
	for k := range isolated {
		i := &isolated[k]
		if k > 0 && isolated[k-1].Name >= i.Name {
			return fmt.Errorf("isolation %q: want them sorted, each name once", i.Name)
		}
		for _, a := range slices.Concat(i.From, i.To) {
			if !a.Is4() {
				return fmt.Errorf("isolation %q: address %s: want an IPv4 address", i.Name, a)
			}
		}
		for _, a := range i.From {
			if other, twice := of[a]; twice {
				return fmt.Errorf("isolation %q: address %s is that of a pod of %q too", i.Name, a, other)
			}
			of[a] = i.Name
		}
	}
	return nil
}
