package ledger

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
)

const (
	// tickEvery is the least time between two Ticks.
	tickEvery = 250 * time.Millisecond
	// lookAgain bounds how long a jump of the wall clock goes unseen.
	lookAgain = 10 * time.Second
)

// tick appends a Tick whenever the state's own next wake is due and this node leads. It sleeps as long as nothing
// is due; changes wakes it when the state moved.
func (l *Ledger[S, O]) tick(ctx context.Context, changes <-chan struct{}) {
	var last time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-timer.C:
		}
		wait, due := l.untilWake()
		if due {
			if wait = tickEvery - time.Since(last); wait <= 0 {
				last, wait = time.Now(), tickEvery
				if _, err := l.Append(ctx, cluster.Input{Tick: &cluster.Tick{}}); err != nil && ctx.Err() == nil {
					l.opt.Log.Warn("tick not appended, will retry", "err", err)
				}
			}
		}
		timer.Reset(min(wait, lookAgain))
	}
}

// untilWake returns how long it is until the state's next wake, and whether it is due.
func (l *Ledger[S, O]) untilWake() (time.Duration, bool) {
	if !l.Leading() {
		return lookAgain, false // a change of leader wakes the loop
	}
	l.mu.RLock()
	wake := l.state.Wake()
	l.mu.RUnlock()
	if wake == 0 {
		return lookAgain, false
	}
	now := l.clock.read()
	if wake <= now {
		return 0, true
	}
	return time.Duration(min(wake-now, lookAgain.Milliseconds())) * time.Millisecond, false
}
