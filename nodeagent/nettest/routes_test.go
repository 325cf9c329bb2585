package nettest_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// state is what a node's kernel has of ways to others.
func (m *member) state() string {
	m.Helper()
	s := nettest.RunIn(m, m.netns, "ip", "-4", "-o", "addr") + nettest.RunIn(m, m.netns, "ip", "-4", "route", "show", "table", "all") + nettest.RunIn(m, m.netns, "ip", "-4", "neigh", "show", "nud", "permanent")
	for line := range strings.Lines(nettest.RunIn(m, m.netns, "ip", "-br", "link") + nettest.RunIn(m, m.netns, "bridge", "fdb")) {
		if strings.Contains(line, links.Prefix(m.instance)) {
			s += line
		}
	}
	return s
}

func (m *member) ensureNode() {
	m.Helper()
	m.within(func() error { return m.links.EnsureNode(m.Context()) })
}

func (m *member) vx() string { return links.Prefix(m.instance) + "vx" }

func TestNodesComeAndGo(t *testing.T) {
	both(t, func(t *testing.T, c *town) {
		a, b, third := c.nodes[0], c.nodes[1], c.nodes[2]
		client, server := a.pod(2), third.pod(2)
		foreign := []string{"10.42.77.0/24 via 192.0.2.254 dev eth0", "10.99.0.0/16 via 192.0.2.254 dev eth0 proto static", "10.42.3.128/25 via 192.0.2.254 dev eth0 proto 83 metric 7"}
		for _, r := range foreign {
			nettest.RunIn(t, a.netns, "ip", append([]string{"route", "add"}, strings.Fields(r)...)...)
		}
		reach := func() string { return ask(t, client.netns, "tcp4", server.ip.String()+":8080") }
		meet(c.nodes...)
		with := a.state()
		if got := reach(); !strings.HasPrefix(got, server.name) {
			t.Fatal(got)
		}
		meet(a, b)
		if s := a.state(); strings.Contains(s, "10.42.3.0/24") || strings.Contains(s, "10.42.3.1 ") {
			t.Errorf("the node that left is still in:\n%s", s)
		}
		if got := reach(); !strings.HasSuffix(got, "no route to host") {
			t.Errorf("a pod of a node that left: %q, want to hear so at once", got)
		}
		meet(c.nodes...)
		if again := a.state(); strings.Count(again, "\n") != strings.Count(with, "\n") {
			t.Errorf("when it is back:\n%s\nbefore:\n%s", again, with)
		}
		if got := reach(); !strings.HasPrefix(got, server.name) {
			t.Error(got)
		}

		// A new agent finds what the old one made, and takes away what was for a node that left meanwhile.
		a.within(func() error {
			a.links.Close()
			var err error
			a.links, err = links.Open(links.Options{
				Instance: a.instance, PodCIDR: a.cidr(), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
				DNS: netip.MustParseAddr("10.43.0.10"), Record: filepath.Join(t.TempDir(), "sysctls"),
			})
			return err
		})
		a.ensureNode()
		meet(a, b)
		s := a.state()
		if strings.Contains(s, "10.42.3.0/24") || !strings.Contains(s, "10.42.2.0/24") {
			t.Errorf("after a restart:\n%s", s)
		}
		a.within(func() error { return a.links.Purge(t.Context()) })
		s = a.state()
		for _, r := range foreign {
			if !strings.Contains(s, r[:strings.Index(r, " dev")]) {
				t.Errorf("the route %s of others is gone:\n%s", r, s)
			}
		}
		if strings.Contains(s, "metric "+fmt.Sprint(0xab12c1)) || strings.Contains(s, a.instance) {
			t.Errorf("after Purge:\n%s", s)
		}
	})
}

