package gitsync

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/deadline"
)

// Update is what Run tells of one fetch, or of several if nobody listened meanwhile.
type Update struct {
	Changes []RefChange // of all fetches since the update before; one a ref
	Err     error       // of the last fetch; nil when it worked
	Good    time.Time   // when a fetch worked last; of a new Mirror, when it was opened
	Stale   bool        // Good is longer ago than Options.Stale
	Claim   source.Claim
}

// fetchState is what Run knows of the fetches so far. It belongs to Run's goroutine.
type fetchState struct {
	good  time.Time
	fails int
}

// Wake asks Run for a fetch at once. It never blocks; wakes that come close together make one fetch.
func (m *Mirror) Wake() {
	select {
	case m.wake <- struct{}{}:
	default: // one is waiting already
	}
}

// Updates is where Run tells what it found: changes, also of the claim, and failures when they begin, end or grow stale.
func (m *Mirror) Updates() <-chan Update { return m.updates }

// Run polls until ctx ends: at once, then as often as Options.Every says, give or take a tenth, and when woken. After failures
// the wait doubles to MaxWait; a host's Retry-After is kept even when woken. One fetch is in flight at a time. A
// mirror without URL waits for the end.
func (m *Mirror) Run(ctx context.Context) error {
	if m.opt.URL == "" {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	st := fetchState{good: time.Now()}
	results := make(chan Update, 1)
	next := time.NewTimer(0)
	defer next.Stop()
	var (
		busy, again bool
		notBefore   time.Time // the host asked for peace until then
		pending     *Update
		told        Update // the last one sent
		begun       int64  // when the fetch in flight, or the last one, did
	)
	for {
		var out chan Update
		var u Update
		if pending != nil {
			out, u = m.updates, *pending
		}
		select {
		case <-ctx.Done():
			if busy {
				<-results
			}
			return context.Cause(ctx)
		case out <- u:
			told, pending = u, nil
		case <-m.wake:
			again = true
			if !busy {
				next.Reset(max(m.opt.Debounce, time.Until(notBefore)))
			}
		case <-next.C:
			if !busy {
				busy, again = true, false
				begun = deadline.Now()
				go func() {
					changes, err := m.Fetch(ctx)
					results <- Update{Changes: changes, Err: err, Claim: m.Claim()}
				}()
			}
		case u := <-results:
			busy = false
			wait := m.settle(&st, &u, &notBefore, begun)
			if again {
				wait = max(m.opt.Debounce, time.Until(notBefore))
			}
			next.Reset(wait)
			before := told
			if pending != nil {
				before = *pending
				u.Changes = join(pending.Changes, u.Changes)
			}
			if pending != nil || len(u.Changes) > 0 || u.Stale != before.Stale || text(u.Err) != text(before.Err) || u.Claim != before.Claim || told.Good.IsZero() {
				pending = &u
			}
		}
	}
}

// Seen is when the last fetch of Run that worked began, in ms of deadline.Now and 0 if none did yet, and whether that was the
// last one: what the mirror has is at least as new as the host's refs were then.
func (m *Mirror) Seen() (begun int64, reads bool) {
	begun = m.seen.Load()
	return begun, begun != 0 && !m.failing.Load()
}

// settle notes how a fetch went that began then and returns the wait until the next.
func (m *Mirror) settle(st *fetchState, u *Update, notBefore *time.Time, begun int64) time.Duration {
	now := time.Now()
	var gone *GoneError
	if u.Err == nil || errors.As(u.Err, &gone) { // the host answered; what it lacks is told and polled for as ever
		st.good, st.fails = now, 0
		m.seen.Store(begun)
	} else {
		st.fails++
	}
	m.failing.Store(st.fails > 0)
	u.Good, u.Stale = st.good, now.Sub(st.good) > m.opt.Stale
	var status *statusError
	if errors.As(u.Err, &status) && status.after > 0 {
		*notBefore = now.Add(status.after)
	}
	return max(m.wait(st.fails), time.Until(*notBefore))
}

// wait is the time to the next poll after so many failures in a row, with jitter, so that nodes that began
// together do not ask together: 1s, 2s, 4s ... MaxWait after failures, where no step is shorter than it would be
// without one but the first few, which catch a host that restarts.
func (m *Mirror) wait(fails int) time.Duration {
	d := m.every()
	if fails > 0 {
		least := time.Duration(0) // who polls rarely does not try more often because it fails
		if d > m.opt.Interval {
			least = min(d, m.opt.MaxWait)
		}
		d = min(m.opt.Interval, time.Second)
		for range min(fails-1, 20) {
			d = min(2*d, m.opt.MaxWait)
		}
		d = max(d, least)
	}
	return d*9/10 + rand.N(d/5+1)
}

// every is the time between polls, as things are.
func (m *Mirror) every() time.Duration {
	if m.opt.Every == nil {
		return m.opt.Interval
	}
	return m.opt.Every()
}

// join adds later changes to earlier ones, one a ref.
func join(earlier, later []RefChange) []RefChange {
	for _, c := range later {
		found := false
		for i := range earlier {
			if e := &earlier[i]; e.Ref == c.Ref {
				if e.Relation != c.Relation { // of two kinds of moves, the one that is not simply forward
					e.Relation = max(e.Relation, c.Relation)
				}
				e.New, found = c.New, true
			}
		}
		if !found {
			earlier = append(earlier, c)
		}
	}
	return earlier
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
