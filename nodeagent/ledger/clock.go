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
	at   time.Time  // when base was known, by the monotonic clock
}

// read returns ring time by this node's clock, in ms.
func (c *clock) read() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.now().UnixMilli(), c.slowLocked())
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
