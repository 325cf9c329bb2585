package ledger

import (
	"sync"
	"time"
)

// clock is what this node proposes as ring time: its wall clock, but never less than the newest entry's. When the
// wall clock is behind that (it was set back, or was wrong when the entry was made), time goes on at half its pace
// until the wall clock has caught up, so that what waits for a time neither waits for ever nor runs twice.
type clock struct {
	now func() time.Time

	mu   sync.Mutex // guards all below
	base int64      // ring time, ms
	at   time.Time  // when base was known; with its monotonic reading, if now gives one
}

// read returns ring time by this node's clock, in ms.
func (c *clock) read() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	return max(now.UnixMilli(), c.slowLocked(now))
}

// advance tells the clock of an applied entry's time.
func (c *clock) advance(t int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); t > c.slowLocked(now) {
		c.base, c.at = t, now
	}
}

// slowLocked is base and half of the time since.
func (c *clock) slowLocked(now time.Time) int64 {
	if c.at.IsZero() {
		return 0
	}
	return c.base + max(0, now.Sub(c.at).Milliseconds()/2)
}
