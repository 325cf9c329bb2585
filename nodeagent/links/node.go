package links

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// EnsureNode makes or repairs what the node itself needs before its first pod: forwarding, its own pair, the
// node's and the DNS server's address on it, and the routes of pods and Services to it; and the routes to other
// nodes as the last call of Routes wanted them.
func (l *Links) EnsureNode(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.enableForwarding(); err != nil {
		return err
	}
	if l.found.Load() == 0 {
		l.findMTU()
	}
	link, err := l.ensureNodePair()
	if err != nil {
		return fmt.Errorf("node link %s: %w", l.nodeName(), err)
	}
	for _, a := range l.nodeAddresses() {
		if err := l.nl.AddrReplace(link, a); err != nil {
			return fmt.Errorf("node link %s: address %s: %w", l.nodeName(), a.IPNet, err)
		}
	}
	for _, r := range []*netlink.Route{l.serviceRoute(link.Attrs().Index), l.noPodRoute()} {
		if err := l.nl.RouteReplace(r); err != nil {
			return fmt.Errorf("node link %s: route %s: %w", l.nodeName(), r.Dst, err)
		}
	}
	return l.repairRoutes(ctx)
}

// CheckNode tells what EnsureNode would repair; nil when all is as it should be.
func (l *Links) CheckNode(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var wrong []string
	if have, err := readSysctl(forward); err != nil {
		return nil, fmt.Errorf("read sysctl %s: %w", forward, err)
	} else if have != "1" {
		wrong = append(wrong, "sysctl "+forward+" is "+have+", want 1")
	}
	link, err := l.nl.LinkByName(l.nodeName())
	if isNoLink(err) {
		return append(wrong, "link "+l.nodeName()+" is missing"), nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up link %s: %w", l.nodeName(), err)
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		wrong = append(wrong, "link "+l.nodeName()+" is down")
	}
	if m := link.Attrs().MTU; m != l.mtu() {
		wrong = append(wrong, fmt.Sprintf("MTU of %s is %d, want %d", l.nodeName(), m, l.mtu()))
	}
	addrs, err := addresses(l.nl, link)
	if err != nil {
		return nil, err
	}
	for _, want := range l.nodeAddresses() {
		if !hasAddr(addrs, want) {
			wrong = append(wrong, "address "+want.IPNet.String()+" of "+l.nodeName()+" is missing")
		}
	}
	// Nobody has the first address of the range, so that it is asked for tells of the range's own route.
	route, found, err := l.routeTo(ip(l.opt.ServiceCIDR.Addr()))
	if err != nil {
		return nil, err
	}
	if want := l.serviceRoute(link.Attrs().Index); !found || !hasRoute([]netlink.Route{route}, want) {
		wrong = append(wrong, "route "+want.Dst.String()+" to "+l.nodeName()+" is missing")
	}
	there, err := l.hasNoPodRoute()
	if err != nil {
		return nil, err
	}
	if !there {
		wrong = append(wrong, "unreachable route "+l.opt.PodCIDR.String()+" is missing")
	}
	more, err := l.checkRoutes(ctx)
	return append(wrong, more...), err
}

