package control

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// at reads a local time of a zone given by offset, "2026-03-29T02:30:00+01:00".
func at(t *testing.T, s string) int64 {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v.UnixMilli()
}

func runs(t *testing.T, s *Schedule, from int64, n int) string {
	t.Helper()
	var out []string
	for range n {
		next := s.Next(from)
		if next == 0 {
			out = append(out, "never")
			break
		}
		if next <= from {
			t.Fatalf("Next(%d) = %d goes back", from, next)
		}
		out = append(out, time.UnixMilli(next).In(s.zone).Format("01-02T15:04:05-0700"))
		from = next
	}
	return strings.Join(out, " ")
}

// TestFault_J4 shows the documented rule where a zone's clock is set forward or back, and leap days.
func TestFault_J4(t *testing.T) {
	for _, c := range []struct{ name, line, zone, from, want string }{
		{"gap: once, after it", "30 2 * * *", "Europe/Oslo", "2026-03-28T12:00:00+01:00", "03-29T03:00:00+0200 03-30T02:30:00+0200"},
		{"gap: several times of it run once", "0,20,40 2 * * *", "Europe/Oslo", "2026-03-28T12:00:00+01:00", "03-29T03:00:00+0200 03-30T02:00:00+0200"},
		{"gap: and what is after it as well", "30 2,3 * * *", "Europe/Oslo", "2026-03-28T12:00:00+01:00", "03-29T03:00:00+0200 03-29T03:30:00+0200 03-30T02:30:00+0200"},
		{"gap: the moment itself once", "0 2,3 * * *", "Europe/Oslo", "2026-03-28T12:00:00+01:00", "03-29T03:00:00+0200 03-30T02:00:00+0200"},
		{"gap: every hour goes on", "30 * * * *", "Europe/Oslo", "2026-03-29T00:45:00+01:00", "03-29T01:30:00+0100 03-29T03:30:00+0200 03-29T04:30:00+0200"},
		{"overlap: once, the first time", "30 2 * * *", "Europe/Oslo", "2026-10-24T12:00:00+02:00", "10-25T02:30:00+0200 10-26T02:30:00+0100"},
		{"overlap: asked between the two", "30 2 * * *", "Europe/Oslo", "2026-10-25T02:10:00+01:00", "10-26T02:30:00+0100"},
		{"overlap: every hour runs in both", "30 * * * *", "Europe/Oslo", "2026-10-25T01:45:00+02:00", "10-25T02:30:00+0200 10-25T02:30:00+0100 10-25T03:30:00+0100"},
		{"overlap: each minute of a named hour once", "58,59 2 * * *", "Europe/Oslo", "2026-10-25T02:00:00+02:00", "10-25T02:58:00+0200 10-25T02:59:00+0200 10-26T02:58:00+0100"},
		{"gap at midnight", "0 0 * * *", "America/Havana", "2026-03-07T12:00:00-05:00", "03-08T01:00:00-0400 03-09T00:00:00-0400"},
		{"gap of half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", "10-04T02:30:00+1100 10-05T02:15:00+1100"},
		{"gap of a day", "0 12 * * *", "Pacific/Apia", "2011-12-29T11:00:00-10:00", "12-29T12:00:00-1000 12-31T00:00:00+1400 12-31T12:00:00+1400"},
		{"leap day", "0 0 29 2 *", "", "2026-01-01T00:00:00Z", "02-29T00:00:00+0000"},
		{"never", "0 0 30 2 *", "", "2026-01-01T00:00:00Z", "never"},
		{"every minute", "* * * * *", "", "2026-01-01T00:00:30Z", "01-01T00:01:00+0000 01-01T00:02:00+0000"},
		{"@every", "@every 90s", "", "2026-01-01T00:00:00Z", "01-01T00:01:30+0000 01-01T00:03:00+0000"},
		{"@daily", "@daily", "Asia/Kolkata", "2026-01-01T00:00:00Z", "01-02T00:00:00+0530"},
	} {
		s, err := ParseSchedule(c.line, c.zone)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := runs(t, s, at(t, c.from), strings.Count(c.want, " ")+1); got != c.want {
			t.Errorf("%s: %q in %s\n got %s\nwant %s", c.name, c.line, c.zone, got, c.want)
		}
	}
}

