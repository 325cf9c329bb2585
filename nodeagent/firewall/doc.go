// Package firewall puts a node's Services into the kernel: one nftables table, shoal-<instance>, written over
// netlink as a whole or not at all. Nothing outside that table is changed, except by AllowForward.
//
// Lookups are maps, so a connection costs the same with one Service and with ten thousand:
//
//	service-ports   address . protocol . port  ->  goto cnt-3        3 is the number of endpoints
//	chain cnt-3     goes to ep-0, ep-1 or ep-2 at random
//	ep-1            address . protocol . port  ->  address . port    the second endpoint of each service
//	chain ep-1      rewrites the destination to what ep-1 has
//
// There is one chain for each number of endpoints and one map for each index, not for each Service: a change of a
// Service is a change of some elements. Node ports have the same without the address (node-ports, node-cnt-3,
// node-ep-1), asked only for addresses of the node itself, 127.0.0.1 among them. A Service with session affinity has
// chains of its own, aff-..., and for each endpoint a set of the clients bound to it, which the packet path itself
// fills and the kernel expires; when the set is full or the endpoint is gone, a client is sent to any endpoint, never
// dropped. All of it is such that nft can list it and load what it listed.
//
// A Service without endpoints is in none of the maps. What still bears an address of the service CIDR after the
// maps were asked is refused at once, TCP with a reset, anything else by ICMP.
//
// Source addresses are kept, except where the answer would not come back this way. A pod sees the node's address
// among pods (10.42.0.1) in place of itself, when it reached itself through its Service (set hairpin); of 127.0.0.1, as
// a client of a node port; and of a client from outside that asked at another node than the pod's. With
// externalTrafficPolicy Local the last does not happen. Others see the machine's address in place of a pod's. A node port
// on 127.0.0.1 leads to endpoints on this node alone (loop-ports), since the kernel sends nothing with that address out
// on an interface of the machine's own.
//
// Packets for the overlay are dropped unless they come from a node of the ring (set members), those of pods also when a
// Service would lead there; and what comes out of it must bear the address of a pod or node, but none that is here.
// What comes out of WireGuard's device must, too. Where another node's pods are reached through it, nothing for them leaves by
// any other interface (set sealed), whatever the routes say; a strict node also takes nothing from other nodes' pods that did
// not come through it. Packets of pods with a source that is not theirs, or for the host's
// 127.0.0.0/8, are dropped before anything else. Questions to the DNS address are not tracked.
//
// A pod that is isolated speaks first to certain pods alone (wire.Isolation):
//
//	isolated-pods   source address  ->  goto iso-pr-12
//	chain iso-pr-12 takes what is for an address of set iso-pr-12, and goes on to isolated
//	chain isolated  takes answers and questions to the DNS address, and drops the rest
//
// That is asked once the destination is the pod behind the Service, for what passes through and for what is for the node alike, and of
// each packet: a connection that was open before ends too.
//
// Apply compares with what is in the kernel. Reading tens of thousands of elements back takes long, so it is done
// only when somebody changed the ruleset since our last transaction; the kernel's own generation number of the
// ruleset says that exactly. Hence an untouched table costs one small question, and a changed one is always found,
// also after `nft flush ruleset`. A load of more than 65,536 elements goes in several transactions, endpoints before
// the Services that lead to them, so that the kernel is never held for long. After three refusals in a row the
// table is made anew.
//
// UDP has no connections, but the kernel remembers flows; those that lead to an endpoint that is gone are deleted
// by a scan. Flows of TCP are left alone: a pod that is being stopped finishes what it began. Once it is gone, they are
// Remembered, and to Forget: for minutes, or days, a new connection from the same port of the same client would be led to it.
package firewall
