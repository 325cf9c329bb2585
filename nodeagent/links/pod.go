package links

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
)

// Ensure makes a pod's link, or repairs it. When it returns nil the pod has its address and can reach, and be
// reached, as far as the node's own link (EnsureNode) and the firewall allow. It takes 1 to 2 ms for a new link.
func (l *Links) Ensure(ctx context.Context, p Pod) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !p.IP.Is4() || !l.opt.PodCIDR.Contains(p.IP) || p.IP == l.NodeAddress() || p.IP == l.opt.PodCIDR.Addr() {
		return fmt.Errorf("link of pod %s: address %s: want one of %s but the first two", p.ID, p.IP, l.opt.PodCIDR)
	}
	defer l.lock(p.ID)()
	if err := l.ensure(p); err != nil {
		return fmt.Errorf("link of pod %s: %w", p.ID, err)
	}
	return nil
}

func (l *Links) ensure(p Pod) error {
	ns, err := os.Open(p.Netns)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	inside, err := handleIn(ns)
	if err != nil {
		return err
	}
	defer inside.Close()

	hostEnd, name, err := l.find(p.ID)
	if err != nil {
		return err
	}
	podEnd, err := ownEnd(inside, p)
	if err != nil {
		return err
	}
	if hostEnd != nil && (podEnd == nil || podEnd.Attrs().ParentIndex != hostEnd.Attrs().Index) {
		// It leads elsewhere: into a namespace that is gone, or to nothing that is ours.
		if err := l.del(hostEnd); err != nil {
			return err
		}
		hostEnd = nil
	}
	if hostEnd == nil {
		if hostEnd, err = l.addPair(p, name, ns, inside); err != nil {
			return err
		}
		if podEnd, err = inside.LinkByName(podInterface); err != nil {
			return fmt.Errorf("look up %s: %w", podInterface, err)
		}
	}
	if err := podSide(inside, podEnd, p); err != nil {
		return err
	}
	return l.hostSide(hostEnd, p)
}

// find returns the pod's host-side end, or nil and the name a new one should have.
func (l *Links) find(id control.PodID) (netlink.Link, string, error) {
	free := ""
	for n := range candidates {
		name := linkName(l.opt.Instance, id, n)
		link, err := l.nl.LinkByName(name)
		switch {
		case isNoLink(err):
			if free == "" {
				free = name
			}
		case err != nil:
			return nil, "", fmt.Errorf("look up link %s: %w", name, err)
		case link.Attrs().Alias == string(id):
			return link, name, nil
		case link.Attrs().Alias == "" && free == "": // its maker died: replaced
			if err := l.del(link); err != nil {
				return nil, "", err
			}
			free = name
		}
	}
	if free == "" {
		return nil, "", fmt.Errorf("all %d names its link may have are taken", candidates)
	}
	return nil, free, nil
}

// ownEnd returns the pod's interface, or nil if it has none.
func ownEnd(inside *netlink.Handle, p Pod) (netlink.Link, error) {
	link, err := inside.LinkByName(podInterface)
	if isNoLink(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", podInterface, err)
	}
	return link, nil
}

func (l *Links) addPair(p Pod, name string, ns *os.File, inside *netlink.Handle) (netlink.Link, error) {
	if stale, err := ownEnd(inside, p); err != nil {
		return nil, err
	} else if stale != nil { // its other end was renamed or belongs to nobody
		if err := inside.LinkDel(stale); err != nil {
			return nil, fmt.Errorf("remove stale %s: %w", podInterface, err)
		}
	}
	pair := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: name, HardwareAddr: hostMAC, MTU: l.mtu(), TxQLen: -1, Alias: string(p.ID)},
		PeerName:         podInterface,
		PeerHardwareAddr: podMAC(p.ID),
		PeerNamespace:    netlink.NsFd(int(ns.Fd())),
	}
	if err := l.nl.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	link, err := l.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("look up new link %s: %w", name, err)
	}
	if link.Attrs().Alias != string(p.ID) {
		if err := l.nl.LinkSetAlias(link, string(p.ID)); err != nil {
			return nil, fmt.Errorf("mark %s: %w", name, err)
		}
	}
	return link, nil
}

