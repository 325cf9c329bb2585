package control

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/shoal-dev/shoal/engine/zone"
)

// Schedule is a cron line in a time zone.
//
// Where a zone's clock is set forward or back, a schedule that runs in every hour ("*/5 * * * *", "30 * * * *")
// goes on by elapsed time. One that names hours ("30 2 * * *") runs once for each local time it names: of a local
// time that comes twice the first counts, and local times that are skipped run once together, at the moment after
// the gap.
type Schedule struct {
	spec  *cron.SpecSchedule          // without a zone: it is walked in local time as if it were UTC; or
	every *cron.ConstantDelaySchedule // "@every 1h"
	zone  *time.Location
	plain bool // runs in every hour
}

// ParseSchedule reads a cron line of five fields, or one of @hourly, @daily, @weekly, @monthly, @yearly and
// "@every <duration>". location is an IANA name, "" for UTC. A zone within the line ("TZ=...") is refused, as
// Kubernetes does; the parser would panic on some.
func ParseSchedule(line, location string) (*Schedule, error) {
	if strings.Contains(line, "TZ") {
		return nil, fmt.Errorf("schedule %q: want the time zone in timeZone, not in the schedule", line)
	}
	if len(line) > 1024 {
		return nil, errors.New("schedule: it is longer than 1024 bytes")
	}
	loc, err := zone.Load(location)
	if err != nil {
		return nil, fmt.Errorf("timeZone: %w", err)
	}
	parsed, err := cron.ParseStandard(line)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w", line, err)
	}
	s := &Schedule{zone: loc}
	switch p := parsed.(type) {
	case cron.ConstantDelaySchedule:
		s.every = &p
	case *cron.SpecSchedule:
		p.Location = time.UTC
		s.spec = p
		const hours = 1<<24 - 1
		s.plain = p.Hour&hours == hours
	default:
		return nil, fmt.Errorf("schedule %q: it is of an unknown kind", line)
	}
	return s, nil
}

// Next is the first run after t, ms since 1970; 0 if there is none within five years.
func (s *Schedule) Next(t int64) int64 {
	if s.every != nil {
		return s.every.Next(time.UnixMilli(t).UTC()).UnixMilli()
	}
	at := time.UnixMilli(t).In(s.zone)
	if s.plain {
		return s.nextPlain(at)
	}
	// Start a day and an hour early in local time: a gap may be that long, and what it holds runs after it.
	local := wall(at).Add(-25 * time.Hour)
	if s.steady(at) {
		local = wall(at)
	}
	for {
		local = s.spec.Next(local)
		if local.IsZero() {
			return 0
		}
		if run := s.instant(local); run > t {
			return run
		}
	}
}

// nextPlain walks by elapsed time, in the zone itself.
func (s *Schedule) nextPlain(at time.Time) int64 {
	spec := *s.spec
	spec.Location = s.zone
	next := spec.Next(at)
	if next.IsZero() {
		return 0
	}
	return next.UnixMilli()
}

// steady tells whether the zone's offset is the same for 27 hours around t.
func (s *Schedule) steady(t time.Time) bool {
	_, before := t.Add(-27 * time.Hour).Zone()
	_, now := t.Zone()
	_, after := t.Add(27 * time.Hour).Zone()
	return before == now && now == after
}

// wall is t's local time, as if it were UTC.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// instant is when a local time comes: the first time if it comes twice, the end of the gap if it is skipped.
func (s *Schedule) instant(local time.Time) int64 {
	before, after := s.offsets(local)
	early, late := local.Add(-before).In(s.zone), local.Add(-after).In(s.zone)
	switch {
	case wall(early).Equal(local): // also when it comes twice: the old offset is the first time
		return early.UnixMilli()
	case wall(late).Equal(local):
		return late.UnixMilli()
	default:
		start, _ := early.ZoneBounds()
		return start.UnixMilli()
	}
}

// offsets are the zone's offsets a day before and a day after a local time.
func (s *Schedule) offsets(local time.Time) (before, after time.Duration) {
	_, b := local.Add(-26 * time.Hour).In(s.zone).Zone()
	_, a := local.Add(26 * time.Hour).In(s.zone).Zone()
	return time.Duration(b) * time.Second, time.Duration(a) * time.Second
}

// Due is the latest run in (last, now], 0 if there is none, and the first run after now, 0 if there is none
// within five years. Runs that were missed count as one. It looks back in growing steps, so that a schedule that
// missed a year of minutes costs no more than one that missed a day.
func (s *Schedule) Due(last, now int64) (run, next int64) {
	next = s.Next(now)
	if s.every != nil {
		if delay := s.every.Delay.Milliseconds(); delay > 0 && now-last >= delay {
			run = last - last%1000 + (now-last)/delay*delay
			if run > now {
				run -= delay
			}
			next = s.Next(run)
		} else {
			next = s.Next(last)
		}
		return run, next
	}
	for back := int64(3_600_000); ; back *= 8 {
		from := max(last, now-back)
		for at := s.Next(from); at != 0 && at <= now; at = s.Next(at) {
			run = at
		}
		if run != 0 || from == last {
			return run, next
		}
	}
}
