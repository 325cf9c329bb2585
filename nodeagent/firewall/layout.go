package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// Registers of the kernel, 4 bytes each, as it names them itself. key and what follows it lie side by side, as
// the fields of a concatenation must; so do the others.
const (
	key0 = unix.NFT_REG_1
	key1 = unix.NFT_REG32_01
	key2 = unix.NFT_REG32_02
	key3 = unix.NFT_REG32_03

	client0 = unix.NFT_REG_2
	client1 = unix.NFT_REG32_05
	client2 = unix.NFT_REG32_06
	client3 = unix.NFT_REG32_07
)

// rule is what nftables evaluates from left to right.
type rule []expr.Any

// chain is a chain with all its rules; hook is nil unless packets enter there.
type chain struct {
	name  string
	hook  *hook
	rules []rule
}

type hook struct {
	kind     nftables.ChainType
	at       nftables.ChainHook
	priority nftables.ChainPriority
}

// prefixOf is what the names of the instance's pod links begin with.
func prefixOf(instance string) string { return "sh-" + instance + "-" }

// fixedChains are the chains that do not depend on Services.
func fixedChains(instance string, t *wire.Tables) []chain {
	fromPod := match(meta(expr.MetaKeyIIFNAME, key0), equal(key0, []byte(prefixOf(instance))))
	chains := []chain{
		{"services", nil, []rule{
			join(serviceKey(), goVia(servicePorts)),
			join(rule{&expr.Fib{Register: key0, ResultADDRTYPE: true, FlagDADDR: true}, equal(key0, native(unix.RTN_LOCAL))}, nodeKey(), goVia(nodePorts)),
		}},
		{"nat-prerouting", &hook{nftables.ChainTypeNAT, *nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest}, []rule{{jump("services")}}},
		{"nat-output", &hook{nftables.ChainTypeNAT, *nftables.ChainHookOutput, *nftables.ChainPriorityNATDest}, []rule{{jump("services")}}},
		{"nat-postrouting", &hook{nftables.ChainTypeNAT, *nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource}, postrouting(t)},
		{"filter-forward", &hook{nftables.ChainTypeFilter, *nftables.ChainHookForward, *nftables.ChainPriorityFilter}, slices.Concat(
			[]rule{join(fromPod, rule{&expr.Ct{Key: expr.CtKeySTATE, Register: key0}}, anyBit(key0, expr.CtStateBitINVALID), rule{drop()})},
			refuse(t),
		)},
		{"filter-output", &hook{nftables.ChainTypeFilter, *nftables.ChainHookOutput, *nftables.ChainPriorityFilter}, refuse(t)},
		{"raw-prerouting", &hook{nftables.ChainTypeFilter, *nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw}, slices.Concat(
			[]rule{
				join(fromPod, inside(daddr, netip.MustParsePrefix("127.0.0.0/8")), rule{drop()}),
				join(fromPod, rule{&expr.Fib{Register: key0, ResultOIF: true, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true}, equal(key0, []byte{0})}, rule{drop()}),
			},
			untracked(t, daddr, dport),
		)},
		{"raw-output", &hook{nftables.ChainTypeFilter, *nftables.ChainHookOutput, *nftables.ChainPriorityRaw}, slices.Concat(
			untracked(t, daddr, dport), untracked(t, saddr, sport),
		)},
	}
	return chains
}

// postrouting changes sources where the answer would not come back otherwise.
func postrouting(t *wire.Tables) []rule {
	masquerade := &expr.Masq{FullyRandom: true}
	rules := []rule{
		{saddr(key0), daddr(key1), &expr.Lookup{SourceRegister: key0, SetName: hairpin.name}, masquerade},
		join(inside(saddr, netip.MustParsePrefix("127.0.0.0/8")), rule{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: key0}, differs(key0, append([]byte("lo"), 0)), masquerade}),
	}
	if t.PodCIDR.IsValid() {
		rules = append(rules,
			join(inside(saddr, t.PodCIDR), outside(daddr, t.Cluster), rule{masquerade}),
			join(
				rule{&expr.Ct{Key: expr.CtKeySTATUS, Register: key0}}, anyBit(key0, ipsDstNAT),
				outside(saddr, t.Cluster), inside(daddr, t.Cluster), outside(daddr, t.PodCIDR),
				rule{&expr.Fib{Register: key0, ResultADDRTYPE: true, FlagSADDR: true}, differs(key0, native(unix.RTN_LOCAL)), masquerade},
			),
		)
	}
	return rules
}

