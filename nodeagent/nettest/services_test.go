package nettest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// These tests put links and firewall together on a node with pods, and send real traffic.

func TestMain(m *testing.M) { nettest.Main(m) }

const instance = "ab12cd"

// node is a machine with links and rules.
type node struct {
	testing.TB
	links *links.Links
	rules *firewall.Firewall
}

func newNode(t testing.TB) *node {
	t.Helper()
	nettest.Root(t)
	l, err := links.Open(links.Options{
		Instance: instance, PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
		DNS: netip.MustParseAddr("10.43.0.10"), Record: filepath.Join(t.TempDir(), "sysctls"),
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := firewall.Open(firewall.Options{Instance: instance})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range []error{f.Purge(context.Background()), l.Purge(context.Background())} {
			if err != nil {
				t.Error(err)
			}
		}
		f.Close()
		l.Close()
	})
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &node{t, l, f}
}

// pod is a namespace with a link; it answers on TCP and UDP 8080 with its name and who asked.
type pod struct {
	name, netns string
	ip          netip.Addr
	id          control.PodID
}

func (n *node) pod(last byte) pod {
	n.Helper()
	p := pod{name: fmt.Sprintf("pod%d", last), netns: nettest.Netns(n), ip: netip.AddrFrom4([4]byte{10, 42, 0, last}), id: control.PodID(fmt.Sprintf("p-%d", last))}
	if err := n.links.Ensure(n.Context(), links.Pod{ID: p.id, Netns: p.netns, IP: p.ip}); err != nil {
		n.Fatal(err)
	}
	nettest.In(n, p.netns, func() {
		ln, err := net.Listen("tcp4", ":8080")
		if err != nil {
			n.Error(err)
			return
		}
		pc, err := net.ListenPacket("udp4", ":8080")
		if err != nil {
			n.Error(err)
			return
		}
		n.Cleanup(func() { _ = ln.Close(); _ = pc.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					b := make([]byte, 64)
					for {
						if _, err := c.Read(b); err != nil {
							return
						}
						if _, err := fmt.Fprintf(c, "%s %s", p.name, from); err != nil {
							return
						}
					}
				}()
			}
		}()
		go func() {
			b := make([]byte, 64)
			for {
				_, from, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(from.String())
				_, _ = fmt.Fprintf(writerTo{pc, from}, "%s %s", p.name, host)
			}
		}()
	})
	return p
}

type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// connect opens a connection from a namespace; "" is the node's own.
func (n *node) connect(from, network, address string) (c net.Conn, err error) {
	n.Helper()
	dial := func() { c, err = (&net.Dialer{Timeout: 3 * time.Second}).Dial(network, address) }
	if from == "" {
		dial()
	} else {
		nettest.In(n, from, dial)
	}
	return c, err
}

// talk sends a line over c and returns the answer.
func talk(c net.Conn) (string, error) {
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return "", err
	}
	b := make([]byte, 64)
	k, err := c.Read(b)
	return string(b[:k]), err
}

// ask connects, asks once and returns "pod client".
func (n *node) ask(from, network, address string) string {
	n.Helper()
	c, err := n.connect(from, network, address)
	if err != nil {
		return "error: " + err.Error()
	}
	defer func() { _ = c.Close() }()
	answer, err := talk(c)
	if err != nil {
		return "error: " + err.Error()
	}
	return answer
}

func (n *node) apply(ports ...wire.Port) {
	n.Helper()
	if err := n.rules.Apply(n.Context(), tables(ports...)); err != nil {
		n.Fatal(err)
	}
}

func tables(ports ...wire.Port) wire.Tables {
	return wire.Tables{
		PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), Cluster: netip.MustParsePrefix("10.42.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"), DNS: netip.MustParseAddrPort("10.43.0.10:53"), Domain: "cluster.local",
		Ports: ports,
	}
}

func service(protocol wire.Protocol, nodePort uint16, pods ...pod) wire.Port {
	p := wire.Port{Service: "default/web", Name: string(protocol), Protocol: protocol, ClusterIP: netip.MustParseAddr("10.43.0.77"), Port: 80, NodePort: nodePort}
	for _, e := range pods {
		p.Endpoints = append(p.Endpoints, netip.AddrPortFrom(e.ip, 8080))
	}
	p.External = p.Endpoints
	return p
}

func TestServicesAreReachedFromEverywhere(t *testing.T) {
	n := newNode(t)
	a, b := n.pod(2), n.pod(3)
	lan := nettest.Netns(t) // a machine beside the node
	nettest.Run(t, "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", lan)
	t.Cleanup(func() { nettest.Run(t, "ip", "link", "del", "lan0") })
	nettest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", "lan0")
	nettest.Run(t, "ip", "link", "set", "lan0", "up")
	for _, args := range [][]string{{"addr", "add", "192.0.2.2/24", "dev", "eth0"}, {"link", "set", "eth0", "up"}, {"link", "set", "lo", "up"}} {
		nettest.RunIn(t, lan, "ip", args...)
	}
	n.apply(service(wire.TCP, 30080, a), service(wire.UDP, 30080, a))
	for _, network := range []string{"tcp4", "udp4"} {
		for _, c := range []struct{ what, from, address, want string }{
			{"pod to service", b.netns, "10.43.0.77:80", "pod2 10.42.0.3"},
			{"pod to its own service", a.netns, "10.43.0.77:80", "pod2 10.42.0.0"},
			{"node to service", "", "10.43.0.77:80", "pod2 10.42.0.0"},
			{"node to node port on 127.0.0.1", "", "127.0.0.1:30080", "pod2 10.42.0.0"},
			{"node to node port on its address", "", "192.0.2.1:30080", "pod2 192.0.2.1"},
			{"outside to node port", lan, "192.0.2.1:30080", "pod2 192.0.2.2"},
			{"pod to node port", b.netns, "192.0.2.1:30080", "pod2 10.42.0.3"},
			{"pod to its own node port", a.netns, "192.0.2.1:30080", "pod2 10.42.0.0"},
		} {
			if got := n.ask(c.from, network, c.address); got != c.want {
				t.Errorf("%s over %s: %q, want %q", c.what, network, got, c.want)
			}
		}
	}
	// A pod's way out bears the node's address.
	var seen string
	done := make(chan struct{})
	nettest.In(t, lan, func() {
		ln, err := net.Listen("tcp4", "192.0.2.2:9000")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			defer close(done)
			if c, err := ln.Accept(); err == nil {
				seen, _, _ = net.SplitHostPort(c.RemoteAddr().String())
				_ = c.Close()
			}
		}()
	})
	if c, err := n.connect(b.netns, "tcp4", "192.0.2.2:9000"); err != nil {
		t.Error("pod to outside:", err)
	} else {
		_ = c.Close()
		<-done
		if seen != "192.0.2.1" {
			t.Errorf("outside sees %s, want the node's 192.0.2.1", seen)
		}
	}
}
