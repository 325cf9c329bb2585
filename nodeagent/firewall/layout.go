package firewall

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/wire"
)

// Registers of the kernel, 4 bytes each, as it names them itself. They lie side by side, as the fields of a
// concatenation must.
const (
	key0 = unix.NFT_REG_1
	key1 = unix.NFT_REG32_01
	key2 = unix.NFT_REG32_02
)

// rule is what nftables evaluates from left to right. With draw it ends in going to one of these chains at random.
type rule struct {
	exprs []expr.Any
	draw  []string
}

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
	nat := func(at *nftables.ChainHook, priority *nftables.ChainPriority) *hook {
		return &hook{nftables.ChainTypeNAT, *at, *priority}
	}
	filter := func(at *nftables.ChainHook, priority *nftables.ChainPriority) *hook {
		return &hook{nftables.ChainTypeFilter, *at, *priority}
	}
	chains := []chain{
		{"services", nil, []rule{
			all(serviceKey(), goVia(servicePorts)),
			all(inside(daddr, loopback), nodeKey(), goVia(loopPorts)),
			all(outside(daddr, loopback), words{&expr.Fib{Register: key0, ResultADDRTYPE: true, FlagDADDR: true}, equal(key0, native(unix.RTN_LOCAL))}, nodeKey(), goVia(nodePorts)),
		}},
		{"nat-prerouting", nat(nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest), []rule{all(words{jump("services")})}},
		{"nat-output", nat(nftables.ChainHookOutput, nftables.ChainPriorityNATDest), []rule{all(words{jump("services")})}},
		{"nat-postrouting", nat(nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource), postrouting(t)},
		{"filter-forward", filter(nftables.ChainHookForward, nftables.ChainPriorityFilter), slices.Concat(astray(instance, t), refuse(t))},
		{"filter-output", filter(nftables.ChainHookOutput, nftables.ChainPriorityFilter), refuse(t)},
		{"raw-prerouting", filter(nftables.ChainHookPrerouting, nftables.ChainPriorityRaw), slices.Concat(forged(instance), strangers(instance, t), inClear(instance, t), untracked(t, daddr, dport))},
		{"raw-output", filter(nftables.ChainHookOutput, nftables.ChainPriorityRaw), slices.Concat(untracked(t, daddr, dport), untracked(t, saddr, sport))},
	}
	if rules := leaking(instance, t); rules != nil {
		chains = append(chains, chain{"filter-postrouting", filter(nftables.ChainHookPostrouting, nftables.ChainPriorityFilter), rules})
	}
	return chains
}

// fromPod is true of the overlay's and the tunnel's device too, whose names begin like those of pods.
func fromPod(instance string) words {
	return words{meta(expr.MetaKeyIIFNAME, key0), equal(key0, []byte(prefixOf(instance)))}
}

// overlayName is the device that unwraps packets of other nodes' pods.
func overlayName(instance string) []byte { return []byte(prefixOf(instance) + "vx\x00") }

// tunnelName is the device that decrypts packets of other nodes' pods.
func tunnelName(instance string) []byte { return []byte(prefixOf(instance) + "wg\x00") }

// wrapped is true of packets that the overlay would unwrap. Fragments were put together before.
func wrapped(o wire.Overlay) words {
	return words{
		meta(expr.MetaKeyL4PROTO, key0), equal(key0, []byte{unix.IPPROTO_UDP}), dport(key0), equal(key0, bigEndian16(o.Port)),
		&expr.Payload{DestRegister: key0, Base: expr.PayloadBaseTransportHeader, Offset: 12, Len: 3}, equal(key0, bigEndian32(o.VNI << 8)[:3]),
	}
}

// strangers drops what would be unwrapped and does not come from a node of the ring, so also what a pod sends. What
// comes out of the overlay bears the address of a pod or a node, and of none that is here.
func strangers(instance string, t *wire.Tables) []rule {
	rules := []rule{all(wrapped(t.Overlay), words{saddr(key0), &expr.Lookup{SourceRegister: key0, SetName: members.name, Invert: true}}, words{drop()})}
	for _, name := range [][]byte{overlayName(instance), tunnelName(instance)} {
		out := words{meta(expr.MetaKeyIIFNAME, key0), equal(key0, name)}
		rules = append(rules, all(out, outside(saddr, t.Cluster), words{drop()}), all(out, inside(saddr, t.PodCIDR), words{drop()}))
	}
	return rules
}