// ensureNodePair returns the node's end, up. Its peer is up too, because a link without a carrier may be left
// out of routing (ignore_routes_with_linkdown); it answers no ARP and forwards nothing.
func (l *Links) ensureNodePair() (netlink.Link, error) {
	link, err := l.nl.LinkByName(l.nodeName())
	if isNoLink(err) {
		pair := &netlink.Veth{
			LinkAttrs:        netlink.LinkAttrs{Name: l.nodeName(), HardwareAddr: hostMAC, MTU: l.mtu(), TxQLen: -1},
			PeerName:         l.peerName(),
			PeerHardwareAddr: hostMAC,
		}
		if err := l.nl.LinkAdd(pair); err != nil {
			return nil, fmt.Errorf("create: %w", err)
		}
		link, err = l.nl.LinkByName(l.nodeName())
	}
	if err != nil {
		return nil, err
	}
	peer, err := l.nl.LinkByName(l.peerName())
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", l.peerName(), err)
	}
	quiet := []setting{{"ipv4", "forwarding", "0"}, {"ipv6", "disable_ipv6", "1"}}
	if err := setLinkSysctls(l.peerName(), quiet); err != nil {
		return nil, err
	}
	if err := setLinkSysctls(l.nodeName(), quiet[1:]); err != nil {
		return nil, err
	}
	for _, end := range []netlink.Link{link, peer} {
		if end.Attrs().MTU != l.mtu() {
			if err := l.nl.LinkSetMTU(end, l.mtu()); err != nil {
				return nil, fmt.Errorf("set MTU: %w", err)
			}
		}
		if err := l.nl.LinkSetARPOff(end); err != nil {
			return nil, fmt.Errorf("switch off ARP: %w", err)
		}
		if err := l.nl.LinkSetUp(end); err != nil {
			return nil, fmt.Errorf("bring up: %w", err)
		}
	}
	return link, nil
}

// nodeAddresses: the DNS address has host scope, so that it is never chosen as a source.
func (l *Links) nodeAddresses() []*netlink.Addr {
	return []*netlink.Addr{
		{IPNet: host(l.NodeAddress())},
		{IPNet: host(l.opt.DNS), Scope: int(netlink.SCOPE_HOST)},
	}
}

// serviceRoute lets processes of the node connect to Services; the firewall sends them on before they get there.
func (l *Links) serviceRoute(index int) *netlink.Route {
	return &netlink.Route{
		LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: ipNet(l.opt.ServiceCIDR), Src: ip(l.NodeAddress()), Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN,
	}
}

// noPodRoute refuses at once what is for a pod that is not there; pods have routes of their own.
func (l *Links) noPodRoute() *netlink.Route {
	return &netlink.Route{Type: unix.RTN_UNREACHABLE, Dst: ipNet(l.opt.PodCIDR), Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN}
}

func (l *Links) hasNoPodRoute() (bool, error) {
	routes, err := whole(func() ([]netlink.Route, error) {
		return l.nl.RouteListFiltered(netlink.FAMILY_V4, l.noPodRoute(), netlink.RT_FILTER_DST|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return false, fmt.Errorf("list routes to %s: %w", l.opt.PodCIDR, err)
	}
	return len(routes) > 0, nil
}

// mtu is that of pods, in bytes: as EnsureNode or Routes found it.
func (l *Links) mtu() int {
	if m := l.found.Load(); m != 0 {
		return int(m)
	}
	return l.findMTU()
}

// findMTU notes the MTU that pods have as long as no other node is known.
func (l *Links) findMTU() int {
	m := l.podMTU(nil)
	l.found.Store(int32(m))
	return m
}

// defaultMTU asks for the MTU of the interface that the default route takes.
func (l *Links) defaultMTU() int {
	if route, there, err := l.routeTo(net.IPv4(192, 0, 2, 1)); err == nil && there {
		if link, err := l.nl.LinkByIndex(route.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return 1500
}

func isNoLink(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none)
}

func hasAddr(have []netlink.Addr, want *netlink.Addr) bool {
	for _, a := range have {
		if a.IPNet.String() == want.IPNet.String() && a.Scope == want.Scope {
			return true
		}
	}
	return false
}

func hasRoute(have []netlink.Route, want *netlink.Route) bool {
	for _, r := range have {
		sameDst := r.Dst.String() == want.Dst.String()
		if want.Dst == nil {
			sameDst = r.Dst == nil || r.Dst.String() == "0.0.0.0/0"
		}
		if sameDst && r.LinkIndex == want.LinkIndex && r.Scope == want.Scope && r.Src.Equal(want.Src) && r.Gw.Equal(want.Gw) {
			return true
		}
	}
	return false
}

func ip(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }

func host(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, a.BitLen())) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: ip(p.Addr()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
