package ledger

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// State is what the ledger needs of the state that its entries make; *cluster.State is the one that runs.
type State interface {
	// Wake is the ring time (ms since 1970) at which a Tick would change something; 0 is never.
	Wake() int64
	// Hash is equal for equal states, and cheap: it is kept up to date by Step.
	Hash() [32]byte
	// Encode writes the whole state, so that Machine.Decode gives an equal one.
	Encode(io.Writer) error
	// Blobs are the digests that the state refers to in the content store.
	Blobs() iter.Seq[desired.Digest]
}

// Machine is the function that the ledger feeds: S is its state, O what it says of one step.
type Machine[S State, O any] struct {
	New func() S
	// Decode reads what Encode wrote, to the end of the reader.
	Decode func(io.Reader) (S, error)
	// Snapshot gives an equal state that stays as it is when s is stepped; it is cheap.
	Snapshot func(s S) S
	// Step changes s, or leaves it as it was and says why in its outcome. It depends on its arguments alone and
	// does not panic.
	Step func(s S, e cluster.Entry, content desired.Content) O
	// Rejected is why the entry changed nothing, or "".
	Rejected func(O) string
	// Stalled is why the entry can be stepped by neither this binary nor with this content, or "". The ledger
	// tries again, and steps nothing behind it before.
	Stalled func(O) string
	// Refuse is the outcome of an entry that was never stepped: one that cannot be decoded, or was skipped.
	Refuse func(why string) O
}

// Cluster is the machine that runs.
func Cluster() Machine[*cluster.State, cluster.Outcome] {
	return Machine[*cluster.State, cluster.Outcome]{
		New:      cluster.NewState,
		Decode:   cluster.DecodeState,
		Snapshot: (*cluster.State).Snapshot,
		Step:     cluster.Step,
		Rejected: func(o cluster.Outcome) string { return o.Rejected },
		Stalled:  func(o cluster.Outcome) string { return o.Stalled },
		Refuse:   func(why string) cluster.Outcome { return cluster.Outcome{Rejected: why} },
	}
}

// Content is where the bytes lie that entries refer to.
type Content interface {
	desired.Content
	Has(desired.Digest) bool
}

// Options say where a ledger lies and who keeps it. Zero fields mean their defaults.
type Options[S State, O any] struct {
	Dir     string           // required: a directory of its own
	Machine Machine[S, O]    // required
	Node    place.NodeID     // required
	Boot    string           // required: names this run of the agent, never used before
	Content Content          // required
	Genesis *cluster.Genesis // begins a ledger of one voter if Dir holds none; nil: one that is empty waits to be joined

	// Transport carries raft between the nodes; default: none, for a ring of one. Its own address is Node, and so
	// is the address it is given of every other one.
	Transport raft.Transport
	// Fetch brings blobs from another node into Content. Default: nothing is fetched, an entry that lacks blobs waits.
	Fetch func(ctx context.Context, from place.NodeID, blobs []desired.Digest) error
	// Forward gives raw entries to the node that leads, whose Submit takes them with this node's identity as it was
	// proved there, and returns what that returned. Default: Append waits until this node leads.
	Forward func(ctx context.Context, leader place.NodeID, raw [][]byte) error
	// Wanted are the nodes that have not left the ring; the leader sends them the log, and lets some of them vote.
	// Empty: it is not known yet. It is asked a few times a second at most. Default: who was added by AddMember.
	Wanted func() []place.NodeID
	// Alive says which nodes are there, by failure detection; of one that is not named nothing is known. It is a hint.
	// Default: who answers the leader.
	Alive func() map[place.NodeID]bool
	// ClockOff is how far this node's clock is off the median of the voters' clocks; a leader that is over 5 s off hands
	// over. Default: not known.
	ClockOff func() (off time.Duration, known bool)

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: discard

	SegmentSize     int           // bytes of one file of the log; default 8 MiB
	SnapshotEntries int           // a snapshot is taken after so many entries; default 2048
	SnapshotBytes   int64         // or so many bytes of them; default 16 MiB
	Heartbeat       time.Duration // a follower that heard nothing for so long stands for election; default 300 ms
	Cut             bool          // begin without the entries from the first damaged one on; they are kept aside

	joinPatience time.Duration // a test's is shorter
	compareEvery uint64        // entries
}

// MaxEntry is the size of the largest entry that is taken, in bytes.
const MaxEntry = 1 << 20

const segmentSize = 8 << 20 // bytes

// WithDefaults returns a copy with the defaults filled in.
func (o Options[S, O]) WithDefaults() Options[S, O] {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		_, o.Transport = raft.NewInmemTransport(raft.ServerAddress(o.Node))
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = segmentSize
	}
	if o.SnapshotEntries == 0 {
		o.SnapshotEntries = 2048
	}
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = 16 << 20
	}
	if o.joinPatience == 0 {
		o.joinPatience = joinPatience
	}
	if o.compareEvery == 0 {
		o.compareEvery = compareEvery
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 300 * time.Millisecond
	}
	return o
}

// Check joins all that is wrong with the options into one error.
func (o Options[S, O]) Check() error {
	var errs []error
	must := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("ledger options: "+what))
		}
	}
	must(o.Dir != "", "Dir is empty")
	must(o.Node != "", "Node is empty")
	must(o.Boot != "", "Boot is empty")
	must(o.Content != nil, "Content is nil")
	m := o.Machine
	whole := m.New != nil && m.Decode != nil && m.Snapshot != nil && m.Step != nil && m.Rejected != nil && m.Stalled != nil && m.Refuse != nil
	must(whole, "Machine has a nil function")
	must(o.Transport == nil || o.Transport.LocalAddr() == raft.ServerAddress(o.Node), "Transport's own address is not Node")
	must(o.SegmentSize >= 64<<10, "SegmentSize is below 64 KiB")
	must(o.Heartbeat >= 20*time.Millisecond, "Heartbeat is below 20 ms")
	return errors.Join(errs...)
}
