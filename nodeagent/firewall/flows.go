package firewall

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// forget removes what the kernel remembers of endpoints that may be gone.
func (f *Firewall) forget(old, t *wire.Tables) error {
	if !f.sweep && !udpChanged(old, t) {
		return nil
	}
	f.sweep = true // until it was done
	err := forgetFlows(t)
	if errors.Is(err, errNoConntrack) { // the rules are in force all the same
		f.opt.Log.Warn("flows of UDP to endpoints that are gone are not forgotten", "err", err)
		err = nil
	}
	f.sweep = err != nil
	return err
}

// errNoConntrack says that the kernel has no netlink interface to its connection tracking.
var errNoConntrack = errors.New("the kernel does not show its connections (CONFIG_NF_CT_NETLINK)")

// udpChanged tells whether an endpoint of a UDP port may be gone. With no old tables to compare with, any may be.
func udpChanged(old, t *wire.Tables) bool {
	if old == nil {
		return true
	}
	j := 0
	for i := range old.Ports {
		p := &old.Ports[i]
		for j < len(t.Ports) && comparePorts(old.Ports, i, t.Ports, j) > 0 {
			j++
		}
		if p.Protocol == wire.UDP && (j == len(t.Ports) || !p.Equal(t.Ports[j])) {
			return true
		}
	}
	return false
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
	var err error
	for range 3 { // a listing in which something changed may lack a flow
		_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, keep)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return conntrackError("forget flows of UDP", err)
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
