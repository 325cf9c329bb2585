package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/shoal-dev/shoal/nodeagent"
)

// looks lets the deployer look when something may have moved, and again after a look that failed: in 1 s, doubled
// to a minute.
type looks struct {
	deployer *nodeagent.Deployer
	failed   func(ctx context.Context, err error)
	log      *slog.Logger
	wake     chan struct{}
}

// newLooks makes one. failed is told of each look that failed.
func newLooks(d *nodeagent.Deployer, failed func(ctx context.Context, err error), log *slog.Logger) *looks {
	l := &looks{deployer: d, failed: failed, log: log, wake: make(chan struct{}, 1)}
	l.nudge()
	return l
}

func (l *looks) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *looks) run(ctx context.Context) error {
	const first, most = time.Second, time.Minute
	wait := first
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.wake:
		case <-again:
		}
		again = nil
		if _, err := l.deployer.Look(ctx, io.Discard); err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "commit not judged, will retry", "err", err, "in", wait.String())
			l.failed(ctx, err)
			again = time.After(wait)
			wait = min(2*wait, most)
			continue
		}
		wait = first
		if held := l.deployer.Again(); held > 0 {
			again = time.After(held)
		}
	}
}
