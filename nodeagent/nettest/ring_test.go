package nettest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// member is a node in a namespace of its own. What it does is done on a thread that is there.
type member struct {
	testing.TB
	number   int // of the node: n2 has the pods 10.42.2.0/24
	instance string
	netns    string
	address  netip.Addr
	links    *links.Links
	rules    *firewall.Firewall
	tables   wire.Tables
	options  links.Options
}

func (m *member) id() place.NodeID { return place.NodeID(fmt.Sprintf("n%d", m.number)) }

func (m *member) cidr() netip.Prefix { return netip.PrefixFrom(m.podIP(0), 24) }

func (m *member) podIP(last byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 42, byte(m.number), last})
}

// within is what the node does.
func (m *member) within(f func() error) {
	m.Helper()
	var err error
	nettest.In(m, m.netns, func() { err = f() })
	if err != nil {
		m.Fatal(err)
	}
}

// join makes a node of a machine. with changes its options.
func join(t testing.TB, number int, netns, address string, with func(*links.Options)) *member {
	t.Helper()
	m := &member{TB: t, number: number, instance: fmt.Sprintf("ab12c%d", number), netns: netns, address: netip.MustParseAddr(address)}
	o := links.Options{
		Instance: m.instance, PodCIDR: m.cidr(), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
		DNS: netip.MustParseAddr("10.43.0.10"), Record: filepath.Join(t.TempDir(), "sysctls"),
	}
	if with != nil {
		with(&o)
	}
	m.options = o
	m.within(func() (err error) {
		if m.links, err = links.Open(o); err != nil {
			return err
		}
		if m.rules, err = firewall.Open(firewall.Options{Instance: m.instance}); err != nil {
			return err
		}
		return m.links.EnsureNode(t.Context())
	})
	t.Cleanup(func() {
		m.within(func() error {
			defer m.links.Close()
			defer m.rules.Close()
			if err := m.rules.Purge(context.Background()); err != nil {
				return err
			}
			return m.links.Purge(context.Background())
		})
	})
	m.tables = tables()
	m.tables.PodCIDR, m.tables.Address, m.tables.Overlay = m.cidr(), m.address, wire.Overlay{VNI: 0xab12cd, Port: 4789}
	if o.Encrypt {
		m.tables.Tunnel = o.Tunnel.(*end).known
	}
	return m
}

// meet tells all members of each other.
func meet(all ...*member) {
	for _, m := range all {
		m.Helper()
		m.tables.Routes = nil
		for _, o := range all {
			if o != m {
				m.tables.Routes = append(m.tables.Routes, wire.Route{Node: o.id(), CIDR: o.cidr(), Via: o.address, Tunnel: o.tables.Tunnel})
			}
		}
		m.apply()
	}
}

func (m *member) apply(ports ...wire.Port) {
	m.Helper()
	m.tables.Ports = ports
	m.within(func() error {
		if err := m.links.Routes(m.Context(), m.tables); err != nil {
			return err
		}
		return m.rules.Apply(m.Context(), m.tables)
	})
}

func (m *member) drift() (wrong []string) {
	m.Helper()
	m.within(func() (err error) { wrong, err = m.links.CheckNode(m.Context()); return err })
	return wrong
}

// pod makes a pod that answers on 8080 and echoes on 8081.
func (m *member) pod(last byte) pod {
	m.Helper()
	p := pod{name: fmt.Sprintf("n%d-%d", m.number, last), netns: nettest.Netns(m), ip: m.podIP(last)}
	p.id = control.PodID(p.name)
	m.within(func() error {
		return m.links.Ensure(m.Context(), links.Pod{ID: p.id, Netns: p.netns, IP: p.ip})
	})
	serve(m, p.netns, p.name)
	echo(m, p.netns)
	return p
}

// echo sends back what it gets on TCP and UDP 8081.
func echo(t testing.TB, netns string) {
	t.Helper()
	nettest.In(t, netns, func() {
		ln, err := net.Listen("tcp4", ":8081")
		if err != nil {
			t.Error(err)
			return
		}
		pc, err := net.ListenPacket("udp4", ":8081")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = ln.Close(); _ = pc.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					_, _ = io.Copy(c, c)
				}()
			}
		}()
		go func() {
			b := make([]byte, 64<<10)
			for {
				n, from, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = pc.WriteTo(b[:n], from)
			}
		}()
	})
}

