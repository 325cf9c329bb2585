package wire

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// Each node's end of WireGuard is in the others' routes, and its own in its tables.
func TestRoutesHaveTunnels(t *testing.T) {
	r := enginetest.NewRing(t)
	for i := range 3 {
		up := enginetest.Node(i + 1)
		if i < 2 {
			up.Tunnel = cluster.Tunnel{Key: fmt.Sprintf("%d%s=", i, "OFHGa5bokQmXRsYXz0Pxyx9EgYfAUAgG8/1jMHo+To"), Port: 51820 + uint16(i)}
		}
		r.Must(cluster.Input{NodeUp: up})
	}
	for self, want := range map[int]string{
		1: "{0OFHGa5bokQmXRsYXz0Pxyx9EgYfAUAgG8/1jMHo+To= 51820}; 10.42.1.0/24 192.0.2.2 51821; 10.42.2.0/24 192.0.2.3 0",
		3: "{ 0}; 10.42.0.0/24 192.0.2.1 51820; 10.42.1.0/24 192.0.2.2 51821",
	} {
		tables := Compile(FromState(r.State, enginetest.Node(self).ID, r.Content))
		got := fmt.Sprint(tables.Tunnel)
		for _, route := range tables.Routes {
			got += fmt.Sprintf("; %s %s %d", route.CIDR, netip.AddrPortFrom(route.Via, 0).Addr(), route.Tunnel.Port)
		}
		if got != want || tables.Strict {
			t.Errorf("node %d:\n%s, want\n%s", self, got, want)
		}
	}
}
