// Package ring knows who is there: membership, failure hints and small announcements between the nodes of a ring,
// on hashicorp/serf. A single node is a ring of one, by the same code.
//
// A member is known by its NodeID, which follows from its key; addresses and names may change or be taken by
// another. Every packet is encrypted with the ring's key and labelled with the ring's identity, so nodes of two
// rings that reach each other stay apart; what is of neither is dropped, and counted by Refused.
//
// What the ring says is a hint. Events may come late, twice or not at all, and a packet may be replayed: whoever
// acts on one checks it against the ledger. A consumer that is too slow gets one Lost event in place of those that
// were dropped, and looks at Members again.
//
// # Failure
//
// Failures are known to all after 1.4 s in a ring of 3 and 2.7 s in one of 100, with no false report at 5 % loss
// (probe 300 ms, timeout 150 ms, suspicion 3/6, gossip 50 ms). A node that is alone runs none of these timers; serf is
// started anew, within some milliseconds, when a second one comes.
//
// # Finding each other
//
// A new node is given the ring's keys and some addresses (Options.Keys, Options.Join). From then on it keeps both itself:
// the keys in keyring, the members that were alive last in members. Whoever should be there and is not is looked for, for
// ever and by itself (seek.go): those seen before, and those the ledger knows (Options.Known), every 5 s while nobody else
// is there and every minute otherwise. So a ring of which all nodes were switched off forms without a seed, two halves
// find each other also after serf has forgotten the other one, and a node whose address changed is in again 2 to 3 s after
// its start: as soon as the others have noticed that nobody answers at the old address.
//
// # One node twice
//
// Two machines with one key, by a cloned disk, look like a node whose address changed, but for ever. Who hears for 10 s
// that one ID is claimed from two addresses says so in a Twin event with both. The second machine, which is the one that
// heard of itself within 30 s of its start, ends its gossip and does not come back into the ring, not even when the first
// one stops; the older one goes on as if nothing were. As any member may claim anything, the other is asked for a proof
// before (Options.Proves); who cannot give it has no effect.
//
// # Keys
//
// There are one or two keys; all of them decrypt, the first encrypts. An exchange goes over all nodes three times:
// InstallKey, UseKey, RemoveKey, each durable on its node before it holds. A node that was off meanwhile is not understood
// any more; it fetches the keys by other means and calls SetKeys. serf's own way, a query over the gossip, is not used.
//
// # Bounds
//
// memberlist takes 20 MiB from a stranger before it looks who sends them. Here a stream brings 8 MiB, all of them 32 MiB
// together, and 64 are open at once.
package ring
