package nodeagent

import (
	"context"
	"time"
)

// Guard is the process that kills what may run once at the end of the lease, whatever has become of this one.
type Guard interface {
	// Guard has it run: it is taken over or started. ended is closed when it ends.
	Guard(ctx context.Context) (ended <-chan struct{}, err error)
	// EndGuard ends it, if it runs.
	EndGuard() error
}

// guardPause is how long is waited after a guard that ended, or did not start.
const guardPause = time.Second

// keepGuard has the guard run for as long as this node is not alone, until ctx ends: the guard outlives the agent. While
// there is none nothing is started that may run once.
func (l *Leases) keepGuard(ctx context.Context) {
	for ctx.Err() == nil {
		if l.isAlone() {
			if err := l.opt.Guard.EndGuard(); err != nil {
				l.opt.Log.WarnContext(ctx, "the guard is of no more use and does not end", "err", err)
			}
			l.guards("nobody guards what may run once")
			select {
			case <-l.company:
			case <-ctx.Done():
			}
			continue
		}
		ended, err := l.opt.Guard.Guard(ctx)
		if err == nil {
			l.guards("")
			select {
			case <-ended:
				l.opt.Log.WarnContext(ctx, "the guard ended, starts again")
				l.guards("the guard ended")
			case <-l.company:
			case <-ctx.Done():
			}
			continue
		}
		if ctx.Err() == nil && l.guards(err.Error()) {
			l.opt.Log.ErrorContext(ctx, "no guard: what may run once is not started here; will retry", "err", err)
		}
		select {
		case <-time.After(guardPause):
		case <-ctx.Done():
		}
	}
}

func (l *Leases) isAlone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alone
}

// guards notes that the guard runs, or why it does not, and tells whether that is news.
func (l *Leases) guards(unguarded string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unguarded == unguarded {
		return false
	}
	l.unguarded = unguarded
	l.tellLocked()
	return true
}
