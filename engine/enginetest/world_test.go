package enginetest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// How long a World lives under faults, and then without, ms.
const (
	faultyShort, quietShort = 600_000, 1_800_000
	faultyLong, quietLong   = 2 * 3_600_000, 1_800_000
	restLong                = 2 * 3_600_000
)

// simMany runs seeds of five voters among twenty nodes.
func simMany(t *testing.T, limit time.Duration) {
	seed, seeds, faulty, quiet := uint64(1), uint64(2), int64(faultyShort), int64(quietShort)
	switch {
	case *simSeed != 0:
		seed, seeds, faulty, quiet = *simSeed, 1, faultyLong, quietLong
	case limit > 0:
		seed, seeds, faulty, quiet = uint64(time.Now().UnixNano()), 1<<40, faultyLong, quietLong
	}
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // the log and the States of a run are all that it keeps
	begin, first := time.Now(), seed
	var total WorldStats
	var cpuFaulty, cpuQuiet float64
	var atRest int64
	violations := 0
	for ; seeds > 0 && (limit == 0 || time.Since(begin) < limit) && violations == 0; seeds-- {
		w := NewWorld(seed, 20, 5)
		cpu := cpuSeconds()
		err := w.Run(faulty, quiet)
		cpuFaulty += cpuSeconds() - cpu
		if err == nil && limit > 0 {
			cpu = cpuSeconds()
			err = w.Rest(restLong)
			cpuQuiet += cpuSeconds() - cpu
			atRest += restLong
		}
		if err != nil {
			violations++
			t.Errorf("seed %d: %v\nrun it again: go test ./engine/enginetest -run TestSim/many -sim.seed %d\nlog: %s", seed, err, seed, keepWorld(t, w))
		}
		total = total.Plus(w.Stats)
		seed++
	}
	hours := func(ms int64) float64 { return float64(ms) / 3_600_000 }
	t.Logf("5 voters of 20 nodes, seeds %d to %d: %.1f simulated hours under faults, %.1f a CPU-second, and %.1f at rest, %.1f a CPU-second; violations: %d",
		first, seed-1, hours(total.Faulty), hours(total.Faulty)/max(cpuFaulty, 0.001), hours(atRest), hours(atRest)/max(cpuQuiet, 0.001), violations)
	t.Logf("%d faults, %d leaders, %d nodes lost, %d leases ended, %d processes killed by the guard, %d started; %d entries, %d rejected, %d came twice, %d stepped by a second node; %d commits, %d that did not render alike, %d cron runs; %d events",
		total.Faults, total.Leaders, total.Lost, total.Fenced, total.Killed, total.Started, total.Entries, total.Rejected, total.Repeated, total.Replayed,
		total.Commits, total.Mismatches, total.Runs, total.Events)
}

// keepWorld writes the log, the objects and the story of a run to files outside of the test's own directory, which is
// removed.
func keepWorld(t *testing.T, w *World) string {
	t.Helper()
	base := filepath.Join(os.TempDir(), "shoal-sim-many-"+strconv.FormatUint(w.Seed, 10))
	b, err := json.Marshal(map[string]any{"seed": w.Seed, "entries": w.chain.log, "content": Used(w.chain.log, w.Content)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(base+".json", b, 0o600); err != nil {
		t.Fatal(err)
	}
	story, err := os.Create(base + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	defer story.Close()
	again := NewWorld(w.Seed, len(w.nodes), w.voters)
	again.Story, again.Plant, again.Weather = story, w.Plant, w.Weather
	_ = again.Run(w.Stats.Faulty, quietLong)
	return base + ".json, story: " + base + ".txt"
}

// TestSameSeedSameWorld shows that a seed replays a run exactly.
func TestSameSeedSameWorld(t *testing.T) {
	var first string
	for range 2 {
		var story strings.Builder
		w := NewWorld(3, 7, 3)
		w.Story = &story
		if err := w.Run(300_000, 0); err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = story.String()
		} else if first != story.String() {
			t.Error("the same seed tells another story")
		}
	}
	if strings.Count(first, "\n") < 100 {
		t.Errorf("a story of %d lines", strings.Count(first, "\n"))
	}
}

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
		{LateCount, Weather{Faults: []string{"freeze"}, Every: 12, Latency: 200}, "run at once"},
		{NoGuard, cuts, "run at once"},
		{StartAtOnce, cuts, "run at once"},
		{Forgetful, Weather{Faults: []string{"isolate"}, Every: 20, Isolation: 12, Disk: 1500}, "run at once"},
		{BlindStart, Weather{Faults: []string{"isolate", "crash"}, Every: 20, Isolation: 15, Pulls: 300}, "run at once"},
		{LastWords, Weather{Faults: []string{"split", "restart"}, Every: 40}, "run at once"},
		{NoProof, cuts, "run at once"},
		{Minority, Weather{}, "I3: commit"},
		{EarlyAcknowledge, cuts, "I4: what was committed"},
		{NoSync, Weather{Faults: []string{"power", "isolate", "slow disk"}, Every: 10}, "I4"},
		{NoDedupe, cuts, "taken twice"},
		{OddStep, cuts, "steps to another State"},
		{Quitter, cuts, "I1: pod"},
		{Deafness, cuts, "does not stop"},
		{EarlyGone, cuts, "I2"},
		{Leftovers, Weather{Every: 10}, "still uses"},
		{Chatty, cuts, "inputs that wait"},
		{Amnesia, cuts, "started twice"},
	} {
		if underRace && !slices.Contains([]Plant{NotWhole, NoGuard, Minority, NoDedupe, Quitter, Amnesia}, c.plant) {
			continue // ten times slower, and a World has one goroutine
		}
		t.Run(string(c.plant), func(t *testing.T) {
			t.Parallel()
			faulty, quiet := int64(1_200_000), int64(0)
			if c.plant == Deafness { // it shows when all should have come to rest
				faulty, quiet = 120_000, quietShort
			}
			begun := time.Now()
			var last error
			for seed := uint64(1); seed <= 40; seed++ {
				w := NewWorld(seed, 7, 3)
				w.Plant, w.Weather = c.plant, c.weather
				if last = w.Run(faulty, quiet); last != nil && strings.Contains(last.Error(), c.want) {
					t.Logf("seed %d, %s: %v", seed, time.Since(begun).Round(time.Millisecond), last)
					return
				}
			}
			t.Errorf("want %q, the last run gave %v", c.want, last)
		})
	}
}

// TestWorldOfUnsteadyNodes has machines lose their power so often that at times none is relied on: pods go on all the same.
func TestWorldOfUnsteadyNodes(t *testing.T) {
	for seed := range uint64(6) {
		w := NewWorld(seed, 5, 3)
		w.Weather = Weather{Faults: []string{"blackout", "power", "flap"}, Every: 60}
		if err := w.Run(1_200_000, quietShort); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
