package cluster

import (
	"fmt"
	"net/netip"

	"github.com/shoal-dev/shoal/engine/control"
)

// resting is how long a released pod address is passed over while another one is free, ms: so that what still
// talks to the old pod does not reach the new one.
const resting = 600_000

// nodeCIDR is the lowest share of the pod range that no node has.
func (t *tx) nodeCIDR() (netip.Prefix, error) {
	ring, _ := t.s.Ring()
	taken := map[netip.Prefix]bool{}
	for n := range t.s.nodes.Values() {
		taken[n.PodCIDR] = true
	}
	step := uint32(1) << (32 - nodeBits)
	for i := range uint32(1) << (nodeBits - ring.PodCIDR.Bits()) {
		if p := netip.PrefixFrom(nth(ring.PodCIDR, i*step), nodeBits); !taken[p] {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("every /%d of %s has its node", nodeBits, ring.PodCIDR)
}

// freeIP is an address of a node's range: the lowest that was not released in the last minutes, else the one
// that was released first; false if all are held. The first address is the node's own.
func (t *tx) freeIP(cidr netip.Prefix) (netip.Addr, bool) {
	last := uint32(1)<<(32-cidr.Bits()) - 1
	var oldest *Address
	for n := uint32(2); n < last; n++ {
		a, ok := t.s.addresses.Get(nth(cidr, n))
		if !ok {
			return nth(cidr, n), true
		}
		if a.Released != 0 && (oldest == nil || a.Released < oldest.Released) {
			oldest = a
		}
		if a.Released != 0 && t.now-a.Released >= resting {
			return a.IP, true
		}
	}
	if oldest == nil {
		return netip.Addr{}, false
	}
	return oldest.IP, true
}

// release lets a pod's address rest. The row goes when the address is given out again, so there are never more
// than addresses.
func (t *tx) release(ip netip.Addr, of control.PodID) {
	if a, ok := t.s.addresses.Get(ip); ok && a.Pod == of {
		t.s.addresses.set(&t.s, &Address{IP: ip, Released: max(t.now, 1)})
	}
}
