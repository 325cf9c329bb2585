package promote

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is written "90s", "15m", "24h" or "7d" in shoal.cue.
type Duration time.Duration

// maxDuration bounds what a gate may wait for.
const maxDuration = 366 * 24 * time.Hour

// ParseDuration reads what time.ParseDuration reads, or a whole number of days, from 0 to 366 days.
func ParseDuration(s string) (Duration, error) {
	bad := fmt.Errorf("%q is no duration from 0s to 366d, like 90s, 15m, 24h or 7d", clip(s, 64))
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil || n > 366 {
			return 0, bad
		}
		return Duration(time.Duration(n) * 24 * time.Hour), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxDuration {
		return 0, bad
	}
	return Duration(d), nil
}

// UnmarshalText makes Duration readable by CUE and JSON.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is "24h", "7d", "1h30m" or "0s".
func (d Duration) String() string {
	t := time.Duration(d)
	if t > 0 && t%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(t/(24*time.Hour)), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// Millis is how long it is, in ms.
func (d Duration) Millis() int64 { return time.Duration(d).Milliseconds() }

// elapsed prints a span of ms for people, to the second below an hour and to the minute above.
func elapsed(ms int64) string {
	d := time.Duration(max(ms, 0)) * time.Millisecond
	if d >= time.Hour {
		return Duration(d.Truncate(time.Minute)).String()
	}
	return Duration(d.Truncate(time.Second)).String()
}

// stamp prints a time for people and machines alike.
func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
