package links

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
)

// List returns the pods' links there are, sorted by name, wanted or not. The node's own is not among them.
func (l *Links) List(ctx context.Context) ([]Link, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := l.ours()
	if err != nil {
		return nil, err
	}
	var links []Link
	for _, link := range all {
		a := link.Attrs()
		if a.Name == l.nodeName() || a.Name == l.peerName() || a.Name == l.overlayName() || a.Name == l.tunnelName() {
			continue
		}
		links = append(links, Link{Name: a.Name, Pod: control.PodID(a.Alias), Up: a.Flags&net.FlagUp != 0})
	}
	slices.SortFunc(links, func(a, b Link) int { return strings.Compare(a.Name, b.Name) })
	return links, nil
}

// ours lists every link with our prefix.
func (l *Links) ours() ([]netlink.Link, error) {
	all, err := l.links()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return slices.DeleteFunc(all, func(link netlink.Link) bool {
		return !strings.HasPrefix(link.Attrs().Name, Prefix(l.opt.Instance))
	}), nil
}

// Check tells what Ensure would repair of a pod's link; nil when all is as it should be. It changes nothing.
func (l *Links) Check(ctx context.Context, p Pod) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer l.lock(p.ID)()
	wrong, index, err := l.checkHost(p)
	if err != nil {
		return nil, fmt.Errorf("check link of pod %s: %w", p.ID, err)
	}
	if index == 0 {
		return wrong, nil
	}
	more, err := checkPod(p, index)
	if err != nil {
		return nil, fmt.Errorf("check link of pod %s: %w", p.ID, err)
	}
	return append(wrong, more...), nil
}

// checkHost returns what is wrong with the host's side, and the index of the pod's link, or 0 if there is none.
func (l *Links) checkHost(p Pod) ([]string, int, error) {
	var link netlink.Link
	for n := range candidates {
		found, err := l.nl.LinkByName(linkName(l.opt.Instance, p.ID, n))
		if err != nil && !isNoLink(err) {
			return nil, 0, fmt.Errorf("look up link: %w", err)
		}
		if err == nil && found.Attrs().Alias == string(p.ID) {
			link = found
			break
		}
	}
	if link == nil {
		return []string{"link of pod " + string(p.ID) + " is missing"}, 0, nil
	}
	a := link.Attrs()
	wrong := wrongLinkSysctls(a.Name, ofPods)
	if a.Flags&net.FlagUp == 0 {
		wrong = append(wrong, "link "+a.Name+" is down")
	}
	if a.HardwareAddr.String() != hostMAC.String() {
		wrong = append(wrong, fmt.Sprintf("hardware address of %s is %s, want %s", a.Name, a.HardwareAddr, hostMAC))
	}
	route, found, err := l.routeTo(ip(p.IP))
	if err != nil {
		return nil, 0, err
	}
	if want := l.hostRoute(a.Index, p); !found || !hasRoute([]netlink.Route{route}, want) {
		wrong = append(wrong, "route to "+p.IP.String()+" by "+a.Name+" is missing")
	}
	there, err := l.hasNeighbour(link, ip(p.IP), podMAC(p.ID))
	if err == nil && !there {
		wrong = append(wrong, "neighbour entry "+p.IP.String()+" on "+a.Name+" is missing")
	}
	return wrong, a.Index, err
}

// checkPod returns what is wrong within the pod, whose host-side end has the given index.
func checkPod(p Pod, index int) ([]string, error) {
	ns, err := os.Open(p.Netns)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	inside, err := handleIn(ns)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	link, err := inside.LinkByName(podInterface)
	if isNoLink(err) {
		return []string{podInterface + " is missing in the pod"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", podInterface, err)
	}
	a := link.Attrs()
	if a.ParentIndex != index {
		return []string{podInterface + " is not the other end of the pod's link"}, nil
	}
	var wrong []string
	if a.Flags&net.FlagUp == 0 {
		wrong = append(wrong, podInterface+" is down in the pod")
	}
	if a.HardwareAddr.String() != podMAC(p.ID).String() {
		wrong = append(wrong, fmt.Sprintf("hardware address of %s is %s, want %s", podInterface, a.HardwareAddr, podMAC(p.ID)))
	}
	addrs, err := addresses(inside, link)
	if err != nil {
		return nil, err
	}
	if !hasAddr(addrs, &netlink.Addr{IPNet: host(p.IP)}) || len(addrs) != 1 {
		wrong = append(wrong, fmt.Sprintf("addresses of %s in the pod are %v, want %s", podInterface, addrs, host(p.IP)))
	}
	have, err := routes(inside, link)
	if err != nil {
		return nil, err
	}
	for _, want := range podRoutes(a.Index) {
		if !hasRoute(have, want) {
			wrong = append(wrong, "route "+want.Dst.String()+" in the pod is missing")
		}
	}
	missing, err := noNeighbour(inside, link, gateway, hostMAC)
	return append(wrong, missing...), err
}

// noNeighbour says that a permanent neighbour entry is missing in a pod.
func noNeighbour(h *netlink.Handle, link netlink.Link, ip net.IP, mac net.HardwareAddr) ([]string, error) {
	have, err := whole(func() ([]netlink.Neigh, error) { return h.NeighList(link.Attrs().Index, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list neighbours of %s: %w", link.Attrs().Name, err)
	}
	for _, n := range have {
		if n.IP.Equal(ip) && n.HardwareAddr.String() == mac.String() && n.State == netlink.NUD_PERMANENT {
			return nil, nil
		}
	}
	return []string{"neighbour entry " + ip.String() + " in the pod is missing"}, nil
}

// Purge removes every link with the instance's prefix, wanted or not, its routes to other nodes and the route of the
// pod CIDR, and puts the sysctls back.
func (l *Links) Purge(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.purgeRoutes(); err != nil {
		return err
	}
	if l.opt.Tunnel != nil {
		if err := l.opt.Tunnel.End(); err != nil { // first: it would miss its device, and make it again
			return err
		}
	}
	all, err := l.ours()
	if err != nil {
		return err
	}
	for _, link := range all {
		if err := l.del(link); err != nil {
			return err
		}
	}
	if there, err := l.hasNoPodRoute(); err != nil {
		return err
	} else if there {
		if err := l.nl.RouteDel(l.noPodRoute()); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route %s: %w", l.opt.PodCIDR, err)
		}
	}
	return l.restoreSysctls()
}
