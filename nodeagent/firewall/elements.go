package firewall

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/wire"
)

// set is a set or map of our table. Its elements are written as bytes, as the kernel has them: fields of a key
// each filled up to 4 bytes. The value of a verdict map is the name of the chain to go to.
type set struct {
	name     string
	key      []nftables.SetDatatype
	value    []nftables.SetDatatype // nil for a set
	verdicts bool
	clients  bool // filled by the packet path; its elements expire
}

var (
	serviceKeyType = []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService}
	nodeKeyType    = []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
	endpointType   = []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeInetService}

	servicePorts = &set{name: "service-ports", key: serviceKeyType, verdicts: true}
	nodePorts    = &set{name: "node-ports", key: nodeKeyType, verdicts: true}
	loopPorts    = &set{name: "loop-ports", key: nodeKeyType, verdicts: true}
	hairpin      = &set{name: "hairpin", key: []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIPAddr}}
	members      = &set{name: "members", key: []nftables.SetDatatype{nftables.TypeIPAddr}} // the other nodes
	sealed       = &set{name: "sealed", key: []nftables.SetDatatype{nftables.TypeIPAddr}}  // first addresses of ranges that are reached encrypted
)

// The ways to a service, and what their names begin with: by its address, by a node port, and by a node port on
// 127.0.0.1.
const (
	byAddress = ""
	byNode    = "node-"
	byLoop    = "loop-"
)

// place is what of a node's tables tells which endpoints are on it.
type place struct {
	pods    netip.Prefix
	address netip.Addr // of pods with the node's network
}

func placeOf(t *wire.Tables) place { return place{t.PodCIDR, t.Address} }

func (h place) has(e netip.AddrPort) bool { return h.pods.Contains(e.Addr()) || e.Addr() == h.address }

// endpointSet is the map from services to the endpoint they have at an index.
func endpointSet(way string, index int) *set {
	key := serviceKeyType
	if way != byAddress {
		key = nodeKeyType
	}
	return &set{name: way + "ep-" + strconv.Itoa(index), key: key, value: endpointType}
}

// clientSet is who is bound to an endpoint of the port whose chain is named.
func clientSet(chain string, e netip.AddrPort) *set {
	return &set{name: chain + "-" + e.Addr().String() + "-" + strconv.Itoa(int(e.Port())), key: []nftables.SetDatatype{nftables.TypeIPAddr}, clients: true}
}

// maxClients is how many clients are remembered for an endpoint; further ones are not.
const maxClients = 32768

// element is one key and its value ("" in a set; the name of a chain in a verdict map).
type element struct {
	set        *set
	key, value string
}

// number is a protocol as IP has it.
func number(p wire.Protocol) (byte, bool) {
	switch p {
	case wire.TCP:
		return unix.IPPROTO_TCP, true
	case wire.UDP:
		return unix.IPPROTO_UDP, true
	case wire.SCTP:
		return unix.IPPROTO_SCTP, true
	}
	return 0, false
}

// entrance is one way to a port: its key in the map of ports, who answers, and the chain it leads to.
type entrance struct {
	way   string
	ports *set
	key   string
	to    []netip.AddrPort
	chain string
	keep  int32 // seconds of session affinity, or 0
}

// entrances returns the ways to a port that lead anywhere: at most three. From 127.0.0.1 only what is on the node is
// reached, since the kernel lets no packet with that address out on an interface of the machine's own.
func entrances(p *wire.Port, here place) []entrance {
	proto, _ := number(p.Protocol)
	tail := string([]byte{proto, 0, 0, 0})
	var out []entrance
	if p.ClusterIP.Is4() && len(p.Endpoints) > 0 {
		ip := p.ClusterIP.As4()
		key := string(ip[:]) + tail + string([]byte{byte(p.Port >> 8), byte(p.Port), 0, 0})
		out = append(out, entrance{byAddress, servicePorts, key, p.Endpoints, "", p.Affinity})
	}
	if p.NodePort != 0 && len(p.External) > 0 {
		key := tail + string([]byte{byte(p.NodePort >> 8), byte(p.NodePort), 0, 0})
		out = append(out, entrance{byNode, nodePorts, key, p.External, "", p.Affinity})
		if local := localOf(p.External, here); len(local) > 0 {
			out = append(out, entrance{byLoop, loopPorts, key, local, "", 0})
		}
	}
	for i := range out {
		e := &out[i]
		switch {
		case e.keep > 0 && e.way == byAddress:
			e.chain = "aff-" + p.ClusterIP.String() + "-" + string(p.Protocol) + "-" + strconv.Itoa(int(p.Port))
		case e.keep > 0:
			e.chain = "aff-node-" + string(p.Protocol) + "-" + strconv.Itoa(int(p.NodePort))
		case len(e.to) == 1:
			e.chain = e.way + "ep-0"
		default:
			e.chain = e.way + "cnt-" + strconv.Itoa(len(e.to))
		}
	}
	return out
}

