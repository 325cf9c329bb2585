package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Ledger is one node's copy of the order of inputs and of the state that follows from it. It is safe for
// concurrent use.
type Ledger[S State, O any] struct {
	opt   Options[S, O]
	raft  *raft.Raft
	disk  *disk
	clock clock
	queue *queue
	mark  *mark
	slots chan struct{} // a place for each Append under way
	skip  map[uint64]bool

	mu       sync.RWMutex // guards below; held whole only by the applier and by Restore
	state    S
	applied  uint64 // number of the last entry stepped; Genesis is 1
	time     int64  // its ring time, ms
	check    checkpoint
	diverged bool
	stalled  string // why the next entry cannot be stepped; "" if it can
	rejected []Rejected

	feed    feed
	content *wanting // Options.Content, in the applier's hands
	lacking bool     // the state lacked blobs when the ledger was opened

	outbox     *outbox[O]
	rounds     rounds
	followers  followers
	compared   comparison
	halt       sync.Once
	halted     chan struct{} // closed when most voters have another state
	leadership atomic.Pointer[Leadership]
	leaving    leaving

	subMu   sync.Mutex // guards subs
	subs    map[chan struct{}]bool
	changes <-chan struct{} // of Changes

	sinceEntries atomic.Int64 // stepped since the last snapshot
	sinceBytes   atomic.Int64
	snapshotting atomic.Bool

	checkMu sync.Mutex    // held by who writes the checkpoint
	over    chan struct{} // closed once nothing more will be appended
	overOne sync.Once
	shutOne sync.Once
	shut    raft.Future
	stop    context.CancelFunc
	running sync.WaitGroup
	closed  atomic.Bool
}

// Open opens the ledger in o.Dir. A ring of one is ready when Open returns: what the log holds was applied, and if
// it was empty, o.Genesis is entry 1. ctx bounds the opening alone.
//
// Damage that the log's checksums show is a *DamagedError, unless it lies behind a snapshot that makes the damaged
// part needless; a damaged snapshot is quarantined and the one before it taken.
func Open[S State, O any](ctx context.Context, o Options[S, O]) (*Ledger[S, O], error) {
	o = o.WithDefaults()
	if err := o.Check(); err != nil {
		return nil, err
	}
	l := &Ledger[S, O]{
		opt:   o,
		clock: clock{now: o.Now},
		queue: newQueue(),
		slots: make(chan struct{}, inFlight),
		state: o.Machine.New(),
		subs:  map[chan struct{}]bool{},
		over:  make(chan struct{}),

		feed:    feed{ready: make(chan struct{})},
		content: &wanting{Content: o.Content},
		outbox:  newOutbox[O](),
		halted:  make(chan struct{}),
	}
	if o.ClockOff != nil {
		l.clock.off = func() (time.Duration, bool) {
			if l.alone() {
				return 0, true
			}
			return o.ClockOff()
		}
	}
	l.changes, _ = l.Subscribe()
	var err error
	if l.skip, err = readSkip(o.Dir); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if l.check, err = readCheckpoint(o.Dir, o.Log); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger: %w", err), l.Close())
	}
	return l, nil
}

// start opens the disk, starts raft and the ledger's own goroutines, and brings a ring of one to the end of its log.
func (l *Ledger[S, O]) start(ctx context.Context) error {
	o := l.opt
	var err error
	l.disk, err = openDisk(diskOptions{dir: o.Dir, segment: o.SegmentSize, cut: o.Cut, log: o.Log})
	if err != nil {
		return err
	}
	trans, ok := o.Transport.(voting)
	if !ok {
		return fmt.Errorf("%T: expected a transport that carries pre-votes and can be closed", o.Transport)
	}
	requests := resent{patient{trans, l.disk.pace.stuck}, l.deleted, make(chan raft.RPC)}
	l.opt.Transport = requests
	o = l.opt
	committed, err := l.disk.committed()
	if err != nil {
		return err
	}
	if l.mark, err = openMark(o.Dir); err != nil {
		return err
	}
	if l.mark.died > 0 {
		o.Log.Warn("the last run ended while it stepped an entry; should it happen again, `shoal recover --skip` takes the entry out", "index", l.mark.died)
	}
	notify := make(chan bool, 16)
	conf := l.config(notify)
	if err := l.bootstrap(conf, o.Transport); err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	if l.raft, err = l.newRaft(conf, o.Transport); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	l.running.Go(func() { requests.pass(run) })
	l.running.Go(func() { l.apply(run) })
	l.running.Go(func() { l.watch(run, notify) })
	if err := l.feedKnown(committed); err != nil {
		return err
	}
	if l.lacking && l.opt.Fetch != nil {
		l.running.Go(func() { l.fetchLacking(run) })
	}
	for _, loop := range []func(context.Context, <-chan struct{}){l.tick, l.send, l.keepSeats, l.speak} {
		changes, _ := l.Subscribe()
		l.running.Go(func() { loop(run, changes) })
	}
	return l.settleAlone(ctx)
}