func TestParseScheduleRefuses(t *testing.T) {
	for _, c := range []struct{ line, zone, want string }{
		{"TZ=UTC", "", "want the time zone in timeZone"},
		{"CRON_TZ=Europe/Oslo 0 0 * * *", "", "want the time zone in timeZone"},
		{"0 0 * *", "", "expected exactly 5 fields"},
		{"61 * * * *", "", "above maximum"},
		{"@reboot", "", "unrecognized descriptor"},
		{"0 0 * * *", "Local", "unknown time zone"},
		{"0 0 * * *", "../x", "unknown time zone"},
		{strings.Repeat("1,", 600) + "1 * * * *", "", "longer than"},
	} {
		if _, err := ParseSchedule(c.line, c.zone); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q: %v, want %q", c.line, c.zone, err, c.want)
		}
	}
}

// TestScheduleAgainstWall compares Next with a walk over every minute of a year for zones without changes, and
// holds it to once a local day for named hours in zones with them.
func TestScheduleAgainstWall(t *testing.T) {
	for _, name := range []string{"Europe/Oslo", "America/Havana", "Australia/Lord_Howe", "Africa/Casablanca", "America/New_York", "UTC"} {
		s, err := ParseSchedule("17 1 * * *", name)
		if err != nil {
			t.Fatal(err)
		}
		from := at(t, "2026-01-01T12:00:00Z")
		days := map[string]int{}
		for run := s.Next(from); run < from+364*86_400_000; run = s.Next(run) {
			days[time.UnixMilli(run).In(s.zone).Format(time.DateOnly)]++
		}
		for day, n := range days {
			if n != 1 {
				t.Errorf("%s: %d runs on %s", name, n, day)
			}
		}
		if len(days) < 363 || len(days) > 365 {
			t.Errorf("%s: runs on %d days", name, len(days))
		}
	}
}

// TestFault_J2 shows that runs missed while the ring was down are made up for by one.
func TestFault_J2(t *testing.T) {
	for _, c := range []struct {
		name, line, last, now, want string
	}{
		{"two days of minutes", "* * * * *", "2026-01-01T00:00:00Z", "2026-01-03T00:00:30Z", "01-03T00:00 01-03T00:01"},
		{"a year of minutes", "* * * * *", "2025-01-01T00:00:00Z", "2026-01-03T00:00:30Z", "01-03T00:00 01-03T00:01"},
		{"one a month, three days ago", "0 0 1 * *", "2025-12-15T00:00:00Z", "2026-01-04T00:00:00Z", "01-01T00:00 02-01T00:00"},
		{"one a year, months ago", "0 0 1 6 *", "2025-05-15T00:00:00Z", "2026-01-04T00:00:00Z", "06-01T00:00 06-01T00:00"},
		{"not yet", "0 12 * * *", "2026-01-01T12:00:00Z", "2026-01-02T11:59:59Z", "- 01-02T12:00"},
		{"to the second", "0 12 * * *", "2026-01-01T12:00:00Z", "2026-01-02T12:00:00Z", "01-02T12:00 01-03T12:00"},
		{"every, many missed", "@every 1h", "2026-01-01T00:30:00Z", "2026-01-02T12:45:00Z", "01-02T12:30 01-02T13:30"},
		{"every, not yet", "@every 1h", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z", "- 01-01T01:30"},
		{"clock before the last run", "0 12 * * *", "2026-01-05T12:00:00Z", "2026-01-02T12:00:00Z", "- 01-03T12:00"},
	} {
		s, err := ParseSchedule(c.line, "")
		if err != nil {
			t.Fatal(err)
		}
		run, next := s.Due(at(t, c.last), at(t, c.now))
		show := func(ms int64) string {
			if ms == 0 {
				return "-"
			}
			return time.UnixMilli(ms).UTC().Format("01-02T15:04")
		}
		if got := fmt.Sprintf("%s %s", show(run), show(next)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func BenchmarkDueAfterAYear(b *testing.B) {
	s, _ := ParseSchedule("* * * * *", "Europe/Oslo")
	for b.Loop() {
		s.Due(1_700_000_000_000, 1_735_000_000_000)
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{"* * * * *", "TZ=UTC", "@every 1s", "*/7 1-5,9 */2 jan-mar mon", "0 0 30 2 *", "CRON_TZ="} {
		f.Add(s, "Europe/Oslo", int64(1_767_225_600_000))
	}
	f.Fuzz(func(t *testing.T, line, zone string, from int64) {
		s, err := ParseSchedule(line, zone)
		if err != nil || from < 0 || from > 4_000_000_000_000 {
			return
		}
		if next := s.Next(from); next != 0 && next <= from {
			t.Fatalf("%q in %s: Next(%d) = %d", line, zone, from, next)
		}
		run, next := s.Due(from-86_400_000, from)
		if run != 0 && (run > from || run <= from-86_400_000) || next != 0 && next <= from {
			t.Fatalf("%q in %s: Due = %d, %d at %d", line, zone, run, next, from)
		}
	})
}