func TestWaysToOtherNodesAreRepaired(t *testing.T) {
	c := newTown(t, true, nil)
	meet(c.nodes...)
	a := c.nodes[0]
	client := a.pod(2)
	servers := []pod{c.nodes[1].pod(2), c.nodes[2].pod(2)}
	vx := a.vx()
	for _, d := range []struct{ damage, report string }{
		{"ip route del 10.42.2.0/24", "route to the pods of node n2, 10.42.2.0/24, is missing"},
		{"ip route del 10.42.3.0/24", "route to the pods of node n3, 10.42.3.0/24, is missing"},
		{"ip route replace 10.42.2.0/24 via 192.0.2.254 proto 83 metric 11211457", "route to the pods of node n2, 10.42.2.0/24, leads elsewhere"},
		{"ip route add 10.42.9.0/24 via 192.0.2.254 proto 83 metric 11211457", "route 10.42.9.0/24 is not wanted"},
		{"ip link del " + vx, "link " + vx + " is missing"},
		{"ip link set " + vx + " down", "link " + vx + " is down"},
		{"ip addr del 169.254.1.2/32 dev " + vx, "address 169.254.1.2/32 of " + vx + " is missing"},
		{"ip link set " + vx + " mtu 1000", "MTU of " + vx + " is 1000, want 1450"},
		{"ip link set " + vx + " address 02:00:00:00:00:01", "hardware address of " + vx},
		{"ip link set " + vx + " type vxlan learning", "settings of " + vx + " were changed"},
		{"ip neigh del 10.42.3.1 dev " + vx, "neighbour entry 0a:53:0a:2a:03:01 10.42.3.1 of node n3 is missing"},
		{"ip neigh replace 10.42.3.1 lladdr 02:00:00:00:00:01 nud permanent dev " + vx, "neighbour entry 0a:53:0a:2a:03:01 10.42.3.1 of node n3 is missing"},
		{"ip neigh add 10.42.8.1 lladdr 02:00:00:00:00:01 nud permanent dev " + vx, "neighbour entry 02:00:00:00:00:01 10.42.8.1 is not wanted"},
		{"bridge fdb del 0a:53:0a:2a:03:01 dev " + vx, "forwarding entry 0a:53:0a:2a:03:01 198.51.100.3 of node n3 is missing"},
		{"bridge fdb replace 0a:53:0a:2a:03:01 dev " + vx + " dst 192.0.2.9", "forwarding entry 0a:53:0a:2a:03:01 198.51.100.3 of node n3 is missing"},
		{"bridge fdb add 02:00:00:00:00:05 dev " + vx + " dst 192.0.2.9", "forwarding entry 02:00:00:00:00:05 192.0.2.9 is not wanted"},
		{"sysctl -q -w net.ipv4.conf." + vx + ".rp_filter=1", "sysctl rp_filter of " + vx},
		{"ip link set " + links.Prefix(a.instance) + "node mtu 1400", "MTU of " + links.Prefix(a.instance) + "node is 1400, want 1450"},
		{"ip link del " + links.Prefix(a.instance) + "node", "link " + links.Prefix(a.instance) + "node is missing"},
	} {
		args := strings.Fields(d.damage)
		nettest.RunIn(t, a.netns, args[0], args[1:]...)
		if got := a.drift(); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, d.report) }) {
			t.Errorf("after %s: %q, want %q", d.damage, got, d.report)
		}
		a.ensureNode()
		if got := a.drift(); got != nil {
			t.Errorf("after %s and its repair: %q", d.damage, got)
		}
		a.within(func() error { // its routes go with the node's own address
			return a.links.Ensure(t.Context(), links.Pod{ID: client.id, Netns: client.netns, IP: client.ip})
		})
		for _, s := range servers {
			if got, want := ask(t, client.netns, "tcp4", s.ip.String()+":8080"), s.name+" 10.42.1.2"; got != want {
				t.Errorf("after %s and its repair: %q, want %q", d.damage, got, want)
			}
		}
	}
}

