package firewall

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestFeature_V5_Visits: connections to a node port count when they are new and when something was sent, not because they are remembered.
func TestFeature_V5_Visits(t *testing.T) {
	flow := func(from uint16, port uint16, pod string, left uint32) *netlink.ConntrackFlow {
		f := &netlink.ConntrackFlow{TimeOut: left}
		f.Forward.Protocol, f.Forward.SrcIP, f.Forward.SrcPort = unix.IPPROTO_TCP, net.ParseIP("192.168.7.9"), from
		f.Forward.DstIP, f.Forward.DstPort = net.ParseIP("192.168.7.1"), port
		f.Reverse.SrcIP, f.Reverse.SrcPort = net.ParseIP(pod), 8080
		if pod == "" {
			f.Reverse.SrcIP, f.Reverse.SrcPort = f.Forward.DstIP, port
		}
		return f
	}
	var v Visits
	ports := map[uint16]bool{30000: true, 30001: true}
	for _, c := range []struct {
		what    string
		elapsed time.Duration
		flows   []*netlink.ConntrackFlow
		want    string
	}{
		{"a new one, one to another port, one that went to no pod", 0, []*netlink.ConntrackFlow{
			flow(1, 30000, "10.42.0.5", 432000), flow(2, 30002, "10.42.0.6", 432000), flow(3, 30001, "", 432000),
		}, "[30000]"},
		{"nothing was sent", 10 * time.Second, []*netlink.ConntrackFlow{flow(1, 30000, "10.42.0.5", 431990)}, "[]"},
		{"the kernel counts otherwise by a second", 10 * time.Second, []*netlink.ConntrackFlow{flow(1, 30000, "10.42.0.5", 431981)}, "[]"},
		{"something was sent", 10 * time.Second, []*netlink.ConntrackFlow{flow(1, 30000, "10.42.0.5", 431995)}, "[30000]"},
		{"it was ended", 10 * time.Second, []*netlink.ConntrackFlow{flow(1, 30000, "10.42.0.5", 118)}, "[30000]"},
		{"it is remembered", 10 * time.Second, []*netlink.ConntrackFlow{flow(1, 30000, "10.42.0.5", 108)}, "[]"},
		{"another one", 10 * time.Second, []*netlink.ConntrackFlow{flow(1, 30000, "10.42.0.5", 98), flow(4, 30001, "10.42.0.7", 120)}, "[30001]"},
		{"none", 10 * time.Second, nil, "[]"},
	} {
		var got []int
		for port := range v.judge(c.flows, ports, c.elapsed) {
			got = append(got, int(port))
		}
		slices.Sort(got)
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", c.what, got, c.want)
		}
	}
}
