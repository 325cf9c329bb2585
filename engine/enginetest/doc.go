// Package enginetest is rings in memory for tests: one that is stepped by hand (Ring), one of a single node under faults
// (Sim), and one of several nodes under faults (World), with the invariants that hold whatever happens.
//
// Sim and World are driven by one seed: a run with the same seed is the same run. `make sim` runs seeds for a set time,
// and prints how many hours were simulated, how many a second of CPU, and what was violated. A seed that fails is
// printed; its log, its objects and its story, a line for each thing that happened, are kept in the temporary directory.
//
//	go test ./engine/enginetest -run TestSim/many -sim.seed N    the seed again
//	SIM_SECONDS=600 go test ./engine/enginetest -run TestSim -v  seeds for ten minutes
//
// # World: what is true and what is a model
//
// True code, driven by the machines' own clocks: cluster.Step on entries in the order of the log; lease.Holder and
// keep.Keeper with its lease.Grants on every node; agree.Box on every node; plan.Steps on every node, with Facts.Lease.
//
// Models, each in a file of its own:
//
//	events.go    what happens, by true time in µs; an agent that stands still sees its events when it goes on
//	network.go   messages between nodes, and the gossip's failure detector: late, and at times wrong
//	log.go       raft: terms, votes, pre-votes, a leader's lease, matching and truncating logs, commit by majority,
//	             Verify. Heartbeats are not sent: whether two nodes reach each other is known whenever that changes
//	outbox.go    an input's way into the log, as the ledger has it: one batch of a node is under way, and what nobody
//	             knows to be in the log is sent again, before all else, to whoever leads then
//	machine.go   a node: power, disk, clocks that drift by up to 1 % and a wall clock that jumps, an agent that comes and goes
//	leasing.go   the node's end of its lease, the leader's, and the guard, which outlives the agent
//	runner.go    processes, and the agent that starts, stops and reports them, with the images' slow way
//	deployer.go  renders of commits, votes, activation
//	team.go      people who push commits to some node: sound ones, ones that never become ready, ones that some nodes
//	             render otherwise
//	faults.go    what goes wrong
//	chain.go     what is committed. An entry is stepped once for all nodes, for a State costs nothing to share; a node whose
//	             agent starts again steps for itself for a while, from a snapshot, and is compared (replica)
//	witness.go   who sees everything at the true time, and judges
//
// What goes wrong: agents are killed, machines lose their power with what the disk had not synced, all machines at once;
// agents stand still, and whole machines; the ring is split, nodes are cut off both ways or one way, for seconds or for
// many minutes, or flap; messages are lost, late, doubled, and overtake each other; wall clocks are set; disks are slow;
// the gossip suspects who is there; agents restart as announced, and are late; nodes are drained, and pods moved for a rebalance; disks
// are short. Often it meets the node
// that leads, and a node that has just come back.
//
// What is not in it: nodes that join or leave, changes of who votes, snapshots that a node gets instead of the log, and
// StatefulSets. A machine of which all stands still goes on with its guard first: that it may be otherwise is the
// documented limit of the fence.
//
// # What must hold
//
// After every event, by the ids of the fault matrix:
//
//	I1  a stateless process is stopped only because the ledger says so; in the end what is wanted runs; no pod waits for a
//	    node while there is one, however unsteady
//	I2  no more run of what may run once, counted by processes at the true time; no two pods have one name or address, in
//	    the State and among the processes; no run of a schedule is started twice; who steps the same entries has the same State
//	I3  nothing is active that a majority of the voters did not render alike; no rule fails
//	I4  what was committed stays committed, on all nodes, in the same place; no input is taken twice; what was acknowledged
//	    to who pushed is in the log once
//	I5  a snapshot of any State is one
//	I7  half an hour after the last fault all nodes have applied all, none is taken for lost, all is as the last commits
//	    want it, and all runs of schedules came
//	I8  inputs and votes that wait are bounded; no pod comes to a node whose disk is short
//
// For each there are bugs that can be planted (plants.go), and a test that they are found.
package enginetest
