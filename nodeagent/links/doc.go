// Package links gives pods their network interface: a veth pair, an address, a route. There is no bridge.
//
// One end of the pair is eth0 in the pod's network namespace and carries the pod's address as a /32; the other
// end stays on the host and is named for the instance and the pod:
//
//	pod   eth0 10.42.0.7/32, default via 169.254.1.1 (on link, permanent neighbour ee:ee:ee:ee:ee:ee)
//	host  sh-ab12cd-k3f9q  ee:ee:ee:ee:ee:ee, alias "<pod id>"
//	      10.42.0.7 dev sh-ab12cd-k3f9q scope link src 10.42.0.1, permanent neighbour
//
// Both neighbours are written down, so nobody asks by ARP and nobody has to answer for the gateway: its address
// is on no interface. The alias says whose link it is; names are five digits of a hash and may collide, in which
// case the next of three candidates is taken.
//
// The node itself has one more pair, sh-<instance>-node. It holds the address the node uses among pods (the
// first host of the pod CIDR, 10.42.0.1, which no pod gets) and the DNS address, and the route to the service CIDR
// points to it: because of that a process on the node reaches Services without any other network, and the firewall
// refuses what is left over. All of it goes when the pair goes. The pod CIDR itself is an unreachable route, so that
// what is for a pod that is not there is refused at once and never sent to the machine's default gateway.
//
// Of the machine's own settings only net.ipv4.ip_forward changes. What it was is written to Options.Record
// before it is changed, and Purge puts it back. The others (route_localnet, rp_filter, disable_ipv6) are set on
// our own interfaces and vanish with them.
//
// What exists is asked of the kernel, never remembered: Ensure repairs, Check tells, List finds what is left
// over, and Events says when something of ours was taken away.
package links
