package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// set is a set or map of our table. Its elements are written as bytes, as the kernel has them: fields of a key
// each filled up to 4 bytes. The value of a verdict map is the name of the chain to go to.
type set struct {
	index    int // in sets
	name     string
	key      []nftables.SetDatatype
	value    []nftables.SetDatatype // nil for a set
	verdicts bool
	dynamic  bool   // filled by the packet path; expires
	size     uint32 // 0: no limit
}

var (
	servicePorts     = &set{index: 0, name: "service-ports", key: types(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService), verdicts: true}
	serviceEndpoints = &set{index: 1, name: "service-endpoints", key: types(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark), value: endpointType}
	nodePorts        = &set{index: 2, name: "node-ports", key: types(nftables.TypeInetProto, nftables.TypeInetService), verdicts: true}
	nodeEndpoints    = &set{index: 3, name: "node-endpoints", key: types(nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark), value: endpointType}
	hairpin          = &set{index: 4, name: "hairpin", key: types(nftables.TypeIPAddr, nftables.TypeIPAddr)}
	affinity         = &set{index: 5, name: "affinity", key: types(nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService), value: endpointType, dynamic: true, size: 65536}

	endpointType = types(nftables.TypeIPAddr, nftables.TypeInetService)

	sets = [...]*set{servicePorts, serviceEndpoints, nodePorts, nodeEndpoints, hairpin, affinity}
)

func types(t ...nftables.SetDatatype) []nftables.SetDatatype { return t }

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

// elementsOf calls add with every element of a port, and use with every chain and every local endpoint they need.
// Elements of two ports differ, as long as no address or node port is given twice.
func elementsOf(p *wire.Port, pods netip.Prefix, add func(element), use func(chain string, local netip.Addr)) {
	proto, known := number(p.Protocol)
	if !known {
		return
	}
	if p.ClusterIP.Is4() && len(p.Endpoints) > 0 {
		ip := p.ClusterIP.As4()
		at := append(ip[:], proto, 0, 0, 0, byte(p.Port>>8), byte(p.Port), 0, 0)
		spread(servicePorts, serviceEndpoints, at, p.Endpoints, chainName("", len(p.Endpoints), p.Affinity), add, use)
	}
	if p.NodePort != 0 && len(p.External) > 0 {
		at := []byte{proto, 0, 0, 0, byte(p.NodePort >> 8), byte(p.NodePort), 0, 0}
		spread(nodePorts, nodeEndpoints, at, p.External, chainName("node-", len(p.External), p.Affinity), add, use)
	}
	for _, list := range [][]netip.AddrPort{p.Endpoints, p.External} {
		for _, e := range list {
			if pods.Contains(e.Addr()) {
				use("", e.Addr())
			}
		}
	}
}

func spread(ports, endpoints *set, at []byte, to []netip.AddrPort, chain string, add func(element), use func(string, netip.Addr)) {
	use(chain, netip.Addr{})
	add(element{ports, string(at), chain})
	for i, e := range to {
		k := binary.NativeEndian.AppendUint32(at[:len(at):len(at)], uint32(i))
		add(element{endpoints, string(k), endpointBytes(e)})
	}
}

func chainName(prefix string, endpoints int, affinity int32) string {
	if affinity > 0 {
		return prefix + "aff-" + strconv.Itoa(endpoints) + "-" + strconv.Itoa(int(affinity))
	}
	return prefix + "cnt-" + strconv.Itoa(endpoints)
}

func endpointBytes(e netip.AddrPort) string {
	ip := e.Addr().As4()
	return string([]byte{ip[0], ip[1], ip[2], ip[3], byte(e.Port() >> 8), byte(e.Port()), 0, 0})
}

func hairpinElement(a netip.Addr) element {
	ip := a.As4()
	return element{hairpin, string(ip[:]) + string(ip[:]), ""}
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
	for i := range t.Ports {
		p := &t.Ports[i]
		if _, known := number(p.Protocol); !known {
			return fmt.Errorf("service %s port %d: protocol %q: want tcp, udp or sctp", p.Service, p.Port, p.Protocol)
		}
		if p.ClusterIP.IsValid() && !p.ClusterIP.Is4() {
			return fmt.Errorf("service %s port %d: address %s: want an IPv4 address", p.Service, p.Port, p.ClusterIP)
		}
		for _, list := range [][]netip.AddrPort{p.Endpoints, p.External} {
			for _, e := range list {
				if !e.Addr().Is4() {
					return fmt.Errorf("service %s port %d: endpoint %s: want an IPv4 address", p.Service, p.Port, e)
				}
			}
		}
		if p.Affinity < 0 || p.Affinity > 86400 {
			return fmt.Errorf("service %s port %d: affinity %d s: want 0 to 86400", p.Service, p.Port, p.Affinity)
		}
	}
	return nil
}
