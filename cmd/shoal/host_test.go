package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/nodeagent/links"
)

// elsewhere runs f in a network namespace of its own, which goes when it returns.
func elsewhere(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		t.Fatal(back) // the thread stays locked, and ends with the test
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
}

// link makes an interface that is up and has an address.
func link(name, address string) error {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	for _, n := range []string{name, name + "p"} {
		l, err := netlink.LinkByName(n)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(veth, a)
}

// route sends a range to an interface, or nowhere without one.
func route(dst, name string) error { return change(netlink.RouteAdd, dst, name) }

func change(do func(*netlink.Route) error, dst, name string) error {
	_, ipnet, err := net.ParseCIDR(dst)
	if err != nil {
		return err
	}
	r := &netlink.Route{Dst: ipnet, Type: unix.RTN_BLACKHOLE}
	if name != "" {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		r.LinkIndex, r.Type, r.Scope = l.Attrs().Index, unix.RTN_UNICAST, netlink.SCOPE_LINK
	}
	return do(r)
}

// A range that the host has a route into is refused by both names; routes of this node's own, to nowhere and to
// everywhere are none.
func TestOverlap(t *testing.T) {
	const instance = "abcdef"
	pods, services := netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("10.43.0.0/16")
	const choose = ": choose another with --pod-cidr or --service-cidr"
	steps := []struct {
		name string
		do   func() error
		want string
	}{
		{"another network", func() error { return link("eth9", "192.168.9.1/24") }, ""},
		{"the default route", func() error { return route("0.0.0.0/0", "eth9") }, ""},
		{"our own link", func() error {
			if err := link(links.Prefix(instance)+"1", "172.30.0.1/32"); err != nil {
				return err
			}
			return route("10.42.0.7/32", links.Prefix(instance)+"1")
		}, ""},
		{"our own route to another node's pods", func() error {
			return change(func(r *netlink.Route) error {
				r.Protocol, r.Priority = 83, 0xabcdef
				return netlink.RouteAdd(r)
			}, "10.42.5.0/24", "eth9")
		}, ""},
		{"a route to nowhere", func() error { return route("10.42.0.0/24", "") }, ""},
		{"beside it", func() error { return route("10.44.0.0/16", "eth9") }, ""},
		{"inside of the services", func() error { return route("10.43.128.0/17", "eth9") }, "the range 10.43.0.0/16 overlaps with a route of this machine (10.43.128.0/17 on eth9)" + choose},
		{"around the pods", func() error {
			if err := change(netlink.RouteDel, "10.43.128.0/17", "eth9"); err != nil {
				return err
			}
			return route("10.32.0.0/12", "eth9")
		}, "the range 10.42.0.0/16 overlaps with a route of this machine (10.32.0.0/12 on eth9)" + choose},
		{"another node's link", func() error {
			if err := change(netlink.RouteDel, "10.32.0.0/12", "eth9"); err != nil {
				return err
			}
			if err := link(links.Prefix("123456")+"1", "172.30.1.1/32"); err != nil {
				return err
			}
			return route("10.42.1.7/32", links.Prefix("123456")+"1")
		}, "the range 10.42.0.0/16 overlaps with a route of this machine (10.42.1.7/32 on " + links.Prefix("123456") + "1)" + choose},
	}
	elsewhere(t, func() error {
		for _, tt := range steps {
			if err := tt.do(); err != nil {
				return fmt.Errorf("%s: %w", tt.name, err)
			}
			got := ""
			if err := overlap(pods, services, instance); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
		}
		return nil
	})
}

// The holder of a port is named.
func TestHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if got := holder(port); !strings.HasSuffix(got, fmt.Sprintf(", pid %d)", os.Getpid())) {
		t.Errorf("%q", got)
	}
	l.Close()
	if got := holder(port); got != "" {
		t.Errorf("a free port is%s", got)
	}
}
