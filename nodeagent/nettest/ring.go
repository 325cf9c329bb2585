package nettest

import (
	"fmt"
	"testing"
)

// Segment is a network that machines are plugged into: a bridge in a namespace of its own.
type Segment struct {
	t     testing.TB
	Netns string
	name  string // of the bridge
	ports int
}

// NewSegment makes a network. With in, the path of a namespace, it is made there: beside other segments of a router.
func NewSegment(t testing.TB, in, name string) *Segment {
	t.Helper()
	if in == "" {
		in = Netns(t)
	}
	RunIn(t, in, "ip", "link", "add", name, "type", "bridge")
	RunIn(t, in, "ip", "link", "set", name, "up")
	RunIn(t, in, "ip", "link", "set", "lo", "up")
	return &Segment{t: t, Netns: in, name: name}
}

// Address gives the segment's own namespace an address in it: that of a router.
func (s *Segment) Address(prefix string) {
	s.t.Helper()
	RunIn(s.t, s.Netns, "ip", "addr", "add", prefix, "dev", s.name)
	RunIn(s.t, s.Netns, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
}

// Machine plugs a new namespace in, as device eth<n> with an address, and with a default route by way of gateway unless
// that is empty.
func (s *Segment) Machine(prefix, gateway string) string {
	s.t.Helper()
	netns := Netns(s.t)
	s.Plug(netns, "eth0", prefix)
	if gateway != "" {
		RunIn(s.t, netns, "ip", "route", "add", "default", "via", gateway)
	}
	return netns
}

// Plug connects a namespace that is there.
func (s *Segment) Plug(netns, device, prefix string) {
	s.t.Helper()
	s.ports++
	port := fmt.Sprintf("%s-%d", s.name, s.ports)
	RunIn(s.t, s.Netns, "ip", "link", "add", port, "type", "veth", "peer", "name", device, "netns", netns)
	RunIn(s.t, s.Netns, "ip", "link", "set", port, "master", s.name, "up")
	RunIn(s.t, netns, "ip", "addr", "add", prefix, "dev", device)
	RunIn(s.t, netns, "ip", "link", "set", device, "up")
	RunIn(s.t, netns, "ip", "link", "set", "lo", "up")
}
