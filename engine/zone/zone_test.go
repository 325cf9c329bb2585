package zone

import (
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	t.Setenv("ZONEINFO", "/nonexistent")
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ name, want string }{
		{"", "2026-07-01T12:00:00Z"},
		{"UTC", "2026-07-01T12:00:00Z"},
		{"Europe/Oslo", "2026-07-01T14:00:00+02:00"},
		{"America/New_York", "2026-07-01T08:00:00-04:00"},
		{"Asia/Kolkata", "2026-07-01T17:30:00+05:30"},
		{"Local", "unknown time zone Local"},
		{"europe/oslo", "unknown time zone europe/oslo"},
		{"Europe", "unknown time zone Europe"},
		{"../etc/passwd", "unknown time zone ../etc/passwd"},
	} {
		got := ""
		if loc, err := Load(c.name); err != nil {
			got = err.Error()
		} else {
			got = noon.In(loc).Format(time.RFC3339)
		}
		if got != c.want {
			t.Errorf("Load(%q): %s, want %s", c.name, got, c.want)
		}
	}
}

// Every name of the table loads, so that what validation accepts never fails at a firing.
func TestEveryZoneLoads(t *testing.T) {
	if len(files()) < 400 {
		t.Fatalf("only %d zones", len(files()))
	}
	for name := range files() {
		if loc, err := Load(name); err != nil || loc.String() != name {
			t.Errorf("Load(%q): %v, %v", name, loc, err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load("America/New_York"); err != nil {
			b.Fatal(err)
		}
	}
}
