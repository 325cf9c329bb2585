package links

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// The overlay is one VXLAN device that learns nothing: for each node behind it there are three entries, all of them
// written down.
//
//	10.42.7.0/24 via 10.42.7.1 dev sh-ab12cd-vx onlink src 10.42.0.1    route
//	10.42.7.1    lladdr 0a:53:0a:2a:07:01 permanent                     neighbour
//	0a:53:0a:2a:07:01 dst 192.0.2.7 self permanent                      forwarding entry
//
// The hardware address of a node's end is made of its address among pods, so that each node knows it of every other
// without asking, and an entry cannot outlive a change of keys or of machines.

// ofOverlay: 2 accepts a packet whose source is reached by another interface, where the host's default would drop it:
// two nodes need not take the same way to each other. The kernel does so only on an interface that has an address.
var ofOverlay = []setting{{"ipv4", "rp_filter", "2"}, {"ipv6", "disable_ipv6", "1"}}

var overlayAddress = &netlink.Addr{IPNet: host(netip.AddrFrom4([4]byte{169, 254, 1, 2})), Scope: int(netlink.SCOPE_HOST)}

// overlayMAC is the hardware address of a node's end of the overlay.
func overlayMAC(node netip.Addr) net.HardwareAddr {
	a := node.As4()
	return net.HardwareAddr{0x0a, 0x53, a[0], a[1], a[2], a[3]}
}

// wantedOverlay is the device as it should be, nil if nothing is wrapped.
func (l *Links) wantedOverlay(ways []way) *netlink.Vxlan {
	first := firstWrapped(ways)
	if first == nil {
		return nil
	}
	v := &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: l.overlayName(), HardwareAddr: overlayMAC(l.NodeAddress()), MTU: wrappedMTU(ways), TxQLen: -1},
		VxlanId:   int(first.net.overlay.VNI), Port: int(first.net.overlay.Port), NoAge: true,
	}
	// Other nodes take packets from the address they know this one by. Behind an address translation it is not ours,
	// and the kernel may choose.
	if own := first.net.address; own.Is4() {
		if route, there, err := l.routeTo(ip(own)); err == nil && there && route.Type == unix.RTN_LOCAL {
			v.SrcAddr = ip(own)
		}
	}
	return v
}

// overlayDrift says what is wrong with the device; with anew it must be made again, which cuts nothing but the packets
// of that moment.
func overlayDrift(have netlink.Link, want *netlink.Vxlan) (wrong []string, anew bool) {
	name := want.Attrs().Name
	v, ok := have.(*netlink.Vxlan)
	if !ok {
		return []string{"link " + name + " is no VXLAN device"}, true
	}
	if v.VxlanId != want.VxlanId || v.Port != want.Port || v.Learning || !v.SrcAddr.Equal(want.SrcAddr) || v.FlowBased || v.Group != nil || v.VtepDevIndex != 0 {
		wrong, anew = append(wrong, "settings of "+name+" were changed"), true
	}
	a := have.Attrs()
	if a.HardwareAddr.String() != want.HardwareAddr.String() {
		wrong = append(wrong, fmt.Sprintf("hardware address of %s is %s, want %s", name, a.HardwareAddr, want.HardwareAddr))
	}
	if a.MTU != want.MTU {
		wrong = append(wrong, fmt.Sprintf("MTU of %s is %d, want %d", name, a.MTU, want.MTU))
	}
	if a.Flags&net.FlagUp == 0 {
		wrong = append(wrong, "link "+name+" is down")
	}
	return wrong, anew
}

// checkOverlay returns what is wrong with the device, and the device if it is there and wanted.
func (l *Links) checkOverlay(ways []way) ([]string, netlink.Link, error) {
	want := l.wantedOverlay(ways)
	have, err := l.nl.LinkByName(l.overlayName())
	switch {
	case isNoLink(err) && want == nil:
		return nil, nil, nil
	case isNoLink(err):
		return []string{"link " + l.overlayName() + " is missing"}, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("look up link %s: %w", l.overlayName(), err)
	case want == nil:
		return []string{"link " + l.overlayName() + " is not wanted"}, nil, nil
	}
	wrong, _ := overlayDrift(have, want)
	addrs, err := addresses(l.nl, have)
	if err != nil {
		return nil, nil, err
	}
	if !hasAddr(addrs, overlayAddress) {
		wrong = append(wrong, "address "+overlayAddress.IPNet.String()+" of "+l.overlayName()+" is missing")
	}
	return append(wrong, wrongLinkSysctls(l.overlayName(), ofOverlay)...), have, nil
}

