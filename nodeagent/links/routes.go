package links

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/wire"
)

// protocol marks our routes to other nodes' pods; the instance, 6 hex digits, is their metric. So they are found
// again after a restart and told from those of others and of another instance.
const protocol = 83

// peers is what the node knows of the others.
type peers struct {
	work  sync.Mutex // one change at a time; guards path, kinds and done
	path  map[netip.Addr]int
	kinds map[netip.Addr]kind // how nodes were last reached, by their address
	done  bool                // the last change was made whole

	mu     sync.Mutex // guards all below
	wanted *network
	stands map[int]bool // interfaces that lead to the others
	clear  []Clear      // nodes that nothing is encrypted for
}

// network is what Routes was asked for.
type network struct {
	address netip.Addr
	cluster netip.Prefix
	overlay wire.Overlay
	routes  []wire.Route
	tunnel  cluster.Tunnel // this node's own, as the others know it
	strict  bool
}

func (n *network) equal(o *network) bool {
	return o != nil && n.address == o.address && n.cluster == o.cluster && n.overlay == o.overlay && n.tunnel == o.tunnel && n.strict == o.strict && slices.Equal(n.routes, o.routes)
}

func (p *peers) want() *network {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wanted
}

// hasPods tells whether an address is of another node's pods.
func (p *peers) hasPods(address []byte) bool {
	a, ok := netip.AddrFromSlice(address)
	w := p.want()
	return ok && w != nil && slices.ContainsFunc(w.routes, func(r wire.Route) bool { return r.CIDR.Contains(a) })
}

// groundMoved tells whether the network of an address that came or went is one that another node is in.
func (p *peers) groundMoved(address []byte, bits int) bool {
	a, ok := netip.AddrFromSlice(address)
	w := p.want()
	if !ok || w == nil {
		return false
	}
	subnet, err := a.Prefix(bits)
	return err == nil && slices.ContainsFunc(w.routes, func(r wire.Route) bool { return subnet.Contains(r.Via) })
}

// standsOn tells whether the way to another node goes over an interface.
func (p *peers) standsOn(index int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stands[index]
}

// Routes makes the node's routes to other nodes' pods those of t, and takes away those that it made before and that
// are no longer wanted. EnsureNode must have been called. To a node in a network that this machine is in too, packets
// go as they are; to others they are wrapped (see Overlay). Between two nodes with WireGuard they are encrypted, whatever lies
// between. New pods get the largest MTU that reaches every node;
// pods that exist learn of a smaller one from the kernel, packet by packet. A node that cannot be reached does not keep
// the others from being; the error names it. Calling it again with equal tables costs nothing.
func (l *Links) Routes(ctx context.Context, t wire.Tables) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.peers.work.Lock()
	defer l.peers.work.Unlock()
	n := &network{t.Address, t.Cluster, t.Overlay, t.Routes, t.Tunnel, t.Strict}
	if l.peers.done && n.equal(l.peers.want()) {
		return nil
	}
	l.peers.mu.Lock()
	l.peers.wanted = n
	l.peers.mu.Unlock()
	return l.ensureRoutes(ctx, n)
}

// repairRoutes makes the routes that were last wanted, if any ever were.
func (l *Links) repairRoutes(ctx context.Context) error {
	l.peers.work.Lock()
	defer l.peers.work.Unlock()
	if n := l.peers.want(); n != nil {
		return l.ensureRoutes(ctx, n)
	}
	return nil
}

func (l *Links) ensureRoutes(ctx context.Context, n *network) error {
	l.peers.done = false
	if err := l.probe(ctx, n); err != nil {
		return err
	}
	ways, problems := l.ways(n)
	if err := l.setMTU(ways); err != nil {
		return err
	}
	var d devices
	var err error
	if d.tunnel, err = l.ensureTunnel(ctx, n, ways); err != nil {
		// What is to be encrypted goes nowhere then; what is not goes on.
		problems = append(problems, fmt.Errorf("tunnel %s: %w", l.tunnelName(), err))
	}
	if d.overlay, err = l.ensureOverlay(ways); err != nil {
		return fmt.Errorf("overlay %s: %w", l.overlayName(), err)
	}
	steps, err := l.routeSteps(ways, d)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.why, err)
		}
	}
	if err := l.endTunnel(n); err != nil {
		problems = append(problems, err)
	}
	l.warnOfOthers(ways)
	l.peers.done = len(problems) == 0
	return errors.Join(problems...)
}

