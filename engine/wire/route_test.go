package wire

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/place"
)

func TestRoutes(t *testing.T) {
	node := func(id, cidr, address string, change func(*place.Node)) place.Node {
		n := place.Node{ID: place.NodeID(id)}
		if cidr != "" {
			n.PodCIDR = netip.MustParsePrefix(cidr)
		}
		if address != "" {
			n.Address = netip.MustParseAddr(address)
		}
		if change != nil {
			change(&n)
		}
		return n
	}
	ring := []place.Node{
		node("n3", "10.42.10.0/24", "192.0.2.3", func(n *place.Node) { n.Down = true }),
		node("n1", "10.42.0.0/24", "192.0.2.1", nil),
		node("n2", "10.42.9.0/24", "::ffff:192.0.2.2", func(n *place.Node) { n.Cordoned = true }),
		node("n4", "", "192.0.2.4", nil),
		node("n5", "10.42.5.0/24", "", nil),
	}
	for _, c := range []struct {
		name, ring string
		self       place.NodeID
		port       uint16
		want       string
	}{
		{"others, down and cordoned ones too", "ab12cdef00000000ffffffffffffffff", "n1", 0, "192.0.2.1 vni 11211469 port 4789; n2 10.42.9.0/24 via 192.0.2.2; n3 10.42.10.0/24 via 192.0.2.3"},
		{"another node, another port", "00000000000000000000000000000000", "n3", 8472, "192.0.2.3 vni 1 port 8472; n1 10.42.0.0/24 via 192.0.2.1; n2 10.42.9.0/24 via 192.0.2.2"},
		{"a node that is not known", "000001", "n9", 0, "invalid IP vni 1 port 4789; n1 10.42.0.0/24 via 192.0.2.1; n2 10.42.9.0/24 via 192.0.2.2; n3 10.42.10.0/24 via 192.0.2.3"},
	} {
		for range 2 {
			tables := Compile(Input{Node: c.self, Ring: c.ring, OverlayPort: c.port, Nodes: ring})
			var parts []string
			parts = append(parts, fmt.Sprintf("%s vni %d port %d", tables.Address, tables.Overlay.VNI, tables.Overlay.Port))
			for _, r := range tables.Routes {
				parts = append(parts, fmt.Sprintf("%s %s via %s", r.Node, r.CIDR, r.Via))
			}
			if got := strings.Join(parts, "; "); got != c.want {
				t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
			}
			slices.Reverse(ring) // the order does not matter
		}
	}
}

func TestNodeAddress(t *testing.T) {
	if got := NodeAddress(netip.MustParsePrefix("10.42.7.9/24")).String(); got != "10.42.7.1" {
		t.Error(got)
	}
}
