package links

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/wire"
)

// Tunnel is the process that encrypts, and makes the device TunnelName for that. Every method may be repeated.
type Tunnel interface {
	// Ensure has the process and the device there, with the nodes of these routes as peers and no others.
	Ensure(ctx context.Context, peers []wire.Route) error
	// Check tells what Ensure would mend, and changes nothing.
	Check(ctx context.Context, peers []wire.Route) ([]string, error)
	// End ends the process. The device may stay.
	End() error
	// OnEnd has f called whenever the process has ended by itself.
	OnEnd(f func())
}

// ofTunnel: packets of a node may come out of it while the way back still is another one, as of the overlay.
var ofTunnel = []setting{{"ipv4", "rp_filter", "2"}, {"ipv6", "disable_ipv6", "1"}}

var tunnelAddress = &netlink.Addr{IPNet: host(netip.AddrFrom4([4]byte{169, 254, 1, 3})), Scope: int(netlink.SCOPE_HOST)}

// wantsTunnel tells whether the device is to be there: from before the others know that this node has it, so that it
// can answer when they do, until they know that it has not.
func (l *Links) wantsTunnel(n *network) bool {
	return l.opt.Tunnel != nil && (l.opt.Encrypt || n.seals())
}

// sealers are the nodes that may send encrypted packets here. This node has them as peers before it sends them any.
func sealers(n *network) (peers []wire.Route) {
	for i := range n.routes {
		if n.routes[i].Tunnel != (cluster.Tunnel{}) && n.routes[i].Via.Is4() {
			peers = append(peers, n.routes[i])
		}
	}
	return peers
}

// tunnelMTU is what fits to every node that is reached through it, encrypted.
func tunnelMTU(ways []way) int {
	m := 0
	for i := range ways {
		w := &ways[i]
		if w.kind != sealed || w.mtu == 0 {
			continue
		}
		if fits := fitsSealed(w.mtu); m == 0 || fits < m {
			m = fits
		}
	}
	if m == 0 {
		return fitsSealed(1500) // nobody is reached through it now
	}
	return max(m, smallest)
}

// ensureTunnel makes or mends the device; it returns nil if none is wanted. On an error the device is returned if it is
// there, for the routes to it: what goes to it while its process is not there is dropped.
func (l *Links) ensureTunnel(ctx context.Context, n *network, ways []way) (netlink.Link, error) {
	if !l.wantsTunnel(n) {
		return nil, nil
	}
	if have, err := l.nl.LinkByName(l.tunnelName()); err == nil && !isTUN(have) {
		if err := l.del(have); err != nil {
			return nil, err
		}
	}
	failed := l.opt.Tunnel.Ensure(ctx, sealers(n))
	have, err := l.nl.LinkByName(l.tunnelName())
	if isNoLink(err) && failed == nil { // it lay in wait for its device to be gone: the process is another one now
		if failed = l.opt.Tunnel.End(); failed == nil {
			failed = l.opt.Tunnel.Ensure(ctx, sealers(n))
		}
		have, err = l.nl.LinkByName(l.tunnelName())
	}
	switch {
	case isNoLink(err) && failed != nil:
		return nil, failed
	case err != nil:
		return nil, fmt.Errorf("look up: %w", err)
	}
	if err := l.mendTunnel(have, tunnelMTU(ways)); err != nil {
		return nil, err
	}
	return have, failed
}

func isTUN(link netlink.Link) bool {
	t, ok := link.(*netlink.Tuntap)
	return ok && t.Mode == netlink.TUNTAP_MODE_TUN
}

func (l *Links) mendTunnel(have netlink.Link, mtu int) error {
	if have.Attrs().MTU != mtu {
		if err := l.nl.LinkSetMTU(have, mtu); err != nil {
			return fmt.Errorf("set MTU: %w", err)
		}
	}
	if err := setLinkSysctls(l.tunnelName(), ofTunnel); err != nil { // after the MTU, see mendOverlay
		return err
	}
	address := *tunnelAddress
	if err := l.nl.AddrReplace(have, &address); err != nil {
		return fmt.Errorf("address %s: %w", address.IPNet, err)
	}
	if err := l.nl.LinkSetUp(have); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	return nil
}

// endTunnel takes the device down when it is not wanted any more. No route leads to it then.
func (l *Links) endTunnel(n *network) error {
	if l.wantsTunnel(n) {
		return nil
	}
	have, err := l.nl.LinkByName(l.tunnelName())
	if isNoLink(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up link %s: %w", l.tunnelName(), err)
	}
	if l.opt.Tunnel != nil {
		if err := l.opt.Tunnel.End(); err != nil {
			return err
		}
	}
	return l.del(have)
}

// checkTunnel returns what is wrong with the device, and the device if it is there and wanted.
func (l *Links) checkTunnel(ctx context.Context, n *network, ways []way) ([]string, netlink.Link, error) {
	name := l.tunnelName()
	have, err := l.nl.LinkByName(name)
	wanted := l.wantsTunnel(n)
	switch {
	case isNoLink(err) && !wanted:
		return nil, nil, nil
	case isNoLink(err):
		return []string{"link " + name + " is missing"}, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("look up link %s: %w", name, err)
	case !wanted:
		return []string{"link " + name + " is not wanted"}, nil, nil
	case !isTUN(have):
		return []string{"link " + name + " is no TUN device"}, nil, nil
	}
	wrong, err := l.opt.Tunnel.Check(ctx, sealers(n))
	if err != nil {
		return nil, nil, err
	}
	a := have.Attrs()
	if want := tunnelMTU(ways); a.MTU != want {
		wrong = append(wrong, fmt.Sprintf("MTU of %s is %d, want %d", name, a.MTU, want))
	}
	if a.Flags&net.FlagUp == 0 {
		wrong = append(wrong, "link "+name+" is down")
	}
	addrs, err := addresses(l.nl, have)
	if err != nil {
		return nil, nil, err
	}
	if !hasAddr(addrs, tunnelAddress) {
		wrong = append(wrong, "address "+tunnelAddress.IPNet.String()+" of "+name+" is missing")
	}
	return append(wrong, wrongLinkSysctls(name, ofTunnel)...), have, nil
}