// devices are what leads to other nodes beside the machine's own interfaces; nil where there is none.
type devices struct{ overlay, tunnel netlink.Link }

// checkRoutes tells what repairRoutes would do. What was never made whole is no drift: Routes has said so, and is called again.
func (l *Links) checkRoutes(ctx context.Context) ([]string, error) {
	l.peers.work.Lock()
	defer l.peers.work.Unlock()
	n := l.peers.want()
	if n == nil || !l.peers.done {
		return nil, nil
	}
	if err := l.probe(ctx, n); err != nil {
		return nil, err
	}
	ways, problems := l.ways(n)
	var d devices
	wrong, overlay, err := l.checkOverlay(ways)
	if err != nil {
		return nil, err
	}
	more, tunnel, err := l.checkTunnel(ctx, n, ways)
	if err != nil {
		return nil, err
	}
	wrong, d.overlay, d.tunnel = append(wrong, more...), overlay, tunnel
	steps, err := l.routeSteps(ways, d)
	if err != nil {
		return nil, err
	}
	for _, s := range steps {
		wrong = append(wrong, s.why)
	}
	if m := l.podMTU(ways); m != l.mtu() {
		wrong = append(wrong, fmt.Sprintf("MTU of pods is %d, want %d", l.mtu(), m))
	}
	for _, p := range problems {
		wrong = append(wrong, p.Error())
	}
	return wrong, nil
}

// step is one thing to do, and in words why.
type step struct {
	why string
	do  func() error
}

// routeSteps compares routes, neighbours and forwarding entries with those wanted. Without the overlay, what is on it
// is left out; without the tunnel, what is to go through it is refused.
func (l *Links) routeSteps(ways []way, d devices) ([]step, error) {
	found, err := l.ownRoutes()
	if err != nil {
		return nil, err
	}
	var steps []step
	if d.overlay != nil {
		if steps, err = l.entrySteps(ways, d.overlay); err != nil {
			return nil, err
		}
	}
	wanted := make(map[string]bool, len(ways)+1)
	want := func(r *netlink.Route, what string) {
		if r == nil {
			return
		}
		wanted[r.Dst.String()] = true
		have := slices.IndexFunc(found, func(f netlink.Route) bool { return f.Dst.String() == r.Dst.String() })
		switch {
		case have < 0:
			steps = append(steps, step{fmt.Sprintf("%s, %s, is missing", what, r.Dst), func() error { return l.nl.RouteReplace(r) }})
		case !sameWay(&found[have], r):
			steps = append(steps, step{fmt.Sprintf("%s, %s, leads elsewhere", what, r.Dst), func() error { return l.nl.RouteReplace(r) }})
		}
	}
	for i := range ways {
		want(l.wayRoute(&ways[i], d), "route to the pods of node "+string(ways[i].Node))
	}
	want(l.nobodysRoute(ways), "route to the pods of no node")
	for i := range found {
		if !wanted[found[i].Dst.String()] {
			steps = append(steps, step{"route " + found[i].Dst.String() + " is not wanted", func() error { return gone(l.nl.RouteDel(&found[i])) }})
		}
	}
	return steps, nil
}

// wayRoute is the route of a way, nil if there is none to make.
func (l *Links) wayRoute(w *way, d devices) *netlink.Route {
	r := &netlink.Route{
		Dst: ipNet(w.CIDR), Src: ip(l.NodeAddress()), Protocol: protocol, Priority: l.metric(), Table: unix.RT_TABLE_MAIN,
	}
	switch {
	case w.kind == direct:
		r.LinkIndex, r.Gw = w.link, ip(w.Via)
	case w.kind == wrapped && d.overlay != nil:
		r.LinkIndex, r.Gw = d.overlay.Attrs().Index, ip(wire.NodeAddress(w.CIDR))
		r.SetFlag(netlink.FLAG_ONLINK)
	case w.kind == sealed && d.tunnel != nil:
		r.LinkIndex, r.Scope = d.tunnel.Attrs().Index, netlink.SCOPE_LINK
	case w.kind == sealed, w.kind == refused:
		r.Type, r.Src = unix.RTN_UNREACHABLE, nil
	default:
		return nil
	}
	return r
}

