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

// Readers see the old deadline or the new one, however often it is written: never a mixture, which might lie ahead of both.
func TestWholeDeadlines(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} { // a disk; memory, where the agent has it
		f, err := os.CreateTemp(dir, "lease-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(f.Name())
		defer f.Close()
		const low, high = Time(0x00000000_11111111), Time(0x22222222_00000000)
		if err := Write(f, low); err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			for i := range 100_000 {
				_ = Write(f, []Time{high, low}[i%2])
			}
		}()
		seen := map[Time]int{}
		for reading := true; reading; {
			select {
			case <-over:
				reading = false
			default:
			}
			at, written, err := From(f)
			if err != nil || !written {
				t.Fatalf("%v %v", written, err)
			}
			seen[at]++
		}
		if len(seen) != 2 || seen[low] == 0 || seen[high] == 0 {
			t.Errorf("in %s: read %v", dir, seen)
		}
	}
}
