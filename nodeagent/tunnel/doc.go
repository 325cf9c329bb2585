// Package tunnel is a node's WireGuard: a process of its own that encrypts what goes to other nodes' pods, and what keeps
// it running and up to date.
//
// # Two halves
//
// Main is the process. It makes the device (a persistent TUN interface, sh-<instance>-wg), listens on the UDP port, and
// answers WireGuard's own configuration protocol on /var/run/wireguard/<device>.sock, where wg(8) looks. It knows nothing
// of nodes, pods or routes.
//
// Tunnel is the agent's half. Ensure finds the process, or starts it, and makes its peers those of a node's routes; package
// links gives the device its address, its MTU and its routes, and decides what goes through it.
//
// # The process outlives the agent
//
// It is found again by its lock, a file whose holder the kernel names. The file says the version of what the two halves
// have agreed on, and by that an agent of another version adopts the process: a newer agent does not end sessions. One of
// a version that it does not speak, one that does not answer, and one that was killed is replaced.
//
// The device is persistent so that the end of the process changes no route: what goes to it meanwhile is dropped and
// never sent on in clear, connections wait, and the next process takes the device over. That one knows no session, and
// the others cannot tell that theirs are worthless; so it greets every peer when it gets it (see below).
//
// # Peers
//
// A peer is a node: its key, its address and port as the ledger has them, and the range of its pods as its only allowed
// addresses, so that a node can send nothing in the name of another's pods. Peers are added, changed and removed one by
// one; sessions of those that stay are not touched. An address that the ledger changes is set; as long as it does not,
// WireGuard's own roaming is left alone, which is why a differing address is not told as drift.
//
// A new peer is greeted: a keepalive is asked for, which begins a handshake, and asked for no more. Two nodes come to know
// of each other at times that differ by some milliseconds. Whatever the first one sends is lost, for the other does not
// know it yet, and WireGuard would repeat its greeting after five seconds; the second one's succeeds. So there is always
// one that does, and packets that wait for it are sent then.
//
// There is no persistent keepalive: every node can be reached at the address that the ledger has, so that either side can
// begin, and a ring at rest stays at rest.
//
// # Keys
//
// The X25519 key is derived from the node's ed25519 seed (PrivateKey). There is no file to lose, and a node that comes
// back is the same peer. It is told to the process over its socket, not on its command line.
//
// # What it costs
//
// Under load most memory is packets: WireGuard takes 64 KiB for each, as many may be one large one, and up to 128 at a
// time. Their number has no bound of its own, but what waits in the kernel's queues has. What is collected is bounded: the
// process collects garbage early (memoryLimit), and gives all of it back when nothing was sent for a while (rest).
package tunnel
