// Package ring knows who is there: membership, failure hints and small announcements between the nodes of a ring,
// on hashicorp/serf. A single node is a ring of one, by the same code.
//
// A member is known by its NodeID, which follows from its key; addresses and names may change or be taken by
// another. Every packet is encrypted with the ring's key and labelled with the ring's identity, so nodes of two
// rings that reach each other stay apart.
//
// What the ring says is a hint. Events may come late, twice or not at all, and a packet may be replayed: whoever
// acts on one checks it against the ledger. A consumer that is too slow gets one Lost event in place of those that
// were dropped, and looks at Members again.
//
// Failures are known to all after 1.4 s in a ring of 3 and 2.7 s in one of 100, with no false report at 5 % loss
// (probe 300 ms, timeout 150 ms, suspicion 3/6, gossip 50 ms). The members that were alive last are kept in a file,
// and a node that starts tries them until one answers.
package ring