// What others do to the ways is told at once: the kernel says nothing of routes that go with an interface.
func TestEventsTellOfWaysTakenAway(t *testing.T) {
	c := newTown(t, true, nil)
	meet(c.nodes...)
	a := c.nodes[0]
	told := func() bool {
		select {
		case <-a.links.Events():
			return true
		case <-time.After(2 * time.Second):
			return false
		}
	}
	for _, damage := range []string{
		"ip route del 10.42.2.0/24", "ip link del " + a.vx(), "ip link set eth0 down", "ip link set eth0 up", "ip addr del 192.0.2.1/24 dev eth0", "ip addr add 192.0.2.1/24 dev eth0",
	} {
		for len(a.links.Events()) > 0 {
			<-a.links.Events()
		}
		args := strings.Fields(damage)
		nettest.RunIn(t, a.netns, args[0], args[1:]...)
		if !told() {
			t.Errorf("no event after %s", damage)
		}
	}
	nettest.RunIn(t, a.netns, "ip", "route", "add", "default", "via", "192.0.2.254")
	a.ensureNode()
	if d := a.drift(); d != nil {
		t.Error(d)
	}
	for len(a.links.Events()) > 0 {
		<-a.links.Events()
	}
	meet(c.nodes[0], c.nodes[1]) // our own deeds are no events
	meet(c.nodes...)
	select {
	case <-a.links.Events():
		t.Error("an event after our own change")
	case <-time.After(200 * time.Millisecond):
	}
}

// A node moves to where a router lies between, and back: its entries move along.
func TestFault_W14_EntriesMoveWithTheNode(t *testing.T) {
	c := newTown(t, true, nil)
	meet(c.nodes...)
	a, b := c.nodes[0], c.nodes[1]
	client, server := a.pod(2), b.pod(2)
	c.far.Plug(b.netns, "eth1", "198.51.100.2/24")
	home := b.address
	for _, at := range []struct{ address, via, leaves, enters, gateway string }{
		{"198.51.100.2", "dev " + a.vx(), "eth0", "eth1", "198.51.100.254"}, {"192.0.2.2", "via 192.0.2.2 dev eth0", "eth1", "eth0", "192.0.2.254"},
	} {
		nettest.RunIn(t, b.netns, "ip", "link", "set", at.leaves, "down")
		nettest.RunIn(t, b.netns, "ip", "link", "set", at.enters, "up")
		nettest.RunIn(t, b.netns, "ip", "route", "replace", "default", "via", at.gateway)
		b.address = netip.MustParseAddr(at.address)
		b.tables.Address = b.address
		meet(c.nodes...)
		if r := nettest.RunIn(t, a.netns, "ip", "route", "show", "10.42.2.0/24"); !strings.Contains(r, at.via) {
			t.Errorf("node 2 at %s: %s", at.address, r)
		}
		if got, want := ask(t, client.netns, "udp4", server.ip.String()+":8080"), server.name+" 10.42.1.2"; got != want {
			t.Errorf("node 2 at %s: %q, want %q", at.address, got, want)
		}
		if fdb := nettest.RunIn(t, a.netns, "bridge", "fdb"); strings.Contains(fdb, "198.51.100.2") != (b.address != home) {
			t.Errorf("node 2 at %s:\n%s", at.address, fdb)
		}
	}
}

// A router in the middle passes on less than the interfaces at both ends: the probe finds out before packets are lost.
func TestFault_W14_ThePathIsNarrowerThanItsEnds(t *testing.T) {
	c := newTown(t, true, nil)
	nettest.RunIn(t, c.far.Netns, "ip", "link", "set", "far", "mtu", "1300")
	early := c.nodes[0].pod(3)
	meet(c.nodes...)
	a, b := c.nodes[0].pod(2), c.nodes[2].pod(2)
	for what, where := range map[string][2]string{"overlay": {c.nodes[0].netns, c.nodes[0].vx()}, "a new pod": {a.netns, "eth0"}} {
		if got := nettest.RunIn(t, where[0], "ip", "-o", "link", "show", where[1]); !strings.Contains(got, "mtu 1250 ") {
			t.Errorf("%s: %s, want MTU 1250", what, got)
		}
	}
	for _, from := range []pod{a, early} {
		for network, size := range map[string]int{"tcp4": 1 << 20, "udp4": 4000} {
			if err := exchange(t, from.netns, network, b.ip, size); err != nil {
				t.Errorf("%d bytes over %s: %v", size, network, err)
			}
		}
	}
	if d := c.nodes[0].drift(); d != nil {
		t.Error(d)
	}
}