// ipsDstNAT is IPS_DST_NAT: the connection's destination was rewritten.
const ipsDstNAT = 1 << 5

// refuse answers what still bears an address of a Service.
func refuse(t *wire.Tables) []rule {
	if !t.ServiceCIDR.IsValid() {
		return nil
	}
	left := inside(daddr, t.ServiceCIDR)
	if t.DNS.IsValid() {
		left = join(left, rule{daddr(key0), differs(key0, t.DNS.Addr().AsSlice())})
	}
	return []rule{
		join(left, rule{meta(expr.MetaKeyL4PROTO, key0), equal(key0, []byte{unix.IPPROTO_TCP}), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}),
		join(left, rule{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}}),
	}
}

// untracked keeps questions to the DNS address, or its answers, out of connection tracking: no entry of a full
// table, no race between two questions of one socket.
func untracked(t *wire.Tables, address, port func(uint32) expr.Any) []rule {
	if !t.DNS.IsValid() {
		return nil
	}
	return []rule{{
		address(key0), equal(key0, t.DNS.Addr().AsSlice()), port(key0), equal(key0, bigEndian16(t.DNS.Port())), &expr.Notrack{},
	}}
}

// countChain is a chain that spreads connections over a number of endpoints: "cnt-3" and "node-cnt-3", or with
// session affinity "aff-3-10800" and "node-aff-3-10800".
func countChain(name string) (chain, error) {
	kind, rest := "", name
	node := strings.HasPrefix(name, "node-")
	if node {
		rest = strings.TrimPrefix(name, "node-")
	}
	kind, rest, _ = strings.Cut(rest, "-")
	count, seconds, sticky := strings.Cut(rest, "-")
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || sticky != (kind == "aff") {
		return chain{}, fmt.Errorf("chain %q: want cnt-N or aff-N-SECONDS", name)
	}
	draw := join(rule{}, endpointOf(node, uint32(n)))
	c := chain{name: name}
	if sticky {
		ttl, err := strconv.Atoi(seconds)
		if err != nil || ttl < 1 {
			return chain{}, fmt.Errorf("chain %q: want aff-N-SECONDS", name)
		}
		remember := &expr.Dynset{
			SrcRegKey: client0, SrcRegData: key0, SetName: affinity.name, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: secondsOf(ttl),
		}
		c.rules = append(c.rules,
			join(clientKey(), rule{&expr.Lookup{SourceRegister: client0, DestRegister: key0, IsDestRegSet: true, SetName: affinity.name}, remember, dnat()}),
			join(clientKey(), draw, rule{remember, dnat()}),
		)
	}
	c.rules = append(c.rules, join(draw, rule{dnat()}))
	return c, nil
}

// endpointOf draws one of n endpoints into key0 (address) and key1 (port).
func endpointOf(node bool, n uint32) rule {
	if node {
		return join(nodeKey(), rule{
			&expr.Numgen{Register: key2, Modulus: n, Type: unix.NFT_NG_RANDOM},
			&expr.Lookup{SourceRegister: key0, DestRegister: key0, IsDestRegSet: true, SetName: nodeEndpoints.name},
		})
	}
	return join(serviceKey(), rule{
		&expr.Numgen{Register: key3, Modulus: n, Type: unix.NFT_NG_RANDOM},
		&expr.Lookup{SourceRegister: key0, DestRegister: key0, IsDestRegSet: true, SetName: serviceEndpoints.name},
	})
}

func dnat() expr.Any {
	return &expr.NAT{
		Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: key0, RegAddrMax: key0, RegProtoMin: key1, RegProtoMax: key1, Specified: true,
	}
}
