package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/firewall"
)

const (
	// flowsEvery is how often the kernel's table of connections is looked at.
	flowsEvery = 10 * time.Second
	// flowsAlarm and flowsCalm are how full it must be, in percent, that it is said, and that it is no more.
	flowsAlarm, flowsCalm = 75, 65
	// flowsRemember is for how long it is said that connections were dropped.
	flowsRemember = 10 * time.Minute
)

// flowWatch says when the kernel's table of connections is about to be full, or is.
type flowWatch struct {
	read func() (firewall.Load, error)
	log  *slog.Logger

	mu      sync.Mutex // guards what follows
	last    firewall.Load
	begun   bool // last was read
	alarmed bool
	lost    uint64 // packets since `since`
	since   time.Time
	lostAt  time.Time
}

func newFlowWatch(log *slog.Logger) *flowWatch { return &flowWatch{read: firewall.ReadLoad, log: log} }

// run looks until ctx ends.
func (w *flowWatch) run(ctx context.Context) error {
	tick := time.NewTicker(flowsEvery)
	defer tick.Stop()
	for {
		w.look(ctx, time.Now())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (w *flowWatch) look(ctx context.Context, now time.Time) {
	load, err := w.read()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.log.DebugContext(ctx, "connections not counted", "err", err)
		return
	}
	if w.begun && load.Dropped > w.last.Dropped {
		if w.lost == 0 {
			w.since = now
		}
		w.lost += load.Dropped - w.last.Dropped
		w.lostAt = now
		w.log.WarnContext(ctx, "connections were dropped, there are too many", "packets", load.Dropped-w.last.Dropped, "connections", load.Flows, "most", load.Most)
	}
	if now.Sub(w.lostAt) >= flowsRemember {
		w.lost = 0
	}
	w.last, w.begun = load, true
	switch percent := load.Percent(); {
	case percent >= flowsAlarm && !w.alarmed:
		w.alarmed = true
		w.log.WarnContext(ctx, "the kernel's table of connections is nearly full", "percent", percent, "connections", load.Flows, "most", load.Most)
	case percent < flowsCalm && w.alarmed:
		w.alarmed = false
		w.log.InfoContext(ctx, "the kernel's table of connections has room again", "percent", percent)
	}
}

// warnings are for people.
func (w *flowWatch) warnings() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.alarmed {
		all = append(all, fmt.Sprintf("the kernel's table of connections is %d%% full, %d of %d: when it is full new connections fail; raise the sysctl net.netfilter.nf_conntrack_max",
			w.last.Percent(), w.last.Flows, w.last.Most))
	}
	if w.lost > 0 {
		all = append(all, fmt.Sprintf("%d packets of connections were dropped since %s, the kernel's table of connections was full", w.lost, w.since.UTC().Format(time.TimeOnly+"Z")))
	}
	return all
}
