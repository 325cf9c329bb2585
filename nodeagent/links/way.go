package links

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/wire"
)

// Overlay says when packets to another node's pods are wrapped in VXLAN.
type Overlay string

// Auto wraps what goes to nodes that are in none of this machine's networks. Always wraps everything: for networks
// that look like one but pass on only packets with a machine's own addresses, as those of many clouds do. Never wraps
// nothing and leaves the way to such nodes to the routers, who must know where each node's pods are.
const (
	Auto   Overlay = "auto"
	Always Overlay = "always"
	Never  Overlay = "never"
)

// kind is how packets get to another node.
type kind int

const (
	direct  kind = iota // as they are, by a neighbour's address
	wrapped             // in VXLAN
	outside             // by routes that are not ours
	sealed              // encrypted, by the tunnel
	refused             // not at all: it has no WireGuard, and this node is strict
	nowhere             // not at all: the kernel knows no way to it, and how it is reached was never known
)

// way is how packets get to the pods of another node.
type way struct {
	wire.Route
	kind kind
	link int // the interface they leave by; 0 if that is not known
	mtu  int // of that interface or of the whole path, before anything is wrapped
	net  *network
}

// wrapping is what VXLAN over IPv4 adds to a packet, in bytes: Ethernet, VXLAN, UDP, IP.
const wrapping = 14 + 8 + 8 + 20

// sealing is what WireGuard adds to a packet, in bytes: its own head and authentication, UDP, IPv4. That nodes have IPv4
// addresses is asked for above; the 20 bytes more of IPv6 are never sent.
const sealing = 32 + 8 + 20

// fitsSealed is the largest packet that fits into one of mtu bytes encrypted. WireGuard fills packets up to 16 bytes.
func fitsSealed(mtu int) int { return (mtu - sealing) &^ 15 }

// smallest is the least MTU that is given to anything.
const smallest = 576

// ways decides for each node. The nodes it can say nothing for are in problems.
func (l *Links) ways(n *network) (ways []way, problems []error) {
	stands, kinds := make(map[int]bool), make(map[netip.Addr]kind, len(n.routes))
	var open []Clear
	for _, r := range n.routes {
		if !r.Via.Is4() || !r.CIDR.Addr().Is4() || r.CIDR.Bits() > 30 {
			problems = append(problems, fmt.Errorf("node %s at %s with pods %s: want IPv4 and a range of at most 30 bits", r.Node, r.Via, r.CIDR))
			continue
		}
		w := way{Route: r, net: n}
		neighbour, err := l.ground(&w)
		if err != nil {
			problems = append(problems, fmt.Errorf("node %s: %w", r.Node, err))
			continue
		}
		w.kind = l.kindOf(&w, neighbour)
		if w.link != 0 {
			stands[w.link] = true
			kinds[w.Via] = w.kind
		} else if was, known := l.peers.kinds[w.Via]; known {
			kinds[w.Via] = was
		}
		if w.kind == refused || w.kind != sealed && l.opt.Encrypt {
			open = append(open, Clear{r.Node, w.kind == refused})
		}
		ways = append(ways, w)
	}
	l.peers.kinds = kinds
	l.peers.mu.Lock()
	l.peers.stands, l.peers.clear = stands, open
	l.peers.mu.Unlock()
	return ways, problems
}

// kindOf is the whole of the decision. What is to be encrypted is so whatever lies beneath, so that nothing that happens
// to the network has it sent in clear. A node that the kernel knows no way to for the moment, as when a cable was pulled, is
// neither a neighbour nor behind a router: the way to it stays what it was.
func (l *Links) kindOf(w *way, neighbour bool) kind {
	was, known := l.peers.kinds[w.Via]
	switch {
	case w.Tunnel != (cluster.Tunnel{}) && w.net.seals():
		return sealed
	case w.net.strict:
		return refused
	case l.opt.Overlay == Always:
		return wrapped
	case w.link != 0 && neighbour:
		return direct
	case l.opt.Overlay == Never:
		return outside
	case w.link != 0, known && was == wrapped:
		return wrapped
	}
	return nowhere
}

// seals tells whether other nodes know how to decrypt for this one and encrypt for it: they have its key.
func (n *network) seals() bool { return n.tunnel != (cluster.Tunnel{}) }

// Clear is a node for which nothing is encrypted.
type Clear struct {
	Node    place.NodeID
	Refused bool // nothing is sent to it either
}

// Clear are the other nodes that packets go to as they are, though this node would encrypt them, and those to which
// none go because of that.
func (l *Links) Clear() []Clear {
	l.peers.mu.Lock()
	defer l.peers.mu.Unlock()
	return slices.Clone(l.peers.clear)
}

