package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// forget removes what the kernel remembers of endpoints that are gone: flows of UDP, and clients' affinity.
func (f *Firewall) forget(old, t *wire.Tables) error {
	udp, sticky := leaves(old, t)
	if udp || f.sweep {
		f.sweep = true // until it was done
		if err := forgetFlows(t); err != nil {
			return err
		}
		f.sweep = false
	}
	if sticky {
		return f.forgetClients(t)
	}
	return nil
}

// leaves tells whether an endpoint of a UDP port, or of one with session affinity, may be gone. With no old
// tables to compare with, any may be.
func leaves(old, t *wire.Tables) (udp, sticky bool) {
	var before []wire.Port
	if old != nil {
		before = old.Ports
	} else {
		udp, sticky = true, true
	}
	j := 0
	for i := range before {
		p := &before[i]
		for j < len(t.Ports) && comparePorts(before, i, t.Ports, j) > 0 {
			j++
		}
		if p.Protocol != wire.UDP && p.Affinity == 0 {
			continue
		}
		if j == len(t.Ports) || comparePorts(before, i, t.Ports, j) != 0 || !p.Equal(t.Ports[j]) {
			udp = udp || p.Protocol == wire.UDP
			sticky = sticky || p.Affinity > 0
		}
	}
	return udp, sticky
}

// forgetFlows deletes flows of UDP that were sent to a pod by rules that no longer say so.
func forgetFlows(t *wire.Tables) error {
	keep := &staleFlow{cluster: t.Cluster, services: make(map[netip.AddrPort][]netip.AddrPort), nodes: make(map[uint16][]netip.AddrPort)}
	for i := range t.Ports {
		p := &t.Ports[i]
		if p.Protocol != wire.UDP {
			continue
		}
		if p.ClusterIP.IsValid() {
			keep.services[netip.AddrPortFrom(p.ClusterIP, p.Port)] = p.Endpoints
		}
		if p.NodePort != 0 {
			keep.nodes[p.NodePort] = p.External
		}
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, keep); err != nil {
		return fmt.Errorf("forget flows of UDP: %w", err)
	}
	return nil
}

// staleFlow matches the flows to delete.
type staleFlow struct {
	cluster  netip.Prefix
	services map[netip.AddrPort][]netip.AddrPort
	nodes    map[uint16][]netip.AddrPort
}

// MatchConntrackFlow tells whether a flow was redirected to a pod that its Service does not have.
func (s *staleFlow) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok := addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
	from, ok2 := addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	if !ok || !ok2 || to == from || !s.cluster.Contains(from.Addr()) {
		return false // not redirected, or not to a pod
	}
	if endpoints, ours := s.services[to]; ours {
		return !slices.Contains(endpoints, from)
	}
	return !slices.Contains(s.nodes[to.Port()], from)
}

func addrPort(ip net.IP, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port), ok
}

// forgetClients deletes from the affinity map who is bound to an endpoint that is gone.
func (f *Firewall) forgetClients(t *wire.Tables) error {
	bound, err := f.kernel.readElements(affinity)
	if err != nil {
		return err
	}
	if len(bound) == 0 {
		return nil
	}
	valid := make(map[string]bool) // address . protocol . port (address 0 for node ports) and endpoint
	for i := range t.Ports {
		p := &t.Ports[i]
		proto, _ := number(p.Protocol)
		if p.Affinity == 0 {
			continue
		}
		if p.ClusterIP.Is4() {
			ip := p.ClusterIP.As4()
			for _, e := range p.Endpoints {
				valid[string(append(ip[:], proto, 0, 0, 0, byte(p.Port>>8), byte(p.Port), 0, 0))+endpointBytes(e)] = true
			}
		}
		for _, e := range p.External {
			valid[string([]byte{0, 0, 0, 0, proto, 0, 0, 0, byte(p.NodePort >> 8), byte(p.NodePort), 0, 0})+endpointBytes(e)] = true
		}
	}
	c := &change{}
	for k, v := range bound {
		if len(k) == 16 && !valid[k[4:]+v] && !valid["\x00\x00\x00\x00"+k[8:]+v] {
			c.del = append(c.del, element{affinity, k, v})
		}
	}
	if c.empty() {
		return nil
	}
	c.tidy()
	n, err := f.kernel.commit(c)
	if err != nil {
		return err
	}
	f.generation += n
	return nil
}
