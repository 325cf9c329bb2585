package nettest_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// reaches asks once, and waits for so long that a busy machine is no reason.
func reaches(t testing.TB, from, network, address string) bool {
	t.Helper()
	return reachesWithin(t, 3*time.Second, from, network, address)
}

func reachesWithin(t testing.TB, wait time.Duration, from, network, address string) bool {
	t.Helper()
	reached := false
	nettest.In(t, from, func() {
		c, err := (&net.Dialer{Timeout: wait}).Dial(network, address)
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(wait))
		if _, err := io.WriteString(c, "hello"); err != nil {
			return
		}
		_, err = c.Read(make([]byte, 64))
		reached = err == nil
	})
	return reached
}

// answers answers in a namespace over TCP and UDP at an address.
func answers(t testing.TB, netns, address string) {
	t.Helper()
	nettest.In(t, netns, func() {
		ln, err := net.Listen("tcp4", address)
		if err != nil {
			t.Error(err)
			return
		}
		pc, err := net.ListenPacket("udp4", address)
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
				go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
			}
		}()
		go func() {
			b := make([]byte, 64)
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

// sandbox is a town with a preview on two nodes, another preview, and pods that are no business of either. What is isolated is so before it
// has a link.
type sandbox struct {
	*town
	own      [3]pod // two on the first node, one on the second
	stranger pod    // of another preview, on the first node
	here     pod    // of an environment that may do what it likes, on the first node
	there    pod    // on the second
}

func newSandbox(t *testing.T, c *town) *sandbox {
	t.Helper()
	a, b := c.nodes[0], c.nodes[1]
	own := []netip.Addr{a.podIP(2), a.podIP(3), b.podIP(2)}
	a.tables.Isolated = []wire.Isolation{
		{Name: "pr-12", From: own[:2], To: own},
		{Name: "pr-13", From: []netip.Addr{a.podIP(4)}, To: []netip.Addr{a.podIP(4)}},
	}
	b.tables.Isolated = []wire.Isolation{{Name: "pr-12", From: own[2:], To: own}}
	meet(c.nodes...)
	s := &sandbox{town: c, own: [3]pod{a.pod(2), a.pod(3), b.pod(2)}, stranger: a.pod(4), here: a.pod(5), there: b.pod(5)}
	for _, n := range c.nodes[:2] {
		answers(t, n.netns, "10.43.0.10:53") // the node's DNS
		for _, at := range []netip.Addr{n.address, n.podIP(1), netip.MustParseAddr("10.43.0.10")} {
			answers(t, n.netns, at.String()+":7000")
		}
		answers(t, n.netns, n.podIP(1).String()+":53") // what is no DNS of the ring's
		n.apply(s.services()...)
	}
	serve(t, c.outside, "outside")
	nettest.RunIn(t, c.outside, "ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
	answers(t, c.outside, "169.254.169.254:80")
	nettest.RunIn(t, a.netns, "ip", "route", "add", "169.254.169.254", "via", "192.0.2.9")
	return s
}

// services are one of the preview's own, of which each pod answers, and one of the other environment's.
func (s *sandbox) services() []wire.Port {
	var ports []wire.Port
	for _, protocol := range []wire.Protocol{wire.TCP, wire.UDP} {
		foreign, own := service(protocol, 30090, s.here, s.there), service(protocol, 30080, s.own[:]...)
		foreign.Service, foreign.ClusterIP = "dev/web", netip.MustParseAddr("10.43.0.88")
		ports = append(ports, own, foreign)
	}
	return []wire.Port{ports[0], ports[2], ports[1], ports[3]}
}

// mayNot are addresses that no pod of the preview speaks to, and others do.
func (s *sandbox) mayNot() map[string]string {
	a, b := s.nodes[0], s.nodes[1]
	return map[string]string{
		"a pod on this node":           s.here.ip.String() + ":8080",
		"a pod on another node":        s.there.ip.String() + ":8080",
		"another preview's pod":        s.stranger.ip.String() + ":8080",
		"another's Service":            "10.43.0.88:80",
		"another's node port":          a.address.String() + ":30090",
		"a node port of another node":  b.address.String() + ":30090",
		"the node":                     a.address.String() + ":7000",
		"the node among pods":          a.podIP(1).String() + ":7000",
		"the node among pods, port 53": a.podIP(1).String() + ":53",
		"the node at its DNS address":  "10.43.0.10:7000",
		"another node":                 b.address.String() + ":7000",
		"another node among pods":      b.podIP(1).String() + ":7000",
		"the internet":                 "192.0.2.9:8080",
		"the metadata of a cloud":      "169.254.169.254:80",
	}
}

// TestFault_P2_Sandbox: a pod of a preview that may not speak to everybody reaches its own pods, its own Services and the ring's DNS, and is
// reached from everywhere; whatever else it sends is dropped, on one node and across two.
func TestFault_P2_Sandbox(t *testing.T) {
	for _, way := range []struct {
		name    string
		options func(*links.Options)
	}{{"one network", nil}, {"everything wrapped", func(o *links.Options) { o.Overlay = links.Always }}} {
		t.Run(way.name, func(t *testing.T) {
			s := newSandbox(t, newTown(t, false, way.options))
			for _, network := range []string{"tcp4", "udp4"} {
				s.speaks(t, network)
				s.isReached(t, network)
				s.isHeldBack(t, network)
			}
		})
	}
}

func (s *sandbox) speaks(t *testing.T, network string) {
	t.Helper()
	for i, from := range s.own {
		for _, to := range s.own {
			if !reaches(t, from.netns, network, to.ip.String()+":8080") {
				t.Errorf("%s of the preview does not reach %s over %s", from.name, to.name, network)
			}
		}
		for range 6 { // whichever pod is drawn, itself among them
			if !reaches(t, from.netns, network, "10.43.0.77:80") {
				t.Errorf("%s does not reach its own Service over %s", from.name, network)
			}
		}
		if !reaches(t, from.netns, network, "10.43.0.10:53") {
			t.Errorf("%s does not reach the DNS over %s", from.name, network)
		}
		if at := s.nodes[i/2].address.String() + ":30080"; !reaches(t, from.netns, network, at) {
			t.Errorf("%s does not reach the node port of its own Service at %s over %s", from.name, at, network)
		}
	}
}

func (s *sandbox) isReached(t *testing.T, network string) {
	t.Helper()
	from := map[string]string{"another machine": s.outside, "its node": s.nodes[0].netns, "another node": s.nodes[1].netns, "a pod beside it": s.here.netns, "a pod on another node": s.there.netns}
	for who, netns := range from {
		for _, n := range s.nodes[:2] {
			for range 6 {
				if at := n.address.String() + ":30080"; !reaches(t, netns, network, at) {
					t.Errorf("%s does not reach the preview at %s over %s", who, at, network)
				}
			}
		}
		if who == "another machine" {
			continue // it knows no way to pods
		}
		for _, to := range s.own {
			if !reaches(t, netns, network, to.ip.String()+":8080") {
				t.Errorf("%s does not reach %s over %s", who, to.name, network)
			}
		}
	}
}

// silence is for how long nothing comes where nothing is to come.
const silence = 300 * time.Millisecond

func (s *sandbox) isHeldBack(t *testing.T, network string) {
	t.Helper()
	for what, address := range s.mayNot() {
		if reachesWithin(t, silence, s.own[0].netns, network, address) {
			t.Errorf("a pod of the preview reaches %s, %s, over %s", what, address, network)
		}
		if !reaches(t, s.here.netns, network, address) {
			t.Errorf("another pod does not reach %s, %s, over %s: the test is wrong", what, address, network)
		}
	}
	for _, to := range []string{s.here.ip.String() + ":8080", s.there.ip.String() + ":8080", "192.0.2.9:8080", "10.43.0.88:80"} {
		if reachesWithin(t, silence, s.own[2].netns, network, to) {
			t.Errorf("the preview's pod on the second node reaches %s over %s", to, network)
		}
	}
	if network == "udp4" {
		return
	}
	for _, to := range []string{s.nodes[0].address.String(), s.here.ip.String(), "192.0.2.9"} {
		if pings(t, silence, s.own[0].netns, to) {
			t.Errorf("a pod of the preview pings %s", to)
		}
		if !pings(t, 3*time.Second, s.here.netns, to) {
			t.Errorf("another pod does not ping %s: the test is wrong", to)
		}
	}
}

// A connection that is open when a pod is isolated ends, and one that others have opened to it goes on; when the isolation ends, it may
// speak to everybody.
func TestFault_P2_SandboxComesAndGoes(t *testing.T) {
	s := newSandbox(t, newTown(t, false, nil))
	a := s.nodes[0]
	confined := a.tables.Isolated
	ports := a.tables.Ports
	a.tables.Isolated = nil
	a.apply(ports...)
	out, err := connect(t, s.own[0].netns, "tcp4", "192.0.2.9:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	in, err := connect(t, s.here.netns, "tcp4", s.own[0].ip.String()+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	for _, c := range []net.Conn{out, in} {
		if got, err := talk(c); err != nil {
			t.Fatal(got, err)
		}
	}
	a.tables.Isolated = confined
	a.apply(ports...)
	if got, err := talk(in); err != nil {
		t.Errorf("a connection from elsewhere: %q, %v", got, err)
	}
	_ = out.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(out, "hello")
	if n, err := out.Read(make([]byte, 64)); err == nil {
		t.Errorf("a connection to elsewhere goes on: %d bytes", n)
	}
	a.tables.Isolated = nil
	a.apply(ports...)
	if !reaches(t, s.own[0].netns, "tcp4", "192.0.2.9:8080") {
		t.Error("it is isolated still")
	}
}

// pings asks for an echo by ICMP.
func pings(t testing.TB, wait time.Duration, from, to string) (answered bool) {
	t.Helper()
	nettest.In(t, from, func() {
		c, err := net.Dial("ip4:icmp", to)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(wait))
		if _, err := c.Write([]byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}); err != nil { // echo request 1.1
			return
		}
		b := make([]byte, 64)
		n, err := c.Read(b)
		answered = err == nil && n > 0
	})
	return answered
}
