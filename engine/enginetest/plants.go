package enginetest

// The bugs that can be planted in a World.
const (
	EagerGrant       Plant = "the leader acknowledges a renewal while the end of the lease is on its way"
	NoVerify         Plant = "the leader acknowledges without asking whether it still leads"
	NotWhole         Plant = "a new leader does not begin all leases whole"
	LateCount        Plant = "a node counts its lease from when the answer came"
	NoGuard          Plant = "the guard does not kill"
	StartAtOnce      Plant = "a node whose lease had ended starts before it has applied what was taken from it"
	Forgetful        Plant = "an agent that starts again takes its lease for one under which it may start anything"
	BlindStart       Plant = "what was decided under the lease is started after its end"
	NoProof          Plant = "the ledger is told that a lease is over as soon as a node is lost"
	LastWords        Plant = "what a leader decided counts when it is one no more"
	Minority         Plant = "the leader activates what it alone has rendered"
	EarlyAcknowledge Plant = "the leader takes for committed what it alone has"
	NoSync           Plant = "a voter answers before its disk has the entries"
	NoDedupe         Plant = "inputs are not numbered, so one that is sent again is taken again"
	OddStep          Plant = "one node steps to another State"
	Quitter          Plant = "a node that hears of no majority stops all it runs"
	Deafness         Plant = "agents do not stop what is to stop"
	EarlyGone        Plant = "agents report a pod as gone while it still runs"
)