// nobodysRoute refuses what is for pods of a node that is not in the ring, where a default route would carry it off; and,
// in clear, what was to be encrypted when its own route is gone. Where routers are to know the way it would be in theirs.
func (l *Links) nobodysRoute(ways []way) *netlink.Route {
	if len(ways) == 0 || !ways[0].net.cluster.IsValid() || l.opt.Overlay == Never && !ways[0].net.seals() {
		return nil
	}
	return &netlink.Route{
		Type: unix.RTN_UNREACHABLE, Dst: ipNet(ways[0].net.cluster.Masked()), Protocol: protocol, Priority: l.metric(), Table: unix.RT_TABLE_MAIN,
	}
}

func sameWay(a, b *netlink.Route) bool {
	if b.Type == unix.RTN_UNREACHABLE || a.Type == unix.RTN_UNREACHABLE { // which the kernel may list with the interface lo
		return a.Type == b.Type
	}
	return a.LinkIndex == b.LinkIndex && a.Gw.Equal(b.Gw) && a.Src.Equal(b.Src) && (a.Flags^b.Flags)&int(netlink.FLAG_ONLINK) == 0 &&
		len(a.MultiPath) == 0 && a.MTU == b.MTU
}

func (l *Links) metric() int { return metric(l.opt.Instance) }

// OwnRoute tells whether an instance made a route to other nodes' pods.
func OwnRoute(r *netlink.Route, instance string) bool {
	return r.Protocol == protocol && r.Priority == metric(instance)
}

// metric is the instance as a number.
func metric(instance string) int {
	n := 0
	for _, c := range []byte(instance) {
		digit := int(c - '0')
		if c >= 'a' {
			digit = int(c-'a') + 10
		}
		n = n<<4 | digit
	}
	return n
}

// ownRoutes lists those of the instance, whoever made them when.
func (l *Links) ownRoutes() ([]netlink.Route, error) {
	filter := &netlink.Route{Protocol: protocol, Table: unix.RT_TABLE_MAIN}
	found, err := whole(func() ([]netlink.Route, error) {
		return l.nl.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes to other nodes: %w", err)
	}
	return slices.DeleteFunc(found, func(r netlink.Route) bool { return r.Dst == nil || !OwnRoute(&r, l.opt.Instance) }), nil
}

// warnOfOthers says which of our routes do not count because somebody else's stands before them.
func (l *Links) warnOfOthers(ways []way) {
	for i := range ways {
		w := &ways[i]
		if w.kind == outside || w.kind == nowhere {
			continue
		}
		if r, there, err := l.routeTo(ip(wire.NodeAddress(w.CIDR))); err == nil && there && !OwnRoute(&r, l.opt.Instance) {
			l.opt.Log.Warn("another route stands before the one to a node's pods", "node", string(w.Node), "why", r.String())
		}
	}
}

// purgeRoutes forgets the other nodes and removes the routes to them.
func (l *Links) purgeRoutes() error {
	l.peers.work.Lock()
	defer l.peers.work.Unlock()
	l.peers.mu.Lock()
	l.peers.wanted, l.peers.stands, l.peers.clear = nil, nil, nil
	l.peers.mu.Unlock()
	l.peers.done, l.peers.path, l.peers.kinds = false, nil, nil
	found, err := l.ownRoutes()
	if err != nil {
		return err
	}
	for i := range found {
		if err := gone(l.nl.RouteDel(&found[i])); err != nil {
			return fmt.Errorf("remove route %s: %w", found[i].Dst, err)
		}
	}
	return nil
}

// gone takes it for no error that what is to be removed is not there.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
