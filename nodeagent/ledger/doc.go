// Package ledger puts the inputs of a ring into one order, keeps that order on disk, and applies it: one after the
// other, every node steps the same entries and comes to the same state. hashicorp/raft and raft-wal do the agreeing and
// the writing; a ring of one is one voter, by the same code.
//
// # An input's way
//
//	Append      encodes the input, gives it the next sequence number of this boot and the leader's clock
//	raft        one batch of all that wait, one fsync, committed
//	fsm         queues the raw entry, no more: a step that takes long never holds up raft
//	applier     numbers it, decodes it, Machine.Step(state, entry, content)
//	Append      returns what Step said
//
// Entries are numbered from 1, Genesis, without the entries that raft makes for itself, so a recorded log has the same
// numbers whatever elections it went through. An entry's time is the greatest of the clocks its leaders gave so far:
// ring time never goes back. A leader whose clock was set back lets ring time go on at half its pace (clock.go).
//
// An entry that changes nothing (it is wrong, it was skipped by hand, it cannot be decoded) is rejected: recorded,
// logged, and no reason to stop. One that stalls (blobs are missing on this node, the binary is too old) is tried again
// every second, and nothing is stepped behind it.
//
// An Append whose leader was lost on the way finds out what became of its entry: once this node leads again and all
// before is applied, the entry was applied or never will be, and only then is the input submitted once more. So an
// input is applied at most once, and the state's own dedupe is for what other nodes forward.
//
// A Tick is appended when the state's next wake is due, at most four a second; with nothing due the ledger sleeps.
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
//
// A full disk refuses entries with ErrFull, and raft tries again a few times a second; the log is opened anew once there
// is room. After any other failed write or fsync the log is not touched again by this process (FailedError): the node
// stops leading and voting, and what is applied can still be read.
package ledger
