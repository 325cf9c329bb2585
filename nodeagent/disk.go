package nodeagent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
)

const (
	// diskEvery is how often the disks are looked at, as a kubelet does.
	diskEvery = 10 * time.Second
	// diskRoomy is for how long there must be room again before it is believed. A kubelet waits for five minutes, as it stops
	// pods while a disk is short, and would stop those that come back at once again and again. Here nothing is stopped: it is
	// enough that a roll-out's images, pulled and removed, do not make the node come and go.
	diskRoomy = time.Minute
	// reclaimEvery is how often at most room is made.
	reclaimEvery = time.Minute
)

// DiskOptions are what a DiskWatch is made of. All are required but Log.
type DiskOptions struct {
	Node   place.NodeID
	Limits []DiskLimit
	Dirs   map[string][]string // on "nodefs" and on "imagefs"
	Stat   func(dir string) (Disk, error)
	Ledger DiskLedger
	// Reclaim makes room: it removes what nobody asks for any more.
	Reclaim func(ctx context.Context) error
	// Thin removes logs that were set aside, below the directory Logs, until enough says so. It is asked for when that is short
	// still, as the last step. Without Logs it never is.
	Thin func(ctx context.Context, enough func() bool) error
	Logs string
	Log  *slog.Logger // default: discard
}

// DiskLedger is what a DiskWatch needs of the ledger.
type DiskLedger interface {
	View(f func(*cluster.State))
	// Report says something that is true here whether or not it can be written here.
	Report(ctx context.Context, in cluster.Input) error
}

// DiskWatch keeps true what the ledger has of this node's disk: that it is short, so that no more pods come. Room is made
// first. It is over when there has been clearly more room than the limits want for a while.
type DiskWatch struct {
	opt DiskOptions

	reclaimed time.Time
	thinned   time.Time
	roomy     time.Time // since when there is room; zero: there is not, or it is not short
	said      string    // what was said last
	saidAt    uint64    // how far the ledger was here then; 0: nothing was said
	told      chan error

	mu    sync.Mutex // guards what follows
	short string     // how it is short; "": it is not
}

// NewDiskWatch makes one; Run starts it.
func NewDiskWatch(o DiskOptions) *DiskWatch {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &DiskWatch{opt: o}
}

// Short says how the disk is short; "" if it is not.
func (d *DiskWatch) Short() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.short
}

// Run works until ctx ends.
func (d *DiskWatch) Run(ctx context.Context) error {
	if n, _ := d.known(); n != nil {
		d.set(n.DiskPressure)
	}
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		d.look(ctx)
		d.tell(ctx)
		for ticked := false; !ticked; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-tick.C:
				ticked = true
			case err := <-d.told:
				d.told = nil
				if err == nil {
					_, d.saidAt = d.known()
				} else if ctx.Err() == nil {
					d.opt.Log.WarnContext(ctx, "the ring does not know how this node's disk is, will retry", "err", err)
				}
			}
		}
	}
}

// look decides whether the disk is short.
func (d *DiskWatch) look(ctx context.Context) {
	was, now := d.Short(), time.Now()
	short, tight := d.measure(ctx)
	if short != "" && was == "" && (d.reclaimed.IsZero() || now.Sub(d.reclaimed) >= reclaimEvery) {
		d.reclaim(ctx, short)
		short, tight = d.measure(ctx)
	}
	if short != "" && d.thin(ctx, now) {
		short, tight = d.measure(ctx)
	}
	switch {
	case short != "":
		d.roomy = time.Time{}
		if was == "" {
			d.opt.Log.WarnContext(ctx, "the disk is short: no more pods come to this node", "why", short)
			d.set(short)
		}
	case was == "":
	case tight:
		d.roomy = time.Time{}
	case d.roomy.IsZero():
		d.roomy = now
	case now.Sub(d.roomy) >= diskRoomy:
		d.roomy = time.Time{}
		d.opt.Log.InfoContext(ctx, "the disk has room again: pods may come to this node")
		d.set("")
	}
}

func (d *DiskWatch) reclaim(ctx context.Context, short string) {
	d.reclaimed = time.Now()
	bounded, cancel := context.WithTimeout(ctx, reclaimEvery)
	defer cancel()
	if err := d.opt.Reclaim(bounded); err != nil && ctx.Err() == nil {
		d.opt.Log.WarnContext(ctx, "no room was made on a short disk", "why", short, "err", err)
	}
}

// thin makes room among the logs where their disk is short, once a minute for as long as it is: pods go on writing. It tells
// whether it was tried.
func (d *DiskWatch) thin(ctx context.Context, now time.Time) bool {
	if d.opt.Logs == "" || !d.thinned.IsZero() && now.Sub(d.thinned) < reclaimEvery {
		return false
	}
	logs := map[string][]string{"nodefs": {d.opt.Logs}}
	short, _ := d.measureIn(ctx, logs)
	if short == "" {
		return false
	}
	d.thinned = now
	bounded, cancel := context.WithTimeout(ctx, reclaimEvery)
	defer cancel()
	err := d.opt.Thin(bounded, func() bool { // clearly more than the limit: a line more would have it short again
		_, tight := d.measureIn(bounded, logs)
		return !tight
	})
	if err != nil && ctx.Err() == nil {
		d.opt.Log.WarnContext(ctx, "not all rotated logs could be removed from a short disk", "why", short, "err", err)
	}
	return true
}

// measure says how a disk is short, and whether one is nearly so. Of one that cannot be looked at nothing is known.
func (d *DiskWatch) measure(ctx context.Context) (short string, tight bool) {
	return d.measureIn(ctx, d.opt.Dirs)
}

func (d *DiskWatch) measureIn(ctx context.Context, dirs map[string][]string) (short string, tight bool) {
	for _, l := range d.opt.Limits {
		for _, dir := range dirs[l.filesystem()] {
			disk, err := d.opt.Stat(dir)
			if errors.Is(err, fs.ErrNotExist) {
				continue // logs come with the first pod
			}
			if err != nil {
				d.opt.Log.WarnContext(ctx, "disk not looked at", "err", err)
				continue
			}
			all, free := l.of(disk)
			if all == 0 {
				continue
			}
			least, roomy := l.least(all)
			tight = tight || free < roomy
			if free < least && short == "" {
				short = l.say(dir, all, free)
			}
		}
	}
	return short, tight
}

// tell says in the ledger how the disk is, if it does not know. One report is under way at a time.
func (d *DiskWatch) tell(ctx context.Context) {
	node, at := d.known()
	short := d.Short()
	if node == nil || d.told != nil || (short == "") == (node.DiskPressure == "") || d.saidAt != 0 && at <= d.saidAt && short == d.said {
		return // in the last case it was said, and has not come here, as on a disk that is full
	}
	d.told, d.said, d.saidAt = make(chan error, 1), short, 0
	told := d.told
	go func() { told <- d.opt.Ledger.Report(ctx, cluster.Input{Pressure: &cluster.Pressure{Disk: short}}) }() // ends with ctx, at the latest
}

// known is what the ledger has of this node, and how far it is here; nil if it has none, or would not understand.
func (d *DiskWatch) known() (node *cluster.Node, at uint64) {
	d.opt.Ledger.View(func(s *cluster.State) {
		at = s.Index()
		if ring, ok := s.Ring(); ok && ring.Engine >= cluster.PressureSince {
			node, _ = s.Nodes().Get(d.opt.Node)
		}
	})
	return node, at
}

func (d *DiskWatch) set(short string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.short = short
}