// exchange sends size bytes from a namespace and wants them back: over UDP as one datagram, which may be lost while the
// kernel learns how big packets may be.
func exchange(t testing.TB, from, network string, to netip.Addr, size int) error {
	t.Helper()
	c, err := connect(t, from, network, to.String()+":8081")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	sent := bytes.Repeat([]byte("shoal---"), size/8)
	got := make([]byte, len(sent))
	for range 4 {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if network == "udp4" {
			_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		}
		go func() { _, _ = c.Write(sent) }()
		_, err = io.ReadFull(c, got)
		if err == nil && !bytes.Equal(sent, got) {
			return fmt.Errorf("other bytes came back")
		}
		if err == nil || network == "tcp4" {
			return err
		}
	}
	return err
}

// town is three nodes, and a machine that is none: on one network, or with the third node behind a router.
type town struct {
	nodes   []*member
	outside string // namespace of the other machine, 192.0.2.9
	lan     *nettest.Segment
	far     *nettest.Segment // nil on one network
}

func newTown(t testing.TB, routed bool, with func(*links.Options)) *town {
	t.Helper()
	nettest.Root(t)
	c := &town{lan: nettest.NewSegment(t, "", "lan")}
	c.lan.Address("192.0.2.254/24")
	c.nodes = append(c.nodes,
		join(t, 1, c.lan.Machine("192.0.2.1/24", "192.0.2.254"), "192.0.2.1", with),
		join(t, 2, c.lan.Machine("192.0.2.2/24", "192.0.2.254"), "192.0.2.2", with))
	c.outside = c.lan.Machine("192.0.2.9/24", "192.0.2.254")
	third := "192.0.2.3"
	if routed {
		third = "198.51.100.3"
		c.far = nettest.NewSegment(t, c.lan.Netns, "far")
		c.far.Address("198.51.100.254/24")
		c.nodes = append(c.nodes, join(t, 3, c.far.Machine(third+"/24", "198.51.100.254"), third, with))
		// As in most networks, the router knows nothing of pods and passes nothing on for them.
		nettest.RunIn(t, c.lan.Netns, "ip", "route", "add", "blackhole", "10.42.0.0/16")
		nettest.RunIn(t, c.lan.Netns, "sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.lan.rp_filter=1", "net.ipv4.conf.far.rp_filter=1")
	} else {
		c.nodes = append(c.nodes, join(t, 3, c.lan.Machine(third+"/24", "192.0.2.254"), third, with))
	}
	return c
}

// both runs a test on one network and over a router, wrapped and encrypted.
func both(t *testing.T, run func(*testing.T, *town)) {
	t.Run("one network", func(t *testing.T) { run(t, newTown(t, false, nil)) })
	t.Run("router between", func(t *testing.T) { run(t, newTown(t, true, nil)) })
	t.Run("everything wrapped", func(t *testing.T) {
		run(t, newTown(t, false, func(o *links.Options) { o.Overlay = links.Always }))
	})
	t.Run("encrypted", func(t *testing.T) { run(t, newTown(t, true, encrypted(t))) })
}

func TestEveryPodReachesEveryPod(t *testing.T) {
	both(t, func(t *testing.T, c *town) {
		// The first pods are made before their nodes know of each other, with the MTU of that time.
		var pods []pod
		for _, n := range c.nodes {
			pods = append(pods, n.pod(2))
		}
		meet(c.nodes...)
		for _, n := range c.nodes {
			pods = append(pods, n.pod(3))
		}
		for _, from := range pods {
			for _, to := range pods {
				for _, network := range []string{"tcp4", "udp4"} {
					if got, want := ask(t, from.netns, network, to.ip.String()+":8080"), to.name+" "+from.ip.String(); got != want {
						t.Errorf("%s to %s over %s: %q, want %q", from.name, to.name, network, got, want)
					}
				}
				if from == to {
					continue
				}
				if err := exchange(t, from.netns, "tcp4", to.ip, 1<<20); err != nil {
					t.Errorf("%s to %s, 1 MiB over tcp: %v", from.name, to.name, err)
				}
				if err := exchange(t, from.netns, "udp4", to.ip, 4000); err != nil {
					t.Errorf("%s to %s, 4000 bytes over udp: %v", from.name, to.name, err)
				}
			}
			for _, n := range c.nodes {
				for _, network := range []string{"tcp4", "udp4"} {
					want := from.name + " " + n.podIP(1).String()
					if got := ask(t, n.netns, network, from.ip.String()+":8080"); got != want {
						t.Errorf("node %d to %s over %s: %q, want %q", n.number, from.name, network, got, want)
					}
				}
			}
		}
		for _, n := range c.nodes {
			if d := n.drift(); d != nil {
				t.Errorf("node %d: %v", n.number, d)
			}
		}
	})
}