// inClear drops what claims to come from another node's pods and was not encrypted, if nothing is to be taken so.
func inClear(instance string, t *wire.Tables) []rule {
	if !t.Strict {
		return nil
	}
	return []rule{all(
		words{meta(expr.MetaKeyIIFNAME, key0), differs(key0, tunnelName(instance))}, inside(saddr, t.Cluster), outside(saddr, t.PodCIDR), words{drop()},
	)}
}

// leaking drops what would leave in clear for pods of nodes that it is encrypted for, or, if nothing is to be sent so, for
// those of any other node. Our routes never lead there; somebody else's may stand before them. Before postrouting the
// interface is not known for certain: what a process of the node sends to a Service is routed anew.
func leaking(instance string, t *wire.Tables) []rule {
	leaves := words{meta(expr.MetaKeyOIFNAME, key0), differs(key0, tunnelName(instance))}
	switch {
	case t.Strict:
		return []rule{all(leaves, inside(daddr, t.Cluster), outside(daddr, t.PodCIDR), words{drop()})}
	case t.Tunnel != (cluster.Tunnel{}):
		network := words{daddr(key0), &expr.Bitwise{SourceRegister: key0, DestRegister: key0, Len: 4, Mask: net.CIDRMask(t.PodCIDR.Bits(), 32), Xor: make([]byte, 4)}}
		return []rule{all(leaves, network, words{&expr.Lookup{SourceRegister: key0, SetName: sealed.name}}, words{drop()})}
	}
	return nil
}

// forged drops what a pod sends with another's address, or to the host's loopback: the links allow 127.0.0.0/8
// for the sake of node ports, but never to pods.
func forged(instance string) []rule {
	return []rule{
		all(fromPod(instance), inside(daddr, loopback), words{drop()}),
		all(
			fromPod(instance), words{meta(expr.MetaKeyIIFNAME, key0), differs(key0, overlayName(instance)), differs(key0, tunnelName(instance))},
			words{&expr.Fib{Register: key0, ResultOIF: true, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true}, equal(key0, native(0))}, words{drop()},
		),
	}
}

// astray drops answers of pods that belong to no connection: passed on untranslated they would reset the client. And
// what a pod sends to another node's overlay by way of a Service: there it would come from a member.
func astray(instance string, t *wire.Tables) []rule {
	return []rule{
		all(fromPod(instance), words{&expr.Ct{Key: expr.CtKeySTATE, Register: key0}}, anyBit(key0, expr.CtStateBitINVALID), words{drop()}),
		all(fromPod(instance), wrapped(t.Overlay), words{drop()}),
	}
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// postrouting changes sources where the answer would not come back otherwise. Towards pods the source becomes the
// node's address among pods, which every node knows the way to, whatever networks lie between.
func postrouting(t *wire.Tables) []rule {
	masquerade := words{&expr.Masq{FullyRandom: true}}
	asNode := words{
		&expr.Immediate{Register: key0, Data: wire.NodeAddress(t.PodCIDR).AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: key0, RegAddrMax: key0, FullyRandom: true},
	}
	notLo := words{meta(expr.MetaKeyOIFNAME, key0), differs(key0, []byte("lo\x00"))}
	redirected := slices.Concat(words{&expr.Ct{Key: expr.CtKeySTATUS, Register: key0}}, anyBit(key0, ipsDstNAT), outside(saddr, t.Cluster))
	return []rule{
		all(words{saddr(key0), daddr(key1), &expr.Lookup{SourceRegister: key0, SetName: hairpin.name}}, asNode),
		all(inside(saddr, loopback), inside(daddr, t.Cluster), notLo, asNode),
		all(inside(saddr, loopback), notLo, masquerade),
		all(inside(saddr, t.PodCIDR), outside(daddr, t.Cluster), masquerade),
		all(redirected, inside(daddr, t.Cluster), outside(daddr, t.PodCIDR), asNode),
		all(
			redirected, words{daddr(key0), &expr.Lookup{SourceRegister: key0, SetName: members.name}},
			words{&expr.Fib{Register: key0, ResultADDRTYPE: true, FlagSADDR: true}, differs(key0, native(unix.RTN_LOCAL))}, masquerade,
		),
	}
}

// ipsDstNAT is IPS_DST_NAT: the connection's destination was rewritten.
const ipsDstNAT = 1 << 5

// refuse answers what still bears an address of a Service. A reset for TCP, because the kernel sends only so many
// ICMP messages a second.
func refuse(t *wire.Tables) []rule {
	left := inside(daddr, t.ServiceCIDR)
	if t.DNS.IsValid() {
		left = append(left, daddr(key0), differs(key0, t.DNS.Addr().AsSlice()))
	}
	return []rule{
		all(left, words{meta(expr.MetaKeyL4PROTO, key0), equal(key0, []byte{unix.IPPROTO_TCP}), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}),
		all(left, words{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}}),
	}
}

