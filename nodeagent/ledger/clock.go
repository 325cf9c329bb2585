package ledger

import (
	"sync"
	"time"
)

// clock is what this node proposes as ring time: its wall clock, but never less than the newest entry's. When the
// wall clock is behind that (it was set back, or was wrong when the entry was made), time goes on at half its pace
// until the wall clock has caught up, so that what waits for a time neither waits for ever nor runs twice.
//
// A wall clock that says more than has passed since the newest entry may have jumped, or may have been wrong all the time: ring
// time would stay where it leads, since it never goes back. So it is followed there only when it agrees with the
// median of the voters' clocks, and until then time goes on by the clock that does not jump.
type clock struct {
	now func() time.Time
	off func() (off time.Duration, known bool) // from the median of the voters' clocks; nil: nobody is asked

	mu   sync.Mutex // guards all below
	base int64      // ring time, ms
	at   time.Time  // when base was known, by the monotonic clock
	sure int64      // what the wall clock said when it was found to agree with the others', ms; 0: it was not yet
	then time.Time  // when that was, by the monotonic clock
}

// read returns ring time by this node's clock, in ms.
func (c *clock) read() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := c.now().UnixMilli()
	if !c.believedLocked(wall) {
		wall = c.base + time.Since(c.at).Milliseconds()
	}
	return max(wall, c.slowLocked())
}

// believedLocked tells whether the wall clock may be right.
func (c *clock) believedLocked(wall int64) bool {
	limit := clockLimit.Milliseconds()
	if c.off == nil || c.at.IsZero() || wall <= c.base+time.Since(c.at).Milliseconds()+limit {
		return true
	}
	if due := c.sure + time.Since(c.then).Milliseconds(); c.sure != 0 && wall >= due-limit && wall <= due+limit {
		return true
	}
	off, known := c.off()
	if !known || off.Abs() > clockLimit {
		return false
	}
	c.sure, c.then = wall, time.Now()
	return true
}

// advance tells the clock of an applied entry's time.
func (c *clock) advance(t int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t > c.slowLocked() {
		c.base, c.at = t, time.Now()
	}
}

// slowLocked is base and half of the time since.
func (c *clock) slowLocked() int64 {
	if c.at.IsZero() {
		return 0
	}
	return c.base + time.Since(c.at).Milliseconds()/2
}