// ensureOverlay makes, mends or removes the device; it returns nil if none is wanted.
func (l *Links) ensureOverlay(ways []way) (netlink.Link, error) {
	want := l.wantedOverlay(ways)
	have, err := l.nl.LinkByName(l.overlayName())
	if err != nil && !isNoLink(err) {
		return nil, err
	}
	if have != nil && err == nil {
		anew := want == nil
		if !anew {
			_, anew = overlayDrift(have, want)
		}
		if anew {
			if err := l.del(have); err != nil {
				return nil, err
			}
			have = nil
		}
	} else {
		have = nil
	}
	if want == nil {
		return nil, nil
	}
	if have == nil {
		if err := l.nl.LinkAdd(want); err != nil {
			return nil, fmt.Errorf("create: %w", err)
		}
		if have, err = l.nl.LinkByName(l.overlayName()); err != nil {
			return nil, fmt.Errorf("look up: %w", err)
		}
	}
	return have, l.mendOverlay(have, want)
}

func (l *Links) mendOverlay(have netlink.Link, want *netlink.Vxlan) error {
	if have.Attrs().HardwareAddr.String() != want.HardwareAddr.String() {
		if err := l.nl.LinkSetHardwareAddr(have, want.HardwareAddr); err != nil {
			return fmt.Errorf("set hardware address: %w", err)
		}
	}
	if have.Attrs().MTU != want.MTU {
		if err := l.nl.LinkSetMTU(have, want.MTU); err != nil {
			return fmt.Errorf("set MTU: %w", err)
		}
	}
	// After the MTU: with less than 1280 bytes the kernel forgets the settings of IPv6.
	if err := setLinkSysctls(l.overlayName(), ofOverlay); err != nil {
		return err
	}
	if l.opt.NoOffload {
		if err := noChecksumOffload(l.overlayName()); err != nil {
			return fmt.Errorf("switch off checksum offload: %w", err)
		}
	}
	address := *overlayAddress // the library fills in its label
	if err := l.nl.AddrReplace(have, &address); err != nil {
		return fmt.Errorf("address %s: %w", address.IPNet, err)
	}
	if err := l.nl.LinkSetUp(have); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	return nil
}

// entrySteps compares neighbours and forwarding entries of the device with those wanted.
func (l *Links) entrySteps(ways []way, device netlink.Link) ([]step, error) {
	index := device.Attrs().Index
	var steps []step
	for _, of := range []struct {
		family int
		what   string
	}{{netlink.FAMILY_V4, "neighbour entry"}, {unix.AF_BRIDGE, "forwarding entry"}} {
		found, err := whole(func() ([]netlink.Neigh, error) { return l.nl.NeighList(index, of.family) })
		if err != nil {
			return nil, fmt.Errorf("list entries of %s: %w", l.overlayName(), err)
		}
		have := make(map[string]*netlink.Neigh, len(found))
		for i := range found {
			if found[i].State&netlink.NUD_PERMANENT != 0 { // others are the kernel's own, of multicast
				have[entryText(&found[i])] = &found[i]
			}
		}
		for i := range ways {
			if ways[i].kind != wrapped {
				continue
			}
			want := overlayEntry(&ways[i], index, of.family)
			text := entryText(want)
			if have[text] == nil {
				steps = append(steps, step{fmt.Sprintf("%s %s of node %s is missing", of.what, text, ways[i].Node), func() error { return l.nl.NeighSet(want) }})
			}
			delete(have, text)
		}
		for _, text := range sortedKeys(have) {
			// One with the same key and another value was replaced above: what is wanted is not taken away after it.
			n := have[text]
			if replaced(ways, n, index, of.family) {
				continue
			}
			n.Family, n.LinkIndex = of.family, index
			if of.family == unix.AF_BRIDGE {
				n.Flags = netlink.NTF_SELF
			}
			steps = append(steps, step{of.what + " " + text + " is not wanted", func() error { return gone(l.nl.NeighDel(n)) }})
		}
	}
	return steps, nil
}

// overlayEntry is a node's neighbour entry, or its forwarding entry.
func overlayEntry(w *way, index, family int) *netlink.Neigh {
	address := wire.NodeAddress(w.CIDR)
	n := &netlink.Neigh{LinkIndex: index, Family: family, State: netlink.NUD_PERMANENT, IP: ip(address), HardwareAddr: overlayMAC(address)}
	if family == unix.AF_BRIDGE {
		n.IP, n.Flags, n.State = ip(w.Via), netlink.NTF_SELF, netlink.NUD_PERMANENT|netlink.NUD_NOARP
	}
	return n
}

// replaced tells whether a wanted entry has the key of n: the address of a neighbour, the hardware address of a
// forwarding entry.
func replaced(ways []way, n *netlink.Neigh, index, family int) bool {
	for i := range ways {
		if ways[i].kind != wrapped {
			continue
		}
		want := overlayEntry(&ways[i], index, family)
		if family == unix.AF_BRIDGE && want.HardwareAddr.String() == n.HardwareAddr.String() || family != unix.AF_BRIDGE && want.IP.Equal(n.IP) {
			return true
		}
	}
	return false
}

func entryText(n *netlink.Neigh) string { return n.HardwareAddr.String() + " " + n.IP.String() }