// Packets to the overlay are taken from nodes of the ring only: not from others on the network, and not from pods.
func TestFault_W14_ForgedOverlayPacketsAreDropped(t *testing.T) {
	c := newTown(t, true, nil)
	meet(c.nodes...)
	a, third := c.nodes[0], c.nodes[2]
	server := third.pod(2)
	forger, beside := a.pod(2), third.pod(3)
	var heard net.PacketConn
	nettest.In(t, server.netns, func() {
		var err error
		if heard, err = net.ListenPacket("udp4", ":9999"); err != nil {
			t.Error(err)
		}
	})
	defer func() { _ = heard.Close() }()
	arrives := func(from, to string, vni uint32, source netip.Addr) bool {
		packet := wrapped(vni, third.cidr().Addr().Next(), source, server.ip)
		nettest.In(t, from, func() {
			conn, err := net.Dial("udp4", to)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			if _, err := conn.Write(packet); err != nil {
				t.Error(err)
			}
		})
		_ = heard.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		_, _, err := heard.ReadFrom(make([]byte, 100))
		return err == nil
	}
	overlay, other := third.address.String()+":4789", netip.MustParseAddr("10.42.1.9")
	if !arrives(a.netns, overlay, 0xab12cd, other) {
		t.Fatal("a packet as a node of the ring sends it does not arrive: the test is wrong")
	}
	third.apply(service(wire.TCP, 30080, server))
	for what, arrived := range map[string]bool{
		"another machine":                        arrives(c.outside, overlay, 0xab12cd, other),
		"a pod":                                  arrives(forger.netns, overlay, 0xab12cd, other),
		"a node, with an address that is ours":   arrives(a.netns, overlay, 0xab12cd, beside.ip),
		"a node, with an address of no pod":      arrives(a.netns, overlay, 0xab12cd, netip.MustParseAddr("192.0.2.9")),
		"a node, in another overlay's network":   arrives(a.netns, overlay, 0xab12ce, other),
		"a pod, by way of a Service":             arrivesByService(t, c, arrives, forger, other),
		"a node that left, when it is no longer": leftAndArrives(c, arrives, overlay, other),
	} {
		if arrived {
			t.Errorf("what %s wraps is unwrapped", what)
		}
	}
}

// arrivesByService has a Service lead to the overlay of the third node, as one whose pods have their nodes' network may.
func arrivesByService(t *testing.T, c *town, arrives func(from, to string, vni uint32, source netip.Addr) bool, forger pod, source netip.Addr) bool {
	t.Helper()
	a := c.nodes[0]
	p := service(wire.UDP, 0)
	p.Endpoints = []netip.AddrPort{netip.AddrPortFrom(c.nodes[2].address, 4789)}
	a.apply(p)
	defer a.apply()
	return arrives(forger.netns, "10.43.0.77:80", 0xab12cd, source)
}

// leftAndArrives has the third node forget the first, which does not know it yet.
func leftAndArrives(c *town, arrives func(from, to string, vni uint32, source netip.Addr) bool, overlay string, source netip.Addr) bool {
	routes := c.nodes[2].tables.Routes
	c.nodes[2].tables.Routes = routes[1:]
	c.nodes[2].apply()
	defer func() { c.nodes[2].tables.Routes = routes; c.nodes[2].apply() }()
	return arrives(c.nodes[0].netns, overlay, 0xab12cd, source)
}

