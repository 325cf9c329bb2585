// Package ledger puts the inputs of a ring into one order, keeps that order on disk, and applies it: one after the
// other, every node steps the same entries and comes to the same state. hashicorp/raft and raft-wal do the agreeing and
// the writing; a ring of one is one voter, by the same code.
//
// # An input's way
//
//	Append      encodes the input and gives it the next sequence number of this boot
//	outbox      one batch of all that wait goes to the leader: to raft where this node leads, else by Forward
//	Submit      on the leader: every entry names who sent it; it gets the leader's clock
//	raft        one fsync on a majority, committed; hasten tells the followers at once
//	fsm         queues the raw entries, no more: a step that takes long never holds up raft
//	applier     numbers an entry, decodes it, Machine.Step(state, entry, content)
//	Append      returns what Step said on its own node
//
// Entries are numbered from 1, Genesis, without the entries that raft makes for itself, so a recorded log has the same
// numbers whatever elections it went through. An entry's time is the greatest of the clocks its leaders gave so far:
// ring time never goes back. A leader whose clock was set back lets ring time go on at half its pace, and one whose clock is
// ahead of what the voters' clocks say leads ring time nowhere (clock.go).
//
// An entry that changes nothing (it is wrong, it was skipped by hand, it cannot be decoded) is rejected: recorded,
// logged, and no reason to stop. One that stalls (blobs are missing on this node, the binary is too old) is tried again
// every second, and nothing is stepped behind it. Blobs that the step looked for are fetched, from the node that
// submitted the entry before all others, and the entry is tried again at once.
//
// A Tick is appended when the state's next wake is due, at most four a second; with nothing due the ledger sleeps.
//
// # Once, and in order
//
// A node has one batch under way. It is one entry of raft's log, so it comes into the log whole or not at all. If the
// leader is lost nobody may know which; then the same inputs, with the same numbers, are sent again before anything
// else, to whoever leads next. The state knows the numbers it has seen and rejects a repetition. A repetition stands
// behind what it repeats, and the Append that waits gets the first outcome, so nobody is told of the second.
// A request that arrives late, after its repetition, is a repetition itself. What is certain not to be in the log (the
// other end does not lead, its disk is full) counts as not sent.
//
// One case leaves an Append without an outcome: its node was so far behind that it got a snapshot instead of the entry
// (ErrPassedOver).
//
// # Members
//
// In raft's configuration a node's name and its address both are its place.NodeID; the transport looks up where it can
// be reached when it dials. Who belongs to the ring gets the log (Options.Wanted); the voters are the largest odd
// number of them, five at most (seats.go: the rules, seating.go: the loop). Two nodes are one voter and one that
// follows: if the voter is lost the other goes on with what it knows, and cannot decide. The leader makes one change of
// raft's configuration at a time, and asks for the next one anew, so a crash in the middle is taken up where it was. A
// voter that failed keeps its seat until a node that is there and has what is committed can take it; a voter that left
// loses it at once.
//
// Beside raft's own messages the leader sends empty AppendEntries (ask.go): to tell followers what is committed as soon
// as it is, to see where they stand, and to prove to the leases that it leads. The last is Verify: one round for all who
// ask at the same time, to voters alone.
//
// A leader counts from the moment at which it has applied all that was committed before its term (Leadership). It
// hands over before an announced stop (StepDown), when it does not belong to the ring any more, and when its clock is
// over 5 s off the voters' median (Options.ClockOff), and when its disk is slow. While its disk hangs it is silent, so that
// another is elected (slow.go).
//
// # What happens when
//
//	the leader is killed         the others elect one: .5 to .9 s to the next commit; inputs under way are sent again
//	it is cut off                it stops to lead within a heartbeat time-out (300 ms); Verify fails at once
//	its disk hangs               after 1 s it is silent, and the others elect one: 2.5 s at most to the next commit
//	its disk is slow             most of 5 writes took over 200 ms: it hands over
//	it stops as announced        StepDown: some 10 ms
//	the majority is lost         nobody commits, Append waits; state and blobs can be read; a node that restarts applies
//	                             all it knew to be committed (feed.go, commit.go), so its pods start
//	it is lost for good          GoAlone makes one node the only voter, by hand, with all it has
//	a node was away              it gets the entries it lacks; further behind than two snapshots, a snapshot. That waits
//	                             for the blobs the snapshot lists, while the old state stays; a crash meanwhile makes it
//	                             the state at the next start, and the blobs are fetched beside
//	a state differs              every thousandth entry the nodes compare hashes (compare.go): the node that differs
//	                             from most voters halts; a restart steps its log anew, and compares again
//	a node's disk is lost        it comes back as another node; the old identity leaves the ring
//
// # The directory
//
//	log/*.wal        the segments of the log, of full size from the start
//	log/spare        the next segment, ready: the log outlives a full disk by one segment
//	log/meta         the list of segments, raft's term and vote; written in place, four copies (meta.go)
//	snapshots/       the newest two snapshots: the state after entry n, raw entries behind it, the blobs it needs
//	reserve          room for the next snapshot, given up while one is written
//	skip             numbers of entries that are skipped, one a line (Skip)
//	checkpoint       the hash of the state when it was last known, to compare after a replay
//	stepping         the entry being stepped: not zero at the start if the last run died of it
//	committed        the last entry of raft's log known to be committed (commit.go)
//	quarantine/      what was damaged, as it was found
//
// A snapshot is taken after 2,048 entries or 16 MiB of them, and the log is cut behind the snapshot BEFORE that one. So
// a damaged snapshot is quarantined and costs some replay, no entry.
//
// # When the disk fails
//
// What a crash or power loss tears off the end of the log was never acknowledged: it is cut, with a warning. Every
// entry has a checksum of its own, and every batch has raft-wal's; both are compared at the start, and bytes that were
// acknowledged and are not what was written are a DamagedError. A ring of one has nobody to ask for them, so the ledger
// does not open, until the file is restored or somebody says, with Options.Cut, that it may go on without what follows.
// Among several voters a node must not go on without what it acknowledged, for its vote counted: it is not to be cut,
// but to come back as another node.
//
// A full disk refuses entries with ErrFull, and raft tries again a few times a second; the log is opened anew once there
// is room. A leader whose disk is full hands over to another voter by failing. After any other failed write or fsync the
// log is not touched again by this process (FailedError): the node stops leading and voting, and what is applied can
// still be read.
package ledger
