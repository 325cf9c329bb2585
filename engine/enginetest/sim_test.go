package enginetest

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	simDuration = flag.Duration("sim.duration", 0, "how long TestSim runs seeds; 0: SIM_SECONDS, or a few seeds")
	simSeed     = flag.Uint64("sim.seed", 0, "run this seed alone")
)

// How much time one seed lives through under faults, ms; the calm after it is another hour.
const (
	simulatedShort = 1_800_000
	simulatedLong  = 2 * 3_600_000
)

// TestSim runs seeds of the ring of one, and of the ring of twenty. A seed that fails is printed, and its log and objects
// are written to a file; -sim.seed runs it again.
func TestSim(t *testing.T) {
	limit := *simDuration
	if n, err := strconv.Atoi(os.Getenv("SIM_SECONDS")); err == nil && limit == 0 {
		limit = time.Duration(n) * time.Second
	}
	t.Run("one", func(t *testing.T) { simOne(t, limit/6) })
	t.Run("many", func(t *testing.T) { simMany(t, limit*5/6) })
}

func simOne(t *testing.T, limit time.Duration) {
	if *simSeed != 0 {
		simulate(t, *simSeed, simulatedLong)
		return
	}
	seed, seeds, lived := uint64(1), uint64(2), int64(simulatedShort)
	if limit > 0 {
		seed, seeds, lived = uint64(time.Now().UnixNano()), 1<<40, simulatedLong
	}
	begin, cpu := time.Now(), cpuSeconds()
	var total Stats
	n := 0
	for ; seeds > 0 && (limit == 0 || time.Since(begin) < limit) && !t.Failed(); seeds-- {
		total = total.plus(simulate(t, seed, lived))
		n++
		seed++
	}
	t.Logf("one node, seeds %d to %d: %d runs, %.1f simulated hours, %.1f a CPU-second, %d entries, %d crashes, %d reboots, %d clock jumps, %d commits, %d pods, %d cron runs, %d rejected; violations: %v",
		seed-uint64(n), seed-1, n, float64(total.Simulated)/3_600_000, float64(total.Simulated)/3_600_000/max(cpuSeconds()-cpu, 0.001),
		total.Entries, total.Crashes, total.Reboots, total.Jumps, total.Commits, total.Started, total.Runs, total.Rejected, t.Failed())
}

// cpuSeconds is what this process has used.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func simulate(t *testing.T, seed uint64, lived int64) Stats {
	t.Helper()
	s := NewSim(seed)
	if err := s.Run(lived); err != nil {
		t.Errorf("seed %d: %v\nrun it again: go test ./engine/enginetest -run TestSim -sim.seed %d\nlog: %s", seed, err, seed, keepRun(t, s))
	}
	return s.Stats
}

// keepRun writes the log and the objects of a run to a file outside of the test's own directory, which is removed.
func keepRun(t *testing.T, s *Sim) string {
	t.Helper()
	name := filepath.Join(os.TempDir(), "shoal-sim-"+strconv.FormatUint(s.Seed, 10)+".json")
	b, err := json.Marshal(map[string]any{"seed": s.Seed, "entries": s.Log, "content": s.Content})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (a Stats) plus(b Stats) Stats {
	return Stats{
		a.Simulated + b.Simulated, a.Entries + b.Entries, a.Rejected + b.Rejected, a.Crashes + b.Crashes, a.Reboots + b.Reboots,
		a.Jumps + b.Jumps, a.Commits + b.Commits, a.Started + b.Started, a.Runs + b.Runs,
	}
}

// TestSameSeedSameRun shows that a seed replays a run exactly.
func TestSameSeedSameRun(t *testing.T) {
	a, b := NewSim(7), NewSim(7)
	errA, errB := a.Run(600_000), b.Run(600_000)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if a.State.Hash() != b.State.Hash() || a.Stats != b.Stats {
		t.Errorf("%+v\n%+v", a.Stats, b.Stats)
	}
}

// TestPlantedBugs shows that the invariants find what they are for.
func TestPlantedBugs(t *testing.T) {
	for _, c := range []struct {
		plant Plant
		want  string
	}{
		{EarlyRemoved, "the ledger has forgotten it"},
		{LostEntry, "I4: after a crash the State has another hash"},
		{OtherTime, "replays to"},
		{TwoStarts, "runs twice"},
		{Deaf, "I7: an hour after the last fault"},
	} {
		found := false
		var last error
		for seed := uint64(1); seed <= 5 && !found; seed++ {
			s := NewSim(seed)
			s.Plant = c.plant
			last = s.Run(600_000)
			found = last != nil && strings.Contains(last.Error(), c.want)
		}
		if !found {
			t.Errorf("%s: want %q, the last run gave %v", c.plant, c.want, last)
		}
	}
}