// ground asks the kernel for the way to a node's own address: the interface, the MTU, and whether the node is a
// neighbour, one that frames are sent to without a router between.
func (l *Links) ground(w *way) (neighbour bool, err error) {
	route, there, err := l.routeTo(ip(w.Via))
	if err != nil || !there {
		return false, err
	}
	if route.Type == unix.RTN_LOCAL {
		return false, fmt.Errorf("its address %s is this machine's own", w.Via)
	}
	link, err := l.nl.LinkByIndex(route.LinkIndex)
	if isNoLink(err) {
		return false, nil // several next hops, or it went this moment
	}
	if err != nil {
		return false, fmt.Errorf("look up the interface to %s: %w", w.Via, err)
	}
	a := link.Attrs()
	w.link, w.mtu = a.Index, a.MTU
	if route.MTU != 0 {
		w.mtu = min(w.mtu, route.MTU)
	}
	if path := l.peers.path[w.Via]; path != 0 {
		w.mtu = min(w.mtu, path)
	}
	w.mtu = max(w.mtu, smallest)
	frames := a.EncapType == "ether" && a.Flags&net.FlagBroadcast != 0 && a.Flags&net.FlagPointToPoint == 0 && a.RawFlags&unix.IFF_NOARP == 0
	everything := route.Dst == nil || route.Dst.IP.IsUnspecified()
	return frames && route.Gw == nil && route.Via == nil && !everything, nil
}

// podMTU is the largest MTU with which pods reach every node; that of the default route's interface without nodes.
func (l *Links) podMTU(ways []way) int {
	if l.opt.MTU != 0 {
		return l.opt.MTU
	}
	m := 0
	for i := range ways {
		w := &ways[i]
		if w.mtu == 0 {
			continue
		}
		fits := w.mtu
		switch w.kind {
		case wrapped:
			fits -= wrapping
		case sealed:
			fits = fitsSealed(fits)
		}
		if m == 0 || fits < m {
			m = fits
		}
	}
	if m == 0 {
		return l.defaultMTU()
	}
	return max(m, smallest)
}

// setMTU gives the node's own pair the MTU that new pods get.
func (l *Links) setMTU(ways []way) error {
	m := l.podMTU(ways)
	if int(l.found.Swap(int32(m))) == m {
		return nil
	}
	for _, name := range []string{l.nodeName(), l.peerName()} {
		link, err := l.nl.LinkByName(name)
		if err == nil {
			err = l.nl.LinkSetMTU(link, m)
		}
		if err != nil {
			return fmt.Errorf("set MTU of %s: %w", name, err)
		}
	}
	return nil
}

// echo is how long a probe waits for a router to say that it was too big.
const echo = 50 * time.Millisecond

// probe finds out how big a packet may be on the way to nodes behind routers: it sends one as big as the interface
// allows that must not be cut. A router that cannot pass it on says so, and how big it may be. What was learnt of an
// address is kept as long as a node has it.
func (l *Links) probe(ctx context.Context, n *network) error {
	path := make(map[netip.Addr]int, len(n.routes))
	var fresh []netip.AddrPort
	for _, r := range n.routes {
		if mtu, known := l.peers.path[r.Via]; known {
			path[r.Via] = mtu
		} else if r.Via.Is4() {
			port := n.overlay.Port
			if r.Tunnel != (cluster.Tunnel{}) && n.seals() {
				port = r.Tunnel.Port
			}
			fresh = append(fresh, netip.AddrPortFrom(r.Via, port))
		}
	}
	l.peers.path = path
	var far []netip.AddrPort
	for _, a := range fresh {
		if route, there, err := l.routeTo(ip(a.Addr())); err == nil && there && route.Gw != nil {
			far = append(far, a)
		}
	}
	if len(far) == 0 || n.overlay.Port == 0 {
		return nil
	}
	c, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", ":0")
	if err != nil {
		return fmt.Errorf("probe the way to other nodes: %w", err)
	}
	defer func() { _ = c.Close() }()
	if err := neverCut(c.(*net.UDPConn)); err != nil {
		return fmt.Errorf("probe the way to other nodes: %w", err)
	}
	for _, a := range far {
		w := way{Route: wire.Route{Via: a.Addr()}}
		if _, err := l.ground(&w); err == nil && w.mtu > 28 {
			// Zeros are no packet of VXLAN or WireGuard; a node drops them. What cannot be sent now is learnt as packets go.
			_, _ = c.WriteTo(make([]byte, w.mtu-28), net.UDPAddrFromAddrPort(a))
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(echo): // the socket must be open when the answer comes
	}
	for _, a := range far {
		if found, err := l.nl.RouteGet(ip(a.Addr())); err == nil && len(found) > 0 {
			l.peers.path[a.Addr()] = found[0].MTU // 0: no less than the interface's
		}
	}
	return nil
}

// neverCut has the kernel send packets as they are, also when it believes them too big for the path.
func neverCut(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	})
	if err != nil {
		return err
	}
	return set
}

// wrappedMTU is the MTU of the overlay, 0 if nothing is wrapped.
func wrappedMTU(ways []way) int {
	m := 0
	for i := range ways {
		if w := &ways[i]; w.kind == wrapped {
			fits := w.mtu
			if fits == 0 {
				fits = 1500 // there is no way to it now
			}
			if m == 0 || fits < m {
				m = fits
			}
		}
	}
	if m == 0 {
		return 0
	}
	return max(m-wrapping, smallest)
}

// firstWrapped is the first node whose packets are wrapped, nil if there is none.
func firstWrapped(ways []way) *way {
	if i := slices.IndexFunc(ways, func(w way) bool { return w.kind == wrapped }); i >= 0 {
		return &ways[i]
	}
	return nil
}