// wrapped is a VXLAN packet with one byte of UDP to port 9999 in it.
func wrapped(vni uint32, node, from, to netip.Addr) []byte {
	b := []byte{0x08, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0}
	n := node.As4()
	b = append(b, 0x0a, 0x53, n[0], n[1], n[2], n[3]) // to the node's end
	b = append(b, 0x0a, 0x53, 10, 42, 1, 1, 0x08, 0x00)
	ip := []byte{0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0}
	ip = append(ip, from.AsSlice()...)
	ip = append(ip, to.AsSlice()...)
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	udp := []byte{0x12, 0x34, 9999 >> 8, 9999 & 0xff, 0, 9, 0, 0, 'x'}
	return append(append(b, ip...), udp...)
}

func TestOverlayOptions(t *testing.T) {
	for _, c := range []struct {
		overlay links.Overlay
		mtu     int
		want    string // ways of node 1 to nodes 2 and 3, MTU of pods
	}{
		{"", 0, "direct overlay 1450"},
		{links.Always, 0, "overlay overlay 1450"},
		{links.Never, 0, "direct none 1500"},
		{links.Auto, 1200, "direct overlay 1200"},
	} {
		t.Run(string(c.overlay), func(t *testing.T) {
			town := newTown(t, true, func(o *links.Options) { o.Overlay, o.MTU, o.NoOffload = c.overlay, c.mtu, true })
			meet(town.nodes...)
			a := town.nodes[0]
			var got []string
			for _, cidr := range []string{"10.42.2.0/24", "10.42.3.0/24"} {
				switch r := nettest.RunIn(t, a.netns, "ip", "route", "show", cidr); {
				case strings.Contains(r, a.vx()):
					got = append(got, "overlay")
				case strings.Contains(r, "via 192.0.2.2 dev eth0"):
					got = append(got, "direct")
				case r == "":
					got = append(got, "none")
				}
			}
			p := a.pod(2)
			_, rest, _ := strings.Cut(nettest.RunIn(t, p.netns, "ip", "-o", "link", "show", "eth0"), "mtu ")
			got = append(got, strings.Fields(rest)[0])
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s, want %s", s, c.want)
			}
			if d := a.drift(); d != nil {
				t.Error(d)
			}
		})
	}
}

// One node wraps what it sends to a neighbour, and the neighbour does not, because their options differ.
func TestNodesMayTakeDifferentWaysToEachOther(t *testing.T) {
	nettest.Root(t)
	lan := nettest.NewSegment(t, "", "lan")
	a := join(t, 1, lan.Machine("192.0.2.1/24", ""), "192.0.2.1", func(o *links.Options) { o.Overlay = links.Always })
	b := join(t, 2, lan.Machine("192.0.2.2/24", ""), "192.0.2.2", nil)
	c := join(t, 3, lan.Machine("192.0.2.3/24", ""), "192.0.2.3", func(o *links.Options) { o.Overlay = links.Always })
	// The second has the device too, for a node that is behind a router.
	d := &member{TB: t, number: 4, address: netip.MustParseAddr("198.51.100.4")}
	for _, m := range []*member{a, b, c} {
		nettest.RunIn(t, m.netns, "ip", "route", "add", "default", "via", "192.0.2.254")
		m.tables.Routes = nil
		for _, o := range []*member{a, b, c, d} {
			if o != m {
				m.tables.Routes = append(m.tables.Routes, wire.Route{Node: o.id(), CIDR: o.cidr(), Via: o.address})
			}
		}
		m.apply()
	}
	x, y := a.pod(2), b.pod(2)
	for _, network := range []string{"tcp4", "udp4"} {
		if got, want := ask(t, x.netns, network, y.ip.String()+":8080"), y.name+" 10.42.1.2"; got != want {
			t.Errorf("wrapped there, direct back, over %s: %q, want %q", network, got, want)
		}
		if got, want := ask(t, y.netns, network, x.ip.String()+":8080"), x.name+" 10.42.2.2"; got != want {
			t.Errorf("direct there, wrapped back, over %s: %q, want %q", network, got, want)
		}
	}
}
