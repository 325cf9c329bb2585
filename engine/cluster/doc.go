// Package cluster is the ring's state and the one function that changes it: Step(State, Entry).
//
// # State
//
// A State is a set of tables of records: nodes, refs, environments, their objects, what was given to Services,
// Deployments, ReplicaSets, Jobs, CronJobs, pods, pod addresses, wakes, rejected inputs and faults. Records are
// immutable and refer to objects of Git by digest; the objects' bytes lie in a content store. Tables and indexes are
// persistent trees, so a copy of a State costs nothing: readers keep a Snapshot while the next entry is stepped, a
// Step works on a copy that it drops if the input turns out to be wrong, and `shoal plan` steps a fork.
//
// Each record has a version, the entry's index << 20 plus its place among the entry's changes, and a sha256 of its
// table, record and version. The State's hash is made from their sum modulo 2^256, its index and its time: it is
// kept up to date by every Step, and does not depend on the order in which records came. Indexes follow from the
// records, so they are neither hashed nor encoded: a State from a snapshot is the same as one that was replayed.
//
// # Step
//
// Step takes one input, in this order:
//
//  1. Inputs that were taken before, told by (node, boot, sequence), change nothing. Of each of a node's last 8
//     boots the last 64 numbers are remembered, so that inputs may overtake each other.
//  2. The input is checked, and makes its own change: a Phase its pod's status, an Activate its environment's
//     objects (only entries of the manifest that differ from the active ones are looked at), and so on.
//  3. The rules of the objects it concerns run, each once, in the order of their keys, until none has more to do:
//     package control decides, this package carries it out.
//  4. Pods without a node are placed when there may be room (package place), and get the lowest address of their
//     node's range that did not belong to another pod in the last ten minutes.
//
// What goes wrong is contained, and alike on every node:
//
//   - An input that is wrong, or makes our code panic, or is a commit that takes too much work, leaves the State as
//     it was and is recorded in Rejected (the newest 256). A report that merely comes too late is not recorded.
//   - A rule that fails for one object leaves that object as it was and is recorded in Faults; it runs again when
//     the object changes, at the latest after five minutes. The others go on.
//   - An input other than a commit that takes too much work leaves the rest of it to the next Tick.
//   - What an entry says that the ring's engine version does not know is dropped, as an older binary does that decodes it
//     (asOf), so that a member that asks for something too early harms nobody. Records have no field that the ring's
//     engine version does not know: snapshots go from any member to any other, and come back whole.
//   - Bytes that are missing here, or an engine version that this binary does not know, stall the Step: the State
//     is exactly as it was, and the caller must not step later entries until that was mended.
//
// # Time
//
// Ring time is the highest time any entry had. Rules that wait for a time leave a wake; State.Wake is the earliest.
// Only a Tick runs what is due, 128 rules at a time. A clock that runs ahead and is set back makes the ring wait
// until it is there again; it never does anything twice.
//
// # Names
//
// uids are hashes of the ring, the creating entry's index, environment, kind and name: an object that was deleted
// and comes back is another one, a file that was moved is not. Pods of sets and jobs are named as in Kubernetes, with
// five letters that follow from the entry; a pod keeps its name, its address and its place in its set until its node
// has reported that nothing is left of it, so no two pods of one identity ever exist.
package cluster
