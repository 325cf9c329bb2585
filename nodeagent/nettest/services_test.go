package nettest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/dns"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// These tests put links and firewall together on a node with pods, and send real traffic.

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == tunnelRole {
		os.Exit(tunnelMain(os.Args[2:]))
	}
	nettest.Main(m)
}

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
	serve(n, p.netns, p.name)
	return p
}

// serve answers in a namespace on TCP and UDP 8080 with a name and who asked.
func serve(t testing.TB, netns, name string) {
	t.Helper()
	nettest.In(t, netns, func() {
		ln, err := net.Listen("tcp4", ":8080")
		if err != nil {
			t.Error(err)
			return
		}
		pc, err := net.ListenPacket("udp4", ":8080")
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
					from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					b := make([]byte, 64)
					for {
						if _, err := c.Read(b); err != nil {
							return
						}
						if _, err := fmt.Fprintf(c, "%s %s", name, from); err != nil {
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
				_, _ = fmt.Fprintf(writerTo{pc, from}, "%s %s", name, host)
			}
		}()
	})
}

type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// connect opens a connection from a namespace; "" is the node's own.
func (n *node) connect(from, network, address string) (net.Conn, error) {
	n.Helper()
	return connect(n, from, network, address)
}

func connect(t testing.TB, from, network, address string) (c net.Conn, err error) {
	t.Helper()
	dial := func() { c, err = (&net.Dialer{Timeout: 3 * time.Second}).Dial(network, address) }
	if from == "" {
		dial()
	} else {
		nettest.In(t, from, dial)
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
	return ask(n, from, network, address)
}

func ask(t testing.TB, from, network, address string) string {
	t.Helper()
	c, err := connect(t, from, network, address)
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

func TestFault_W7_ServicesAreReachedFromEverywhere(t *testing.T) {
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
			{"pod to its own service", a.netns, "10.43.0.77:80", "pod2 10.42.0.1"},
			{"node to service", "", "10.43.0.77:80", "pod2 10.42.0.1"},
			{"node to node port on 127.0.0.1", "", "127.0.0.1:30080", "pod2 10.42.0.1"},
			{"node to node port on its address", "", "192.0.2.1:30080", "pod2 192.0.2.1"},
			{"outside to node port", lan, "192.0.2.1:30080", "pod2 192.0.2.2"},
			{"pod to node port", b.netns, "192.0.2.1:30080", "pod2 10.42.0.3"},
			{"pod to its own node port", a.netns, "192.0.2.1:30080", "pod2 10.42.0.1"},
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

func TestServicesWithoutEndpointsRefuseAtOnce(t *testing.T) {
	n := newNode(t)
	a := n.pod(2)
	n.apply(service(wire.TCP, 0), service(wire.UDP, 0))
	for _, c := range []struct{ from, network, address string }{
		{a.netns, "tcp4", "10.43.0.77:80"},
		{"", "tcp4", "10.43.0.77:80"},
		{a.netns, "tcp4", "10.43.9.9:443"},
		{"", "tcp4", "10.43.9.9:443"},
		{a.netns, "udp4", "10.43.0.77:80"},
		{"", "udp4", "10.43.0.77:80"},
		{a.netns, "tcp4", "10.42.0.99:80"},
		{"", "tcp4", "10.42.0.99:80"},
	} {
		for range 10 { // more often than the kernel sends ICMP messages to one address
			began := time.Now()
			got := n.ask(c.from, c.network, c.address)
			if !strings.HasPrefix(got, "error") || c.network == "tcp4" && time.Since(began) > time.Second {
				t.Errorf("%s to %s from %q: %q after %s, want a refusal at once", c.network, c.address, c.from, got, time.Since(began))
				break
			}
			if c.network == "udp4" || strings.HasPrefix(c.address, "10.42") {
				break
			}
		}
	}
}

// Connections that exist go on with an endpoint that was taken away; new ones go to those that are left.
func TestFault_W4_LiveConnectionsAndFlowsOfARemovedEndpoint(t *testing.T) {
	n := newNode(t)
	a, b, c := n.pod(2), n.pod(3), n.pod(4)
	n.apply(service(wire.TCP, 30080, a), service(wire.UDP, 30080, a))
	tcp, err := n.connect(c.netns, "tcp4", "10.43.0.77:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	udp, err := n.connect(c.netns, "udp4", "10.43.0.77:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	nodeUDP, err := n.connect("", "udp4", "127.0.0.1:30080")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nodeUDP.Close() }()
	for _, conn := range []net.Conn{tcp, udp, nodeUDP} {
		if got, err := talk(conn); !strings.HasPrefix(got, "pod2") {
			t.Fatalf("%q, %v", got, err)
		}
	}
	n.apply(service(wire.TCP, 30080, b), service(wire.UDP, 30080, b))
	if got, err := talk(tcp); !strings.HasPrefix(got, "pod2") {
		t.Errorf("the live connection: %q, %v", got, err)
	}
	for what, conn := range map[string]net.Conn{"service": udp, "node port": nodeUDP} {
		if got, err := talk(conn); !strings.HasPrefix(got, "pod3") {
			t.Errorf("the flow of UDP to the %s: %q, %v; want the endpoint that is left", what, got, err)
		}
	}
	if got := n.ask(c.netns, "tcp4", "10.43.0.77:80"); !strings.HasPrefix(got, "pod3") {
		t.Errorf("a new connection: %q", got)
	}
	n.apply()
	flows := nettest.Run(t, "conntrack", "-L", "-p", "udp")
	if strings.Contains(flows, "10.42.0.3") && strings.Contains(flows, "10.43.0.77") {
		t.Errorf("flows of UDP are left after the service was deleted:\n%s", flows)
	}
}

// Once a pod is gone, the kernel forgets what was led to it: who asks again from the same port is led to one that is there, and who was
// in the midst of something learns that it is over.
func TestFault_W4_ConnectionsToAPodThatIsGone(t *testing.T) {
	n := newNode(t)
	a, b, c := n.pod(2), n.pod(3), n.pod(4)
	n.apply(service(wire.TCP, 0, a))
	open, err := n.connect(c.netns, "tcp4", "10.43.0.77:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	if got, err := talk(open); !strings.HasPrefix(got, "pod2") {
		t.Fatalf("%q, %v", got, err)
	}
	again := func() string {
		var conn net.Conn
		var err error
		nettest.In(t, c.netns, func() {
			conn, err = (&net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{Port: 40000}}).Dial("tcp4", "10.43.0.77:80")
		})
		if err != nil {
			return err.Error()
		}
		defer func() { _ = conn.Close() }()
		answer, err := talk(conn)
		return fmt.Sprint(answer, err)
	}
	nettest.RunIn(t, a.netns, "ip", "link", "set", "eth0", "down")
	if got := again(); !strings.Contains(got, "timeout") {
		t.Fatalf("a pod that hears nothing: %s", got)
	}
	if err := n.links.Remove(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	n.apply(service(wire.TCP, 0, b))
	if got := again(); !strings.Contains(got, "no route to host") {
		t.Fatalf("%s: the kernel led it to the pod that is there, so there is nothing to forget", got)
	}
	flows, err := firewall.Remembered(netip.MustParsePrefix("10.42.0.0/16"))
	toA := map[wire.Flow]bool{{Pod: a.ip}: true, {Pod: a.ip, Answered: true}: true}
	maps.DeleteFunc(flows, func(f wire.Flow, _ bool) bool { return f.Pod != a.ip }) // those of other tests
	if err != nil || !maps.Equal(flows, toA) {
		t.Fatalf("remembered %v, %v; want %v", flows, err, toA)
	}
	if k, err := firewall.Forget(toA); err != nil || k < 2 {
		t.Fatalf("%d forgotten, %v; want 2 and those of other tests", k, err)
	}
	if got := again(); !strings.HasPrefix(got, "pod3") {
		t.Errorf("asked again from the same port: %s; want pod3", got)
	}
	if got, err := talk(open); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection to the pod that is gone: %q, %v; want a reset", got, err)
	}
}

func TestFault_W8_SessionAffinity(t *testing.T) {
	n := newNode(t)
	pods := []pod{n.pod(2), n.pod(3), n.pod(4), n.pod(5)}
	client := n.pod(9)
	sticky := func(pods ...pod) []wire.Port {
		p := service(wire.TCP, 30080, pods...)
		p.Affinity = 600
		return []wire.Port{p}
	}
	n.apply(sticky(pods...)...)
	for _, address := range []string{"10.43.0.77:80", "10.42.0.1:30080"} {
		first := n.ask(client.netns, "tcp4", address)
		if !strings.HasPrefix(first, "pod") {
			t.Fatal(first)
		}
		for range 20 {
			if got := n.ask(client.netns, "tcp4", address); got != first {
				t.Fatalf("%q, at first %q", got, first)
			}
		}
		// The others leave, then the one it was bound to.
		var bound pod
		var others []pod
		for _, p := range pods {
			if strings.HasPrefix(first, p.name+" ") {
				bound = p
			} else {
				others = append(others, p)
			}
		}
		n.apply(sticky(bound, others[0])...)
		if got := n.ask(client.netns, "tcp4", address); got != first {
			t.Errorf("after others left: %q, at first %q", got, first)
		}
		n.apply(sticky(others...)...)
		if got := n.ask(client.netns, "tcp4", address); !strings.HasPrefix(got, "pod") || got == first {
			t.Errorf("after its endpoint left: %q, at first %q", got, first)
		}
		n.apply(sticky(pods...)...)
	}
}

// Every endpoint gets its share.
func TestConnectionsAreSpread(t *testing.T) {
	n := newNode(t)
	pods := []pod{n.pod(2), n.pod(3), n.pod(4)}
	n.apply(service(wire.TCP, 30080, pods...))
	for _, address := range []string{"10.43.0.77:80", "127.0.0.1:30080"} {
		seen := make(map[string]int)
		for range 90 {
			name, _, _ := strings.Cut(n.ask("", "tcp4", address), " ")
			seen[name]++
		}
		for _, p := range pods {
			if seen[p.name] < 10 {
				t.Errorf("%s: %v, want about 30 each", address, seen)
			}
		}
	}
}

func TestPodsCannotForgeAddressesNorReachTheHostsLoopback(t *testing.T) {
	n := newNode(t)
	a, b := n.pod(2), n.pod(3)
	n.apply()
	// The pod's own kernel would not let such packets out; one with its own rules would.
	nettest.RunIn(t, a.netns, "ip", "addr", "add", "10.42.0.77/32", "dev", "eth0")
	var err error
	nettest.In(t, a.netns, func() {
		d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 42, 0, 77)}}
		var c net.Conn
		if c, err = d.Dial("tcp4", b.ip.String()+":8080"); err == nil {
			_ = c.Close()
		}
	})
	if err == nil {
		t.Error("a pod reached another with a forged address")
	}
	if got := n.ask(a.netns, "tcp4", b.ip.String()+":8080"); !strings.HasPrefix(got, "pod3") {
		t.Errorf("with its own address: %q", got)
	}
	counted := nettest.Run(t, "nft", "list", "chain", "ip", "shoal-"+instance, "raw-prerouting")
	if !strings.Contains(counted, "ip daddr 127.0.0.0/8 drop") {
		t.Errorf("nothing keeps pods off 127.0.0.0/8:\n%s", counted)
	}
	// Through the pod's veth to 127.0.0.1 of the node.
	ln, lerr := net.Listen("tcp4", "127.0.0.1:9099")
	if lerr != nil {
		t.Fatal(lerr)
	}
	defer func() { _ = ln.Close() }()
	nettest.RunIn(t, a.netns, "ip", "link", "set", "lo", "down")
	nettest.RunIn(t, a.netns, "ip", "route", "flush", "table", "local")
	nettest.RunIn(t, a.netns, "ip", "route", "add", "local", "10.42.0.2", "dev", "eth0", "table", "local")
	nettest.RunIn(t, a.netns, "ip", "route", "add", "127.0.0.1/32", "via", "169.254.1.1", "dev", "eth0", "onlink")
	nettest.RunIn(t, a.netns, "sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=1")
	if got := n.ask(a.netns, "tcp4", "127.0.0.1:9099"); !strings.HasPrefix(got, "error") {
		t.Errorf("a pod reached the host's loopback: %q", got)
	}
}