// usable is nil while entries can be appended and applied.
func (l *Ledger[S, O]) usable() error {
	if l.closed.Load() {
		return ErrClosed
	}
	if l.isHalted() {
		return ErrDiverged
	}
	return l.disk.usable()
}

func (l *Ledger[S, O]) isHalted() bool {
	select {
	case <-l.halted:
		return true
	default:
		return false
	}
}

// Err is why the ledger cannot take entries now: ErrFull, a *FailedError, ErrDiverged, ErrClosed; nil while it can.
func (l *Ledger[S, O]) Err() error { return l.usable() }

// View calls f with the state as it is now. f must not change it; the ledger goes on meanwhile.
func (l *Ledger[S, O]) View(f func(S)) {
	l.mu.RLock()
	s := l.opt.Machine.Snapshot(l.state)
	l.mu.RUnlock()
	f(s)
}

// Stalled is why the next entry cannot be stepped on this node, "" if nothing is in the way: blobs are missing, or
// the binary is too old. It is tried again every second.
func (l *Ledger[S, O]) Stalled() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.stalled
}

// Applied is the number of the last entry that was applied here; 0 before Genesis.
func (l *Ledger[S, O]) Applied() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.applied
}

// stalledLook is how often it is asked whether an entry that cannot be stepped is in the way.
const stalledLook = 100 * time.Millisecond

// Replayed waits until all that this node knows now to be committed was applied here, or as much of it as can be without
// others: see Stalled.
func (l *Ledger[S, O]) Replayed(ctx context.Context) error {
	for l.Stalled() == "" {
		look, cancel := context.WithTimeout(ctx, stalledLook)
		err := l.queue.drained(look)
		late := look.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil || !late {
			return err
		}
	}
	return nil
}

// Time is the ring time of the last applied entry, in ms since 1970.
func (l *Ledger[S, O]) Time() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.time
}

// Rejected returns the latest entries, at most 64, that changed nothing since this node was started, oldest first.
func (l *Ledger[S, O]) Rejected() []Rejected {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.rejected)
}

// Diverged says whether this node's state was another one after a restart than before, or is another one than that of
// most voters: a bug, or damage that no checksum saw. In the second case it has halted (ErrDiverged).
func (l *Ledger[S, O]) Diverged() bool {
	if l.isHalted() {
		return true
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.diverged
}

// end lets go of every Append that waits.
func (l *Ledger[S, O]) end() { l.overOne.Do(func() { close(l.over) }) }

// shutRaft stops raft: this node neither leads nor votes any more. Only Close waits for it.
func (l *Ledger[S, O]) shutRaft() raft.Future {
	l.shutOne.Do(func() { l.shut = l.raft.Shutdown() })
	return l.shut
}

// Close stops the ledger. Appends under way return ErrClosed or are lost to their callers; what was acknowledged
// is on disk.
func (l *Ledger[S, O]) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	var err error
	l.end()
	if l.stop != nil {
		l.stop()
	}
	l.queue.close() // raft may wait for room in it
	if l.raft != nil {
		err = l.shutRaft().Error()
	}
	l.changed()
	l.running.Wait()
	if l.raft != nil {
		err = errors.Join(err, l.writeCheckpoint())
	}
	if l.mark != nil {
		err = errors.Join(err, l.mark.close())
	}
	if l.disk != nil {
		err = errors.Join(err, l.disk.Close())
	}
	return err
}
