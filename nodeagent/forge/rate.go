package forge

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// defaultWait is kept when a forge refuses for being asked too often without saying how long; GitHub asks for a minute.
const defaultWait = time.Minute

// rest reads from an answer how long the forge is to be left alone: 0 if it does not ask for that. refused says
// whether this very request was refused for it. The result is at least a second and at most most.
func rest(status int, h http.Header, body []byte, most time.Duration, now time.Time) (wait time.Duration, refused bool, why string) {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date // what the forge says is by its own clock
	}
	spent := h.Get("X-RateLimit-Remaining") == "0" || h.Get("RateLimit-Remaining") == "0"
	again := h.Get("Retry-After")
	switch {
	case status == http.StatusTooManyRequests,
		status == http.StatusForbidden && (again != "" || spent || secondary(body)),
		status == http.StatusServiceUnavailable && again != "":
		refused = true
	case !spent:
		return 0, false, ""
	}
	why = "the forge's rate limit is used up"
	switch {
	case again != "" && refused:
		why = "the forge asks to wait (Retry-After)"
		wait = after(again, now)
	case spent:
		wait = until(first(h.Get("X-RateLimit-Reset"), h.Get("RateLimit-Reset")), now)
	default:
		why = "the forge was asked too often"
		wait = defaultWait
	}
	return min(max(wait, time.Second), most), refused, why
}

// secondary knows GitHub's refusals that come without headers.
func secondary(body []byte) bool {
	low := bytes.ToLower(body[:min(len(body), 4096)])
	return bytes.Contains(low, []byte("secondary rate limit")) || bytes.Contains(low, []byte("abuse detection"))
}

// after reads Retry-After: seconds or a date.
func after(value string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil {
		return seconds(n)
	}
	if t, err := http.ParseTime(value); err == nil {
		return t.Sub(now)
	}
	return defaultWait
}

// until reads a reset: seconds since 1970.
func until(value string, now time.Time) time.Duration {
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil || n < 0 {
		return defaultWait
	}
	return seconds(n - now.Unix())
}

// seconds does not overflow: no wait is longer than a day.
func seconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), 86400)) * time.Second
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
