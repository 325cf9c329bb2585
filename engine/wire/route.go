package wire

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
)

// Route says where the pods of another node are.
type Route struct {
	Node place.NodeID
	CIDR netip.Prefix // of its pods
	Via  netip.Addr   // its address in the network beneath
	// Tunnel is its end of WireGuard, which answers at Via; zero if it has none.
	Tunnel cluster.Tunnel
}

// Overlay is the network of the ring's own that pods' packets are wrapped in where two nodes are not neighbours:
// VXLAN. It is the same on every node without being agreed on.
type Overlay struct {
	VNI  uint32 // network number, 1 to 2^24-1
	Port uint16 // UDP
}

// overlayPort is IANA's port for VXLAN.
const overlayPort = 4789

// overlay derives the network number from the ring's id, so that two rings on one network are told apart.
func overlay(ring string, port uint16) Overlay {
	o := Overlay{VNI: 1, Port: cmp.Or(port, overlayPort)}
	if len(ring) >= 6 {
		if n, err := strconv.ParseUint(ring[:6], 16, 24); err == nil && n != 0 {
			o.VNI = uint32(n)
		}
	}
	return o
}

// routes returns the routes to the other nodes' pods and the address of self.
func routes(self place.NodeID, nodes []place.Node, tunnels map[place.NodeID]cluster.Tunnel) (others []Route, own netip.Addr) {
	for i := range nodes {
		n := &nodes[i]
		switch {
		case n.ID == self:
			own = n.Address
		case n.PodCIDR.IsValid() && n.Address.IsValid():
			others = append(others, Route{n.ID, n.PodCIDR.Masked(), n.Address.Unmap(), tunnels[n.ID]})
		}
	}
	slices.SortFunc(others, func(a, b Route) int {
		return cmp.Or(a.CIDR.Addr().Compare(b.CIDR.Addr()), cmp.Compare(a.CIDR.Bits(), b.CIDR.Bits()), cmp.Compare(a.Node, b.Node))
	})
	return others, own.Unmap()
}

// NodeAddress is the address that a node has among pods, the first host of its range: the source of what its own
// processes send to pods, and of what it passes on for clients that pods could not answer otherwise.
func NodeAddress(podCIDR netip.Prefix) netip.Addr { return podCIDR.Masked().Addr().Next() }
