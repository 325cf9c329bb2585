package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
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

	submitMu sync.Mutex // guards seq, and keeps the order of seq the order of the log
	seq      uint64
	waiters  waiters[O]

	subMu   sync.Mutex // guards subs
	subs    map[chan struct{}]bool
	changes <-chan struct{} // of Changes

	sinceEntries atomic.Int64 // stepped since the last snapshot
	sinceBytes   atomic.Int64
	snapshotting atomic.Bool

	checkMu sync.Mutex    // held by who writes the checkpoint
	over    chan struct{} // closed once nothing more will be appended
	overOne sync.Once
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
	}
	l.waiters.bySeq = map[uint64]chan O{}
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
	if l.mark, err = openMark(o.Dir); err != nil {
		return err
	}
	if l.mark.died > 0 {
		o.Log.Warn("the last run ended while it stepped an entry; should it happen again, `shoal recover --skip` takes the entry out", "index", l.mark.died)
	}
	if o.Transport == nil {
		_, o.Transport = raft.NewInmemTransport(raft.ServerAddress(o.Node))
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
	l.running.Go(func() { l.apply(run) })
	l.running.Go(func() { l.watch(run, notify) })
	changes, _ := l.Subscribe()
	l.running.Go(func() { l.tick(run, changes) })
	return l.settleAlone(ctx)
}

// config are raft's own settings. The heartbeat's lower value is for Raft.ReloadConfig, which lets a sole voter
// stand for election at once.
func (l *Ledger[S, O]) config(notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(l.opt.Node)
	c.HeartbeatTimeout = l.opt.Heartbeat
	c.ElectionTimeout = l.opt.Heartbeat
	c.LeaderLeaseTimeout = l.opt.Heartbeat * 4 / 5
	c.CommitTimeout = 50 * time.Millisecond
	c.MaxAppendEntries = 512
	c.BatchApplyCh = true
	c.ShutdownOnRemove = false
	c.TrailingLogs = 0                  // disk keeps what the older snapshot needs
	c.SnapshotInterval = 24 * time.Hour // we count entries and bytes ourselves
	c.SnapshotThreshold = 1 << 40
	c.NotifyCh = notify
	c.NoLegacyTelemetry = true
	c.Logger = library{log: l.opt.Log, name: "raft"}
	return c
}

// bootstrap makes an empty disk the only voter of a new ledger, if there is a Genesis to begin it with.
func (l *Ledger[S, O]) bootstrap(conf *raft.Config, trans raft.Transport) error {
	there, err := raft.HasExistingState(l.disk, l.disk, l.disk.snaps)
	if err != nil {
		return fmt.Errorf("look for a ledger: %w", err)
	}
	if there || l.opt.Genesis == nil {
		return nil
	}
	only := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: trans.LocalAddr()}}}
	if err := raft.BootstrapCluster(conf, l.disk, l.disk, l.disk.snaps, trans, only); err != nil {
		return fmt.Errorf("begin a ledger: %w", err)
	}
	return nil
}

// settleAlone brings a sole voter to the end of its log, and begins the ledger if it is empty. Among several
// voters it does nothing: nobody waits for a majority here.
func (l *Ledger[S, O]) settleAlone(ctx context.Context) error {
	if !l.alone() {
		return nil
	}
	rc := l.raft.ReloadableConfig()
	rc.HeartbeatTimeout -= time.Millisecond
	if err := l.raft.ReloadConfig(rc); err != nil { // a lowered timeout makes raft look at once whether there is a leader
		return fmt.Errorf("hasten election: %w", err)
	}
	for {
		if err := l.awaitLeader(ctx); err != nil {
			return err
		}
		if err := l.barrier(ctx); err == nil {
			break
		} else if ctx.Err() != nil {
			return fmt.Errorf("replay: %w", err)
		}
		if err := l.usable(); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	if l.Applied() == 0 && l.opt.Genesis != nil {
		o, err := l.Append(ctx, cluster.Input{Genesis: l.opt.Genesis})
		if err != nil {
			return fmt.Errorf("genesis: %w", err)
		}
		if why := l.opt.Machine.Rejected(o); why != "" {
			return fmt.Errorf("genesis: %s", why)
		}
	}
	return nil
}

// newRaft starts raft in a goroutine of its own, since the disk may end the one that calls it.
func (l *Ledger[S, O]) newRaft(conf *raft.Config, trans raft.Transport) (r *raft.Raft, err error) {
	l.disk.started.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("raft: %v", p)
			}
		}()
		r, err = raft.NewRaft(conf, fsm[S, O]{l}, l.disk, l.disk, l.disk.snaps, trans)
	}()
	<-done
	if r == nil && err == nil {
		err = l.disk.usable()
	}
	return r, err
}