// untracked keeps questions to the DNS address, or its answers, out of connection tracking: no entry of a full
// table, no race between two questions of one socket.
func untracked(t *wire.Tables, address, port func(uint32) expr.Any) []rule {
	if !t.DNS.IsValid() {
		return nil
	}
	return []rule{all(words{address(key0), equal(key0, t.DNS.Addr().AsSlice()), port(key0), equal(key0, bigEndian16(t.DNS.Port())), &expr.Notrack{}})}
}

// countChain spreads connections over n endpoints: "cnt-3" over ep-0, ep-1 and ep-2.
func countChain(prefix string, n int) chain {
	to := make([]string, n)
	for i := range to {
		to[i] = prefix + "ep-" + strconv.Itoa(i)
	}
	return chain{name: prefix + "cnt-" + strconv.Itoa(n), rules: spread(to)}
}

// perDraw is how many chains one rule draws from, since the elements of its map go in one message.
const perDraw = 256

// spread goes to one of the chains with the same chance for each, give or take 1 in 256 when there are more than
// 256: then they are split into groups, the first of which is taken with one chance in so many, and so on.
func spread(to []string) []rule {
	if len(to) == 1 {
		return []rule{all(words{&expr.Verdict{Kind: expr.VerdictGoto, Chain: to[0]}})}
	}
	groups := (len(to) + perDraw - 1) / perDraw
	var rules []rule
	for g := groups; g > 0; g-- {
		n := (len(to) + g - 1) / g
		r := rule{draw: to[:n]}
		if g > 1 {
			r.exprs = words{&expr.Numgen{Register: key0, Modulus: uint32(g), Type: unix.NFT_NG_RANDOM}, equal(key0, native(0))}
		}
		rules = append(rules, r)
		to = to[n:]
	}
	return rules
}

// endpointChain sends a connection to the endpoint that a service has at one index.
func endpointChain(s *set, key words) chain {
	found := &expr.Lookup{SourceRegister: key0, DestRegister: key0, IsDestRegSet: true, SetName: s.name}
	return chain{name: s.name, rules: []rule{all(key, words{found, dnat()})}}
}

// stickyChains are those of a port with session affinity: one that looks for the client among those of each
// endpoint before it draws, and one an endpoint that remembers the client. When its set is full, the client is
// sent there nevertheless.
func stickyChains(name string, proto byte, to []netip.AddrPort, seconds int32) ([]chain, []*set) {
	main := chain{name: name}
	chains := make([]chain, 0, len(to)+1)
	bound := make([]*set, 0, len(to))
	names := make([]string, 0, len(to))
	for _, e := range to {
		s := clientSet(name, e)
		main.rules = append(main.rules, all(words{saddr(key0), &expr.Lookup{SourceRegister: key0, SetName: s.name}, &expr.Verdict{Kind: expr.VerdictGoto, Chain: s.name}}))
		ip := e.Addr().As4()
		chains = append(chains, chain{name: s.name, rules: []rule{
			all(words{saddr(key0), &expr.Dynset{SrcRegKey: key0, SetName: s.name, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: secondsOf(seconds)}}),
			all(words{meta(expr.MetaKeyL4PROTO, key0), equal(key0, []byte{proto}), &expr.Immediate{Register: key0, Data: ip[:]}, &expr.Immediate{Register: key1, Data: bigEndian16(e.Port())}, dnat()}),
		}})
		bound, names = append(bound, s), append(names, s.name)
	}
	main.rules = append(main.rules, spread(names)...)
	return append(chains, main), bound
}

func dnat() expr.Any {
	return &expr.NAT{
		Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: key0, RegAddrMax: key0, RegProtoMin: key1, RegProtoMax: key1, Specified: true,
	}
}
