package enginetest

import (
	"strings"
	"testing"
)

func TestWorldPlants(t *testing.T) {
	for _, c := range []struct {
		plant Plant
		want  string
	}{
		{EagerGrant, "run at once"},
		{NoVerify, "run at once"},
		{NotWhole, "run at once"},
		{LateCount, "run at once"},
		{NoGuard, "run at once"},
		{StartAtOnce, "run at once"},
		{BlindStart, "run at once"},
		{NoProof, "run at once"},
		{Minority, "I3: commit"},
		{EarlyAcknowledge, "I4"},
		{NoSync, "I4"},
		{NoDedupe, "taken twice"},
		{OddStep, "steps to another State"},
		{Quitter, "I1"},
		{Deafness, "I7"},
		{EarlyGone, "I2"},
	} {
		cpu := cpuSeconds()
		var err error
		seed := uint64(1)
		for ; seed <= 20; seed++ {
			w := NewWorld(seed, 20, 5)
			w.Plant = c.plant
			quiet := int64(0)
			if c.plant == Deafness {
				quiet = 1_800_000
			}
			if err = w.Run(1_800_000, quiet); err != nil {
				break
			}
		}
		ok := err != nil && strings.Contains(err.Error(), c.want)
		t.Logf("%v %s: seed %d, cpu %.1f: %v", ok, c.plant, seed, cpuSeconds()-cpu, err)
	}
}