// alone says whether this node is the only voter.
func (l *Ledger[S, O]) alone() bool {
	f := l.raft.GetConfiguration()
	if f.Error() != nil {
		return false
	}
	voters, me := 0, false
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			me = me || s.ID == raft.ServerID(l.opt.Node)
		}
	}
	return voters == 1 && me
}

// watch tells the others of changes of leadership, which raft reports one by one, and shuts raft down once the
// disk failed: a node that cannot write its log must neither lead nor vote.
func (l *Ledger[S, O]) watch(ctx context.Context, notify <-chan bool) {
	failed := l.disk.failed
	for {
		select {
		case <-ctx.Done():
			return
		case <-notify:
		case <-failed:
			failed = nil
			l.end()
			l.opt.Log.Error("ledger stopped: its log cannot be written", "err", l.disk.usable())
			l.raft.Shutdown()
		}
		l.changed()
	}
}

// Leading says whether this node is the leader.
func (l *Ledger[S, O]) Leading() bool { return l.raft.State() == raft.Leader }

// awaitLeader waits until this node leads.
func (l *Ledger[S, O]) awaitLeader(ctx context.Context) error {
	changes, cancel := l.Subscribe()
	defer cancel()
	for !l.Leading() {
		if err := l.usable(); err != nil {
			return err
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("no leader: %w", context.Cause(ctx))
		}
	}
	return nil
}

// usable is nil while entries can be appended and applied.
func (l *Ledger[S, O]) usable() error {
	if l.closed.Load() {
		return ErrClosed
	}
	return l.disk.usable()
}

// Err is why the ledger cannot take entries now: ErrFull, a *FailedError, ErrClosed; nil while it can.
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

// Diverged says whether this node's state was another one after a restart than before: a bug, or damage that no
// checksum saw.
func (l *Ledger[S, O]) Diverged() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.diverged
}

// Changes gets a value after the state moved or the leader changed; several moves may give one. It is one channel
// for one reader; Subscribe gives more.
func (l *Ledger[S, O]) Changes() <-chan struct{} { return l.changes }

// Subscribe returns a channel that gets a value when the state moved or the leader changed; several moves may give
// one value. cancel ends it.
func (l *Ledger[S, O]) Subscribe() (changes <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	l.subMu.Lock()
	defer l.subMu.Unlock()
	l.subs[c] = true
	return c, func() {
		l.subMu.Lock()
		defer l.subMu.Unlock()
		delete(l.subs, c)
	}
}

func (l *Ledger[S, O]) changed() {
	l.subMu.Lock()
	defer l.subMu.Unlock()
	for c := range l.subs {
		select {
		case c <- struct{}{}:
		default: // it knows already
		}
	}
}

// compact counts what was stepped and has a snapshot taken when that is enough.
func (l *Ledger[S, O]) compact(entries int, bytes int64) {
	n, b := l.sinceEntries.Add(int64(entries)), l.sinceBytes.Add(bytes)
	if n < int64(l.opt.SnapshotEntries) && b < l.opt.SnapshotBytes {
		return
	}
	if !l.snapshotting.CompareAndSwap(false, true) {
		return
	}
	l.sinceEntries.Store(0)
	l.sinceBytes.Store(0)
	l.running.Go(func() {
		defer l.snapshotting.Store(false)
		if err := l.Snapshot(); err != nil && !l.closed.Load() {
			l.opt.Log.Warn("snapshot not taken, will retry later", "err", err)
		}
	})
}

// Snapshot writes the state to disk and lets go of the log before the snapshot that was taken before.
func (l *Ledger[S, O]) Snapshot() error {
	if err := l.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return l.writeCheckpoint()
}

// end lets go of every Append that waits.
func (l *Ledger[S, O]) end() { l.overOne.Do(func() { close(l.over) }) }

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
		err = l.raft.Shutdown().Error()
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

// path of the list of entries that are skipped by hand.
func skipPath(dir string) string { return filepath.Join(dir, "skip") }
