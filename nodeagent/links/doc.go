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
// Routes adds the ways to the pods of other nodes. The kernel is asked where each node's own address is. To one in
// a network that this machine is in too, packets go as they are; to one behind a router, which would not know where pods
// are, they are wrapped in VXLAN by one device, sh-<instance>-vx:
//
//	10.42.2.0/24 via 192.0.2.2 dev eth0 src 10.42.0.1                     a neighbour
//	10.42.7.0/24 via 10.42.7.1 dev sh-ab12cd-vx onlink src 10.42.0.1      behind a router
//	unreachable 10.42.0.0/16                                              pods of no node
//
// The device learns nothing and asks nothing: next hop, hardware address and outer address of each node are written
// down, and removed with the node. The hardware address of a node's end is made of the node's address among pods, so
// that nothing must be exchanged. Two nodes need not choose the same way to each other. All these routes have the
// protocol 83 and the instance as their metric, which is how they are told from those of others; another's route that
// stands before ours is left, and a warning says so.
//
// Between two nodes that both have WireGuard all of it goes encrypted, through a TUN device, sh-<instance>-wg, whatever
// lies between them:
//
//	10.42.2.0/24 dev sh-ab12cd-wg scope link src 10.42.0.1                encrypted
//	unreachable 10.42.3.0/24                                              strict, and the node has none
//
// Another process encrypts (Options.Tunnel); it is there before the others know that this node can decrypt, and has them
// as peers before anything is sent to them. A node is reached encrypted once its key and this node's own are in the ledger:
// from then on no state of the network has anything sent to it as it is. Without the device its route refuses; without its
// process the device stays, and drops. How each node is reached is decided in one place, kindOf.
//
// New pods get the MTU that reaches every node: that of the interface, less 50 bytes where packets are wrapped or 60 where
// they are encrypted (then a multiple of 16, to which WireGuard fills up packets), and no
// more than a router on the way lets through, which a probe finds out when a node becomes known. Pods that exist, and
// nodes with a smaller MTU, are left to the kernel, which tells a sender of what was too big.
//
// Of the machine's own settings only net.ipv4.ip_forward changes. What it was is written to Options.Record
// before it is changed, and Purge puts it back. The others (route_localnet, rp_filter, disable_ipv6) are set on
// our own interfaces and vanish with them.
//
// What exists is asked of the kernel, never remembered: Ensure repairs, Check tells, List finds what is left
// over, and Events says when something of ours was taken away.
package links
