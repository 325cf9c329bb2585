package promote

import (
	"strconv"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/zone"
)

// Span is a set of times by the clock on the wall of a zone: some days, and from when to when on each. What holds is what
// that clock shows: where it is set back, an hour that comes twice counts twice; where it is set forward, one that is
// skipped does not come.
type Span struct {
	Days  []string `json:"days,omitempty"`  // "Mon" to "Sun"; none: every day
	From  string   `json:"from,omitempty"`  // "09:00"; "" is midnight
	To    string   `json:"to,omitempty"`    // "17:00", when it is over; "" is the midnight after; before From: on the next day
	Since string   `json:"since,omitempty"` // the first day, "2026-12-20"; "": no first
	Until string   `json:"until,omitempty"` // the last day, itself included; "": no last
	Zone  string   `json:"zone,omitempty"`  // IANA name, "Europe/Oslo"; "" is UTC
	Why   string   `json:"why,omitempty"`   // for people: "holidays"
}

const (
	daySeconds = 24 * 60 * 60
	noFirstDay = -1 << 31
	noLastDay  = 1 << 31
)

// span is a Span that was read.
type span struct {
	days         [7]bool // from Sunday on; of a span over midnight the day it begins
	from, to     int64   // seconds since midnight; to is not included
	since, until int64   // days since 1970, both included; of a span over midnight those it begins on
	zone         *time.Location
	why          string
}

// read makes a span of s. Problems are at fields below at.
func (s Span) read(at string) (span, Problems) {
	var problems Problems
	out := span{since: noFirstDay, until: noLastDay, to: daySeconds, why: Line(s.Why, 200)}
	for i, d := range s.Days {
		at := at + ".days[" + strconv.Itoa(i) + "]"
		n := weekday(d)
		if n < 0 {
			problems.add(at, "%q; expected Mon, Tue, Wed, Thu, Fri, Sat or Sun", clip(d, 32))
		} else if out.days[n] {
			problems.add(at, "%s stands there twice", d)
		} else {
			out.days[n] = true
		}
	}
	if len(s.Days) == 0 {
		out.days = [7]bool{true, true, true, true, true, true, true}
	}
	clock := func(field, value string, into *int64) {
		if value == "" {
			return
		}
		n, ok := minuteOf(value)
		if !ok {
			problems.add(at+"."+field, "%q; expected a time of day from 00:00 to 24:00, like 09:30", clip(value, 32))
		}
		*into = n * 60
	}
	clock("from", s.From, &out.from)
	clock("to", s.To, &out.to)
	if out.from == out.to || out.from == daySeconds {
		problems.add(at+".to", "from %s to %s is no time at all; expected different times, or neither for the whole day", s.From, s.To)
	}
	day := func(field, value string, into *int64) {
		if value == "" {
			return
		}
		t, err := time.Parse(time.DateOnly, value)
		if err != nil {
			problems.add(at+"."+field, "%q; expected a day like 2026-12-20", clip(value, 32))
			return
		}
		*into = t.Unix() / daySeconds
		if t.Unix() < 0 {
			*into = noFirstDay
		}
	}
	day("since", s.Since, &out.since)
	day("until", s.Until, &out.until)
	if out.until < out.since {
		problems.add(at+".until", "%s is before %s", s.Until, s.Since)
	}
	var err error
	if out.zone, err = zone.Load(s.Zone); err != nil {
		problems.add(at+".zone", "%s; expected an IANA name like Europe/Oslo", clip(err.Error(), 100))
	}
	if len(s.Why) > 200 {
		problems.add(at+".why", "%d bytes; at most 200", len(s.Why))
	}
	return out, problems
}

// weekday is the number of "Mon" and so on, from Sunday as 0, or -1.
func weekday(s string) int {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if d.String()[:3] == s {
			return int(d)
		}
	}
	return -1
}

// minuteOf reads "09:30" as minutes since midnight, "24:00" included.
func minuteOf(s string) (int64, bool) {
	h, m, ok := strings.Cut(s, ":")
	if !ok || len(h) != 2 || len(m) != 2 {
		return 0, false
	}
	hours, err := strconv.ParseUint(h, 10, 8)
	minutes, err2 := strconv.ParseUint(m, 10, 8)
	sum := int64(hours*60 + minutes)
	return sum, err == nil && err2 == nil && minutes < 60 && sum <= 24*60
}

// wall is what the clock on the wall shows at t: days since 1970 and seconds since midnight.
func (s *span) wall(t int64) (day, second int64) {
	at := time.UnixMilli(t).In(s.zone)
	_, offset := at.Zone()
	local := at.Unix() + int64(offset)
	day, second = local/daySeconds, local%daySeconds
	if second < 0 {
		day, second = day-1, second+daySeconds
	}
	return day, second
}

// contains says whether t is in the span.
func (s *span) contains(t int64) bool {
	day, second := s.wall(t)
	if s.from < s.to {
		return s.on(day) && s.from <= second && second < s.to
	}
	return s.on(day) && s.from <= second || s.on(day-1) && second < s.to
}

// on says whether the span begins on a day.
func (s *span) on(day int64) bool {
	const thursday = 4 // the first of January 1970
	return s.since <= day && day <= s.until && s.days[((day+thursday)%7+7)%7]
}

// boundary is the first time after t at which contains may change: the clock shows from, to or midnight, or is set.
func (s *span) boundary(t int64) int64 {
	_, second := s.wall(t)
	floor := time.UnixMilli(t).Unix()
	next := floor + daySeconds
	for _, mark := range [...]int64{0, s.from, s.to % daySeconds} {
		wait := (mark - second + daySeconds) % daySeconds
		if wait == 0 {
			wait = daySeconds
		}
		next = min(next, floor+wait)
	}
	if _, set := time.UnixMilli(t).In(s.zone).ZoneBounds(); !set.IsZero() && set.UnixMilli() > t {
		next = min(next, set.Unix())
	}
	return next * 1000
}
