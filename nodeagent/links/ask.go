package links

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A node has a link, a route and a neighbour for every pod, so listing all of them for each pod would grow with the
// square of their number. The node's side is asked for one route and one neighbour at a time.

// listings is how often a listing is begun anew when something changed in the middle of it.
const listings = 10

// whole repeats a listing until nothing changed in the middle of it.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for range listings {
		found, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return found, err
		}
	}
	return nil, fmt.Errorf("it changed %d times while it was read", listings)
}

func (l *Links) links() ([]netlink.Link, error) {
	return whole(l.nl.LinkList)
}

func addresses(h *netlink.Handle, link netlink.Link) ([]netlink.Addr, error) {
	found, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	return found, nil
}

// routes lists those of a link: in a pod, where there are few.
func routes(h *netlink.Handle, link netlink.Link) ([]netlink.Route, error) {
	found, err := whole(func() ([]netlink.Route, error) { return h.RouteList(link, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routes of %s: %w", link.Attrs().Name, err)
	}
	return found, nil
}

// routeTo returns the route that the node takes to an address, as it stands in the table; false if there is none.
func (l *Links) routeTo(ip net.IP) (netlink.Route, bool, error) {
	found, err := l.nl.RouteGetWithOptions(ip, &netlink.RouteGetOptions{FIBMatch: true})
	switch {
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL), err == nil && len(found) == 0:
		return netlink.Route{}, false, nil
	case err != nil:
		return netlink.Route{}, false, fmt.Errorf("look up route to %s: %w", ip, err)
	}
	return found[0], true, nil
}

// hasNeighbour tells whether the node has the permanent neighbour entry.
func (l *Links) hasNeighbour(link netlink.Link, ip net.IP, mac net.HardwareAddr) (bool, error) {
	req := &nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: unix.RTM_GETNEIGH, Flags: unix.NLM_F_REQUEST},
		Sockets:  l.ask,
	}
	req.AddData(&netlink.Ndmsg{Family: unix.AF_INET, Index: uint32(link.Attrs().Index)})
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, ip.To4()))
	replies, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	switch {
	case errors.Is(err, unix.ENOENT), err == nil && len(replies) == 0:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look up neighbour %s: %w", ip, err)
	}
	n, err := netlink.NeighDeserialize(replies[0])
	if err != nil {
		return false, fmt.Errorf("look up neighbour %s: %w", ip, err)
	}
	return n.State == netlink.NUD_PERMANENT && n.HardwareAddr.String() == mac.String(), nil
}
