//go:build !shoal_clock

package wallclock

import "time"

// Now is the time of day.
func Now() time.Time { return time.Now() }