func TestPurgeLeavesTheMachineAsItWas(t *testing.T) {
	nettest.Root(t)
	state := func() string {
		return nettest.Run(t, "nft", "list", "ruleset") + nettest.Run(t, "ip", "-o", "addr") + nettest.Run(t, "ip", "route", "show", "table", "all") + nettest.Run(t, "ip", "neigh")
	}
	before := state()
	n := newNode(t)
	n.apply(service(wire.TCP, 30080, n.pod(2)))
	if state() == before {
		t.Fatal("nothing changed")
	}
	for range 2 {
		if err := n.rules.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.links.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if after := state(); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

func TestFault_W10_PodsAskTheNodeUntracked(t *testing.T) {
	n := newNode(t)
	a := n.pod(2)
	n.apply()
	s, err := dns.Listen(dns.Options{Listen: netip.MustParseAddrPort("10.43.0.10:53")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	tables := tables()
	tables.Names = []wire.Name{{Name: "web.default.svc.cluster.local.", Address: []netip.Addr{netip.MustParseAddr("10.43.0.77")}}}
	s.Swap(tables)
	for _, from := range []string{a.netns, ""} {
		for _, network := range []string{"udp4", "tcp4"} {
			r := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
				return n.connect(from, network, "10.43.0.10:53")
			}}
			got, err := r.LookupHost(t.Context(), "web.default.svc.cluster.local")
			if err != nil || len(got) != 1 || got[0] != "10.43.0.77" {
				t.Errorf("from %q over %s: %v, %v", from, network, got, err)
			}
		}
	}
	if flows := nettest.Run(t, "conntrack", "-L"); strings.Contains(flows, "10.43.0.10") {
		t.Errorf("questions are tracked:\n%s", flows)
	}
}

// The agent is killed and started again: what exists is found, and nothing that flows is cut.
func TestFault_W5_ARestartCutsNothing(t *testing.T) {
	n := newNode(t)
	a, b := n.pod(2), n.pod(3)
	n.apply(service(wire.TCP, 30080, a), service(wire.UDP, 30080, a))
	tcp, err := n.connect(b.netns, "tcp4", "10.43.0.77:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	if _, err := talk(tcp); err != nil {
		t.Fatal(err)
	}
	again, err := firewall.Open(firewall.Options{Instance: instance})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Apply(t.Context(), tables(service(wire.TCP, 30080, a), service(wire.UDP, 30080, a))); err != nil {
		t.Fatal(err)
	}
	if err := n.links.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.links.Ensure(t.Context(), links.Pod{ID: a.id, Netns: a.netns, IP: a.ip}); err != nil {
		t.Fatal(err)
	}
	if got, err := talk(tcp); !strings.HasPrefix(got, "pod2") {
		t.Errorf("%q, %v", got, err)
	}
}