// W7: who asks for a Service, from wherever, gets an answer, and the pod sees who asked as far as the answer then comes
// back the same way.
func TestFault_W7_ServicesOfARingAreReachedFromEverywhere(t *testing.T) {
	both(t, func(t *testing.T, c *town) {
		meet(c.nodes...)
		var clients, servers []pod
		for _, n := range c.nodes {
			servers, clients = append(servers, n.pod(2)), append(clients, n.pod(3))
		}
		for at, server := range servers {
			for _, n := range c.nodes {
				n.apply(service(wire.TCP, 30080, server), service(wire.UDP, 30080, server))
			}
			for i, n := range c.nodes {
				// 127.0.0.1 reaches what is on the node, and says at once when nothing is.
				want := server.name + " " + n.podIP(1).String()
				if i != at {
					want = "error: dial tcp4 127.0.0.1:30080: connect: connection refused"
				}
				if got := ask(t, n.netns, "tcp4", "127.0.0.1:30080"); got != want {
					t.Errorf("server on node %d, node %d asks 127.0.0.1: %q, want %q", at+1, i+1, got, want)
				}
				own, node := n.podIP(1).String(), n.address.String()
				keeps := func(source string) string { // at the node port of n
					if i == at {
						return source
					}
					return own
				}
				for _, q := range []struct{ what, from, address, source string }{
					{"a pod to the service", clients[i].netns, "10.43.0.77:80", clients[i].ip.String()},
					{"the server to its service", server.netns, "10.43.0.77:80", servers[at].ip.Prev().String()},
					{"a node to the service", n.netns, "10.43.0.77:80", own},
					{"a node to its node port", n.netns, node + ":30080", keeps(node)},
					{"outside to the node port", c.outside, node + ":30080", keeps("192.0.2.9")},
					{"a pod to its node's port", clients[i].netns, node + ":30080", clients[i].ip.String()},
					{"a pod to another node's port", clients[(i+1)%3].netns, node + ":30080", keeps(c.nodes[(i+1)%3].address.String())},
					{"another node to the node port", c.nodes[(i+1)%3].netns, node + ":30080", keeps(c.nodes[(i+1)%3].address.String())},
				} {
					for _, network := range []string{"tcp4", "udp4"} {
						if got, want := ask(t, q.from, network, q.address), server.name+" "+q.source; got != want {
							t.Errorf("server on node %d, asked by node %d, %s over %s: %q, want %q", at+1, i+1, q.what, network, got, want)
						}
					}
				}
			}
		}
	})
}

func TestExternalTrafficPolicyLocalKeepsTheClient(t *testing.T) {
	both(t, func(t *testing.T, c *town) {
		meet(c.nodes...)
		a, b := c.nodes[0].pod(2), c.nodes[2].pod(2)
		for _, n := range c.nodes {
			p := service(wire.TCP, 30080, a, b)
			p.Local = true
			p.External = slices.DeleteFunc(slices.Clone(p.External), func(e netip.AddrPort) bool { return !n.cidr().Contains(e.Addr()) })
			n.apply(p)
		}
		for i, want := range []string{a.name + " 192.0.2.9", "error", b.name + " 192.0.2.9"} {
			for range 5 {
				if got := ask(t, c.outside, "tcp4", c.nodes[i].address.String()+":30080"); !strings.HasPrefix(got, want) {
					t.Errorf("node %d: %q, want %q", i+1, got, want)
				}
			}
		}
		// By its own address the Service is everywhere all of it.
		seen := map[string]bool{}
		for range 40 {
			name, _, _ := strings.Cut(ask(t, c.nodes[1].netns, "tcp4", "10.43.0.77:80"), " ")
			seen[name] = true
		}
		if len(seen) != 2 {
			t.Errorf("by the service's address: %v, want both pods", seen)
		}
	})
}

