package dns

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/shoal-dev/shoal/engine/wire"
)

// Seconds that clients may keep answers about the ring: short, since pods come and go.
const (
	ownTTL      = 5
	negativeTTL = 5
)

// zone is the ring's names, made from tables once and then only read.
type zone struct {
	origin  string                // "cluster.local."
	names   map[string]*wire.Name // fully qualified, lower case
	inner   map[string]bool       // names that have none but lie above one: "default.svc.cluster.local."
	reverse map[netip.Addr][]string
	owned   []netip.Prefix // whose addresses nobody but us knows in reverse
	soa     *dns.SOA
	// isolated pods are told the ring's names alone.
	isolated map[netip.Addr]bool
}

func newZone(t *wire.Tables) *zone {
	z := &zone{
		origin: strings.ToLower(t.Domain) + ".", names: make(map[string]*wire.Name, len(t.Names)), inner: make(map[string]bool),
		reverse: make(map[netip.Addr][]string), owned: []netip.Prefix{t.Cluster, t.ServiceCIDR},
		isolated: make(map[netip.Addr]bool),
	}
	for _, i := range t.Isolated {
		for _, a := range i.From {
			z.isolated[a] = true
		}
	}
	for i := range t.Names {
		n := &t.Names[i]
		z.names[n.Name] = n
		if n.Reverse {
			for _, a := range n.Address {
				z.reverse[a] = append(z.reverse[a], n.Name)
			}
		}
		for above := parent(n.Name); len(above) > len(z.origin) && !z.inner[above]; above = parent(above) {
			z.inner[above] = true
		}
	}
	z.inner[z.origin] = true
	z.soa = &dns.SOA{
		Hdr:  dns.RR_Header{Name: z.origin, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
		Ns:   "ns.dns." + z.origin,
		Mbox: "hostmaster." + z.origin, Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: negativeTTL,
	}
	return z
}

// parent is what is left of a name without its first label.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

// holds tells whether a name is ours to answer, or to deny.
func (z *zone) holds(name string) bool {
	return name == z.origin || strings.HasSuffix(name, "."+z.origin)
}

// answer fills m for a question within the zone. alias is the target of a CNAME outside the zone that is still to
// be asked for, or "".
func (z *zone) answer(m *dns.Msg, q dns.Question, name string) (alias string) {
	m.Authoritative = true
	for hop := 0; ; hop++ {
		n, found := z.names[name]
		if !found {
			n, found = z.podName(name)
		}
		switch {
		case !found && name == "dns-version."+z.origin && q.Qtype == dns.TypeTXT:
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header(q.Name, dns.TypeTXT), Txt: []string{"1.1.0"}})
			return ""
		case !found && name == z.origin && q.Qtype == dns.TypeSOA:
			m.Answer = append(m.Answer, z.soa)
			return ""
		case !found:
			if !z.inner[name] && len(m.Answer) == 0 {
				m.Rcode = dns.RcodeNameError
			}
			m.Ns = append(m.Ns, z.soa)
			return ""
		case n.CNAME != "":
			owner := q.Name
			if hop > 0 {
				owner = name
			}
			m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: n.CNAME})
			if q.Qtype == dns.TypeCNAME || hop == maxAliases {
				return ""
			}
			if !z.holds(n.CNAME) {
				return n.CNAME
			}
			name = n.CNAME
		default:
			owner := q.Name
			if hop > 0 {
				owner = name
			}
			z.records(m, n, owner, q.Qtype)
			if len(m.Answer) == 0 {
				m.Ns = append(m.Ns, z.soa)
			}
			return ""
		}
	}
}

// maxAliases bounds a chain of aliases, and so a loop.
const maxAliases = 8

func (z *zone) records(m *dns.Msg, n *wire.Name, owner string, kind uint16) {
	if kind == dns.TypeSRV || kind == dns.TypeANY {
		for _, s := range n.SRV {
			m.Answer = append(m.Answer, &dns.SRV{Hdr: header(owner, dns.TypeSRV), Weight: 100, Port: s.Port, Target: s.Target})
			if target := z.names[s.Target]; target != nil && kind == dns.TypeSRV {
				for _, a := range target.Address {
					m.Extra = append(m.Extra, address(s.Target, a))
				}
			}
		}
	}
	for _, a := range n.Address {
		if kind == dns.TypeANY || kind == dns.TypeA && a.Is4() || kind == dns.TypeAAAA && a.Is6() {
			m.Answer = append(m.Answer, address(owner, a))
		}
	}
}

func address(owner string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(owner, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: a.AsSlice()}
}

func header(owner string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET, Ttl: ownTTL}
}

// podName answers for 10-42-0-7.default.pod.cluster.local, which names an address and says nothing of a pod.
func (z *zone) podName(name string) (*wire.Name, bool) {
	head, found := strings.CutSuffix(name, ".pod."+z.origin)
	if !found {
		return nil, false
	}
	dashed, namespace, found := strings.Cut(head, ".")
	if !found || strings.Contains(namespace, ".") {
		return nil, false
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(dashed, "-", "."))
	if err != nil {
		return nil, false
	}
	return &wire.Name{Name: name, Address: []netip.Addr{a}}, true
}

// answerReverse fills m for a question about an address, and tells whether the address is ours.
func (z *zone) answerReverse(m *dns.Msg, q dns.Question, name string) bool {
	a, ok := reverseAddress(name)
	if !ok {
		return false
	}
	names := z.reverse[a]
	if len(names) == 0 {
		for _, p := range z.owned {
			if p.Contains(a) {
				m.Authoritative, m.Rcode = true, dns.RcodeNameError
				m.Ns = append(m.Ns, z.soa)
				return true
			}
		}
		return false
	}
	m.Authoritative = true
	if q.Qtype != dns.TypePTR && q.Qtype != dns.TypeANY {
		m.Ns = append(m.Ns, z.soa)
		return true
	}
	for _, n := range names {
		m.Answer = append(m.Answer, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: n})
	}
	return true
}

// reverseAddress reads 7.0.42.10.in-addr.arpa. (IPv4 alone: the ring has no other addresses).
func reverseAddress(name string) (netip.Addr, bool) {
	head, found := strings.CutSuffix(name, ".in-addr.arpa.")
	if !found {
		return netip.Addr{}, false
	}
	parts := strings.Split(head, ".")
	if len(parts) != 4 {
		return netip.Addr{}, false
	}
	var b [4]byte
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 8)
		if err != nil {
			return netip.Addr{}, false
		}
		b[3-i] = byte(v)
	}
	return netip.AddrFrom4(b), true
}
