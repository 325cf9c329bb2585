package enginetest

import (
	"strings"
	"testing"
)

// TestWorldFindsPlantedBugs shows that the invariants of a ring of several find what they are for.
func TestWorldFindsPlantedBugs(t *testing.T) {
	cuts := Weather{Faults: []string{"isolate", "split", "freeze", "crash"}, Every: 20}
	for _, c := range []struct {
		plant   Plant
		weather Weather
		want    string
	}{
		{EagerGrant, Weather{Faults: []string{"isolate"}, Every: 20, Isolation: 10, Disk: 1500}, "run at once"},
		{NoVerify, Weather{Faults: []string{"split"}, Every: 60}, "run at once"},
		{NotWhole, cuts, "run at once"},
		{LateCount, Weather{Faults: []string{"freeze", "storm"}, Every: 5}, "run at once"},
		{NoGuard, cuts, "run at once"},
		{StartAtOnce, cuts, "run at once"},
		{Forgetful, Weather{Faults: []string{"isolate"}, Every: 20, Isolation: 12, Disk: 1500}, "run at once"},
		{BlindStart, Weather{Faults: []string{"isolate", "crash"}, Every: 20, Isolation: 15, Pulls: 300}, "run at once"},
		{LastWords, Weather{Faults: []string{"isolate", "split", "freeze"}, Every: 20}, "run at once"},
		{NoProof, cuts, "run at once"},
		{Minority, Weather{}, "I3: commit"},
		{EarlyAcknowledge, cuts, "I4: what was committed"},
		{NoSync, Weather{}, "I4"},
		{NoDedupe, cuts, "taken twice"},
		{OddStep, cuts, "steps to another State"},
		{Quitter, cuts, "I1: pod"},
		{Deafness, Weather{}, "does not stop"},
		{EarlyGone, cuts, "I2"},
	} {
		t.Run(string(c.plant), func(t *testing.T) {
			cpu := cpuSeconds()
			var last error
			for seed := uint64(1); seed <= 30; seed++ {
				w := NewWorld(seed, 7, 3)
				w.Plant, w.Weather = c.plant, c.weather
				quiet := int64(0)
				if c.plant == Deafness {
					quiet = 1_800_000
				}
				if last = w.Run(1_200_000, quiet); last != nil && strings.Contains(last.Error(), c.want) {
					t.Logf("seed %d, %.1f s: %v", seed, cpuSeconds()-cpu, last)
					return
				}
			}
			t.Errorf("want %q, the last run gave %v", c.want, last)
		})
	}
}
