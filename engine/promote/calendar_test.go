package promote

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestFeature_P3_Windows: the next opening, over days, freezes and changes of the clock.
func TestFeature_P3_Windows(t *testing.T) {
	work := Span{Days: []string{"Mon", "Tue", "Wed", "Thu", "Fri"}, From: "09:00", To: "16:00", Zone: "Europe/Oslo"}
	holidays := Span{Since: "2026-12-20", Until: "2027-01-02", Zone: "Europe/Oslo", Why: "holidays"}
	night := Span{Days: []string{"Sat"}, From: "22:00", To: "04:00", Zone: "America/New_York"}
	for _, c := range []struct {
		name             string
		windows, freezes []Span
		now, next        string // next "": never
		closes           string
	}{
		{"no rules", nil, nil, "2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z", ""},
		{"within", []Span{work}, nil, "2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z", "2026-11-23T15:00:00Z"},
		{"before", []Span{work}, nil, "2026-11-23T07:59:59Z", "2026-11-23T08:00:00Z", "2026-11-23T07:59:59Z"},
		{"its end is not in it", []Span{work}, nil, "2026-11-23T15:00:00Z", "2026-11-24T08:00:00Z", "2026-11-23T15:00:00Z"},
		{"Friday evening", []Span{work}, nil, "2026-11-27T15:00:01Z", "2026-11-30T08:00:00Z", "2026-11-27T15:00:01Z"},
		{"the clock is set back on Sunday", []Span{work}, nil, "2026-10-23T20:00:00Z", "2026-10-26T08:00:00Z", "2026-10-23T20:00:00Z"},
		{"the clock is set forward on Sunday", []Span{work}, nil, "2026-03-27T20:00:00Z", "2026-03-30T07:00:00Z", "2026-03-27T20:00:00Z"},
		{"a freeze", []Span{work}, []Span{holidays}, "2026-12-18T15:30:00Z", "2027-01-04T08:00:00Z", "2026-12-18T15:30:00Z"},
		{"a freeze alone", nil, []Span{holidays}, "2026-12-25T00:00:00Z", "2027-01-02T23:00:00Z", "2026-12-25T00:00:00Z"},
		{"before a freeze", nil, []Span{holidays}, "2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z", "2026-12-19T23:00:00Z"},
		{"over midnight, the day after", []Span{night}, nil, "2026-11-22T08:00:00Z", "2026-11-22T08:00:00Z", "2026-11-22T09:00:00Z"},
		{"over midnight", []Span{night}, nil, "2026-11-22T09:00:00Z", "2026-11-29T03:00:00Z", "2026-11-22T09:00:00Z"},
		{"over midnight, an hour longer where it comes twice", []Span{night}, nil, "2026-11-01T02:00:00Z", "2026-11-01T02:00:00Z", "2026-11-01T09:00:00Z"},
		{"an hour that is skipped does not come", []Span{{From: "02:15", To: "02:45", Zone: "Europe/Oslo"}}, nil, "2026-03-28T12:00:00Z", "2026-03-30T00:15:00Z", "2026-03-28T12:00:00Z"},
		{"half an hour that comes twice", []Span{{From: "02:15", To: "02:45", Zone: "Europe/Oslo"}}, nil, "2026-10-25T00:50:00Z", "2026-10-25T01:15:00Z", "2026-10-25T00:50:00Z"},
		{"never", []Span{{Since: "2020-01-01", Until: "2020-01-02"}}, nil, "2026-11-23T10:00:00Z", "", "2026-11-23T10:00:00Z"},
		{"always frozen", nil, []Span{{}}, "2026-11-23T10:00:00Z", "", "2026-11-23T10:00:00Z"},
		{"a day of half an hour's shift", []Span{{From: "00:00", To: "24:00", Days: []string{"Sun"}, Zone: "Australia/Lord_Howe"}}, nil, "2026-04-04T00:00:00Z", "2026-04-04T13:00:00Z", "2026-04-04T00:00:00Z"},
		{"a day that was left out", []Span{{Days: []string{"Fri"}, Zone: "Pacific/Apia"}}, nil, "2011-12-29T12:00:00Z", "2012-01-05T10:00:00Z", "2011-12-29T12:00:00Z"},
	} {
		cal, problems := NewCalendar(c.windows, c.freezes)
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.name, problems)
			continue
		}
		show := func(t int64) string {
			if t == 0 {
				return ""
			}
			return stamp(t)
		}
		now := ms(t, c.now)
		if got := show(cal.Next(now)); got != c.next {
			t.Errorf("%s: next %s, want %s", c.name, got, c.next)
		}
		if got := show(cal.Closes(now)); got != c.closes {
			t.Errorf("%s: closes %s, want %s", c.name, got, c.closes)
		}
	}
}

// TestNextIsTheFirst compares Next with a walk minute by minute, in zones that change their clocks in odd ways.
func TestNextIsTheFirst(t *testing.T) {
	zones := []string{"", "Europe/Oslo", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Asia/Kathmandu", "America/St_Johns"}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	span := func() Span {
		s := Span{Zone: zones[rng.IntN(len(zones))]}
		for d := time.Sunday; d <= time.Saturday; d++ {
			if rng.IntN(3) == 0 {
				s.Days = append(s.Days, d.String()[:3])
			}
		}
		clock := func() string {
			return time.Unix(int64(rng.IntN(96))*900, 0).UTC().Format("15:04")
		}
		if s.From, s.To = clock(), clock(); s.From == s.To {
			s.From, s.To = "", ""
		}
		return s
	}
	for range 60 {
		var windows, freezes []Span
		for range 1 + rng.IntN(2) {
			windows = append(windows, span())
		}
		for range rng.IntN(2) {
			freezes = append(freezes, span())
		}
		cal, problems := NewCalendar(windows, freezes)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		base := time.Date(2026, []time.Month{3, 4, 10, 11}[rng.IntN(4)], 1+rng.IntN(31), rng.IntN(24), rng.IntN(60), 0, 0, time.UTC).UnixMilli()
		for _, open := range []bool{true, false} {
			want := int64(0)
			const week = 10 * 24 * 60
			for i := range int64(week) {
				if at := base + i*60_000; cal.Open(at) == open {
					want = at
					break
				}
			}
			got := cal.first(base, open)
			if want != 0 && got != want || want == 0 && got != 0 && got < base+week*60_000 {
				t.Fatalf("windows %+v, freezes %+v, from %s, %v: %s, by minutes %s", windows, freezes, stamp(base), open, stamp(got), stamp(want))
			}
		}
	}
}

// FuzzSpan: what is read has no panic in it, and boundaries lie ahead.
func FuzzSpan(f *testing.F) {
	f.Add("Mon", "09:00", "17:00", "2026-12-20", "2027-01-02", "Europe/Oslo", int64(1_800_000_000_000))
	f.Add("", "23:59", "00:00", "", "", "Pacific/Apia", int64(-1))
	f.Fuzz(func(t *testing.T, day, from, to, since, until, zone string, now int64) {
		s := Span{Days: strings.Fields(day), From: from, To: to, Since: since, Until: until, Zone: zone}
		cal, problems := NewCalendar([]Span{s}, nil)
		if len(problems) > 0 {
			return
		}
		now %= 1 << 42
		if b := cal.windows[0].boundary(now); b <= now || b > now+24*3600*1000 {
			t.Fatalf("%d after %d", b, now)
		}
		next := cal.Next(now)
		if next != 0 && (next < now || !cal.Open(next)) {
			t.Fatalf("next %d after %d", next, now)
		}
	})
}