// elementsOf calls add with every element of a port. Elements of two ports differ, as long as no address or node
// port is given twice.
func elementsOf(p *wire.Port, here place, add func(element)) {
	for _, e := range entrances(p, here) {
		add(element{e.ports, e.key, e.chain})
		if e.keep > 0 {
			continue
		}
		for i, to := range e.to {
			add(element{endpointSet(e.way, i), e.key, endpointBytes(to)})
		}
	}
}

// localOf returns those of the endpoints that are on the node.
func localOf(endpoints []netip.AddrPort, here place) []netip.AddrPort {
	var local []netip.AddrPort
	for _, e := range endpoints {
		if here.has(e) {
			local = append(local, e)
		}
	}
	return local
}

func endpointBytes(e netip.AddrPort) string {
	ip := e.Addr().As4()
	return string([]byte{ip[0], ip[1], ip[2], ip[3], byte(e.Port() >> 8), byte(e.Port()), 0, 0})
}

func hairpinElement(a netip.Addr) element {
	ip := a.As4()
	return element{hairpin, string(ip[:]) + string(ip[:]), ""}
}

// memberElements are the other nodes' addresses, each once.
func memberElements(t *wire.Tables) map[element]bool {
	out := make(map[element]bool, len(t.Routes))
	for _, r := range t.Routes {
		if r.Via.Is4() {
			ip := r.Via.As4()
			out[element{members, string(ip[:]), ""}] = true
		}
	}
	return out
}

// sealedElements are the ranges of the pods of nodes that this one encrypts for. All nodes' have the same size.
func sealedElements(t *wire.Tables) map[element]bool {
	if t.Tunnel == (cluster.Tunnel{}) {
		return nil
	}
	out := make(map[element]bool, len(t.Routes))
	for _, r := range t.Routes {
		if r.Tunnel != (cluster.Tunnel{}) && r.CIDR.Addr().Is4() && r.CIDR.Bits() == t.PodCIDR.Bits() {
			ip := r.CIDR.Masked().Addr().As4()
			out[element{sealed, string(ip[:]), ""}] = true
		}
	}
	return out
}

// checkTables refuses what no Compile gives, before anything is changed.
func checkTables(t *wire.Tables) error {
	for _, p := range []struct {
		what   string
		prefix netip.Prefix
	}{{"pod CIDR", t.PodCIDR}, {"cluster CIDR", t.Cluster}, {"service CIDR", t.ServiceCIDR}} {
		if !p.prefix.IsValid() || !p.prefix.Addr().Is4() {
			return fmt.Errorf("%s %s: want an IPv4 prefix", p.what, p.prefix)
		}
	}
	if t.DNS.IsValid() && !t.DNS.Addr().Is4() {
		return fmt.Errorf("DNS address %s: want an IPv4 address", t.DNS)
	}
	if t.Overlay.VNI >= 1<<24 {
		return fmt.Errorf("network number %d of the overlay: want at most %d", t.Overlay.VNI, 1<<24-1)
	}
	if err := checkIsolated(t.Isolated); err != nil {
		return err
	}
	type claim struct {
		address  netip.Addr // invalid for a node port
		protocol wire.Protocol
		port     uint16
	}
	taken := make(map[claim]string, len(t.Ports))
	for i := range t.Ports {
		p := &t.Ports[i]
		if err := checkPort(p); err != nil {
			return fmt.Errorf("service %s port %d: %w", p.Service, p.Port, err)
		}
		var claims []claim
		if p.ClusterIP.IsValid() {
			claims = append(claims, claim{p.ClusterIP, p.Protocol, p.Port})
		}
		if p.NodePort != 0 {
			claims = append(claims, claim{netip.Addr{}, p.Protocol, p.NodePort})
		}
		for _, c := range claims {
			if other, twice := taken[c]; twice {
				return fmt.Errorf("service %s port %d: its address or node port is that of service %s", p.Service, p.Port, other)
			}
			taken[c] = p.Service
		}
	}
	return nil
}

func checkPort(p *wire.Port) error {
	if _, known := number(p.Protocol); !known {
		return fmt.Errorf("protocol %q: want tcp, udp or sctp", p.Protocol)
	}
	if p.ClusterIP.IsValid() && !p.ClusterIP.Is4() {
		return fmt.Errorf("address %s: want an IPv4 address", p.ClusterIP)
	}
	for _, list := range [][]netip.AddrPort{p.Endpoints, p.External} {
		for _, e := range list {
			if !e.Addr().Is4() || e.Port() == 0 {
				return fmt.Errorf("endpoint %s: want an IPv4 address and a port", e)
			}
		}
	}
	if p.Affinity < 0 || p.Affinity > 86400 {
		return fmt.Errorf("affinity of %d s: want 0 to 86400", p.Affinity)
	}
	return nil
}
