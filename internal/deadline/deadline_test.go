package deadline

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOver(t *testing.T) {
	const now = 1_000_000
	for _, c := range []struct {
		name string
		at   Time
		want bool
	}{
		{"no limit", 0, false},
		{"ahead", now + 1, false},
		{"this moment", now, true},
		{"past", now - 1, true},
		{"as far ahead as may be", now + Horizon, false},
		{"of another boot", now + Horizon + 1, true},
		{"negative", -5, true},
	} {
		if got := c.at.Over(now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	if got := Read(path); got != Past {
		t.Errorf("absent: %d", got)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := Read(path); got != Past {
		t.Errorf("nothing written: %d", got)
	}
	for _, at := range []Time{123456789, 0, Past} {
		if err := Write(f, at); err != nil {
			t.Fatal(err)
		}
		if got := Read(path); got != at {
			t.Errorf("wrote %d, read %d", at, got)
		}
	}
	if a, b := Now(), Now(); a <= 0 || b < a {
		t.Errorf("the clock: %d, then %d", a, b)
	}
}