// podSide gives the pod's end its address and routes; other addresses of it are taken away.
func podSide(inside *netlink.Handle, link netlink.Link, p Pod) error {
	if lo, err := inside.LinkByName("lo"); err != nil {
		return fmt.Errorf("look up lo: %w", err)
	} else if lo.Attrs().Flags&net.FlagUp == 0 {
		if err := inside.LinkSetUp(lo); err != nil {
			return fmt.Errorf("bring up lo: %w", err)
		}
	}
	if link.Attrs().HardwareAddr.String() != podMAC(p.ID).String() {
		if err := inside.LinkSetHardwareAddr(link, podMAC(p.ID)); err != nil {
			return fmt.Errorf("set hardware address of %s: %w", podInterface, err)
		}
	}
	want := &netlink.Addr{IPNet: host(p.IP)}
	have, err := addresses(inside, link)
	if err != nil {
		return err
	}
	for i := range have {
		if have[i].IPNet.String() != want.IPNet.String() {
			if err := inside.AddrDel(link, &have[i]); err != nil {
				return fmt.Errorf("remove address %s of %s: %w", have[i].IPNet, podInterface, err)
			}
		}
	}
	if err := inside.AddrReplace(link, want); err != nil {
		return fmt.Errorf("address %s: %w", want.IPNet, err)
	}
	if err := inside.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", podInterface, err)
	}
	if err := inside.NeighSet(neighbour(link, gateway, hostMAC)); err != nil {
		return fmt.Errorf("gateway's neighbour entry: %w", err)
	}
	for _, r := range podRoutes(link.Attrs().Index) {
		if err := inside.RouteReplace(r); err != nil {
			return fmt.Errorf("route %s in the pod: %w", r.Dst, err)
		}
	}
	return nil
}

func (l *Links) hostSide(link netlink.Link, p Pod) error {
	name := link.Attrs().Name
	if err := setLinkSysctls(name, ofPods); err != nil {
		return err
	}
	if link.Attrs().HardwareAddr.String() != hostMAC.String() {
		if err := l.nl.LinkSetHardwareAddr(link, hostMAC); err != nil {
			return fmt.Errorf("set hardware address of %s: %w", name, err)
		}
	}
	if err := l.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	if err := l.nl.NeighSet(neighbour(link, ip(p.IP), podMAC(p.ID))); err != nil {
		return fmt.Errorf("pod's neighbour entry: %w", err)
	}
	if err := l.nl.RouteReplace(l.hostRoute(link.Attrs().Index, p)); err != nil {
		return fmt.Errorf("route to %s: %w (is the node's own link there?)", p.IP, err)
	}
	return nil
}

// hostRoute is the node's route to a pod.
func (l *Links) hostRoute(index int, p Pod) *netlink.Route {
	return &netlink.Route{
		LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: host(p.IP), Src: ip(l.NodeAddress()), Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN,
	}
}

// podRoutes are the pod's routes: the gateway is on link although it is in no network of the pod.
func podRoutes(index int) []*netlink.Route {
	return []*netlink.Route{
		{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}, Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN},
		{LinkIndex: index, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Gw: gateway, Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN},
	}
}

func neighbour(link netlink.Link, ip net.IP, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: mac}
}

// Remove takes a pod's link away, with its address and routes. A pod without one is no error.
func (l *Links) Remove(ctx context.Context, id control.PodID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer l.lock(id)()
	link, _, err := l.find(id)
	if err == nil && link != nil {
		err = l.del(link)
	}
	if err != nil {
		return fmt.Errorf("remove link of pod %s: %w", id, err)
	}
	return nil
}

// del removes a link of ours; one that is gone already is no error.
func (l *Links) del(link netlink.Link) error {
	name := link.Attrs().Name
	l.expect(name, true)
	err := l.nl.LinkDel(link)
	if err == nil || errors.Is(err, unix.ENODEV) {
		return nil
	}
	l.expect(name, false)
	return fmt.Errorf("remove link %s: %w", name, err)
}