// A pod with its node's network answers for Services under its node's address.
func TestPodsWithTheirNodesNetworkAnswer(t *testing.T) {
	both(t, func(t *testing.T, c *town) {
		meet(c.nodes...)
		client := c.nodes[1].pod(2)
		for at, host := range c.nodes {
			serve(t, host.netns, host.instance)
			for _, n := range c.nodes {
				n.apply(service(wire.TCP, 30080, pod{ip: host.address}))
			}
			for _, n := range c.nodes {
				for what, q := range map[string][2]string{
					"outside to the node port": {c.outside, n.address.String() + ":30080"},
					"a node to the service":    {n.netns, "10.43.0.77:80"},
					"a node to its node port":  {n.netns, n.address.String() + ":30080"},
					"a pod to the service":     {client.netns, "10.43.0.77:80"},
				} {
					if got := ask(t, q[0], "tcp4", q[1]); !strings.HasPrefix(got, host.instance+" ") {
						t.Errorf("server on node %d, %s of node %d: %q", at+1, what, n.number, got)
					}
				}
			}
		}
	})
}

func TestAffinityHoldsAcrossNodes(t *testing.T) {
	both(t, func(t *testing.T, c *town) {
		meet(c.nodes...)
		var servers []pod
		for _, n := range c.nodes {
			servers = append(servers, n.pod(2), n.pod(3))
		}
		client := c.nodes[0].pod(9)
		for _, n := range c.nodes {
			p := service(wire.TCP, 30080, servers...)
			p.Affinity = 600
			n.apply(p)
		}
		for what, q := range map[string][2]string{
			"service":           {client.netns, "10.43.0.77:80"},
			"node port":         {c.outside, c.nodes[0].address.String() + ":30080"},
			"another node port": {c.outside, c.nodes[2].address.String() + ":30080"},
		} {
			first := ask(t, q[0], "tcp4", q[1])
			if !strings.HasPrefix(first, "n") {
				t.Fatalf("%s: %q", what, first)
			}
			for range 15 {
				if got := ask(t, q[0], "tcp4", q[1]); got != first {
					t.Errorf("%s: %q, at first %q", what, got, first)
					break
				}
			}
		}
	})
}

// W4: a flow of UDP to an endpoint on another node moves when that endpoint leaves.
func TestFault_W4_FlowsToEndpointsOnOtherNodesMove(t *testing.T) {
	both(t, func(t *testing.T, c *town) {
		meet(c.nodes...)
		near, far := c.nodes[1].pod(2), c.nodes[2].pod(2)
		client := c.nodes[0].pod(3)
		all := func(pods ...pod) {
			for _, n := range c.nodes {
				n.apply(service(wire.TCP, 30080, pods...), service(wire.UDP, 30080, pods...))
			}
		}
		all(far)
		dial := func(from, network, address string) net.Conn {
			conn, err := connect(t, from, network, address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if got, err := talk(conn); !strings.HasPrefix(got, far.name) {
				t.Fatalf("from %s to %s: %q, %v", from, address, got, err)
			}
			return conn
		}
		tcp := dial(client.netns, "tcp4", "10.43.0.77:80")
		flows := map[string]net.Conn{
			"pod to service":       dial(client.netns, "udp4", "10.43.0.77:80"),
			"node to service":      dial(c.nodes[0].netns, "udp4", "10.43.0.77:80"),
			"outside to node port": dial(c.outside, "udp4", c.nodes[0].address.String()+":30080"),
		}
		all(near)
		if got, err := talk(tcp); !strings.HasPrefix(got, far.name) {
			t.Errorf("the live connection: %q, %v", got, err)
		}
		for what, flow := range flows {
			if got, err := talk(flow); !strings.HasPrefix(got, near.name) {
				t.Errorf("%s: %q, %v; want the endpoint that is left", what, got, err)
			}
		}
		all()
		for _, n := range c.nodes {
			if left := nettest.RunIn(t, n.netns, "conntrack", "-L", "-p", "udp"); strings.Contains(left, "10.43.0.77") || strings.Contains(left, "dport=30080") {
				t.Errorf("node %d remembers:\n%s", n.number, left)
			}
		}
	})
}
