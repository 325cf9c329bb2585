package enginetest

import (
	"os"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// A ring of five whose members are upgraded one by one in the course of days, under commits, runs of CronJobs and faults: leaders
// are of both versions, members that start again step for themselves from snapshots, as binaries that drop what they do not know,
// and come to the same State. The newer ones ask for what they know all the while: it counts when all are upgraded, not before.
func TestFault_U2_MixedVersions(t *testing.T) {
	b, err := os.ReadFile("../../testdata/ledger/fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	fields, err := ReadFields(b)
	if err != nil {
		t.Fatal(err)
	}
	seeds, hours := uint64(2), int64(6)
	if os.Getenv("FULL") != "" && !underRace {
		seeds, hours = 1, 7*24
	}
	var all MixedStats
	for seed := uint64(1); seed <= seeds; seed++ {
		w := NewWorld(seed, 5, 5)
		w.Weather.Every = 400
		stats := w.Mix(fields, hours*3_600_000)
		err := w.Faulty(hours * 3_600_000)
		if err == nil {
			if ring, _ := w.chain.head.Ring(); ring.Engine == cluster.EngineVersion {
				t.Errorf("seed %d: the ring has gone over, and its last member was not upgraded", seed)
			}
			w.faults.end()
			w.Upgrade()
			err = w.Rest(60_000)
		}
		if err == nil {
			err = w.Calm(2_400_000)
		}
		if err != nil {
			t.Fatalf("seed %d: %v\nlog: %s", seed, err, keepWorld(t, w))
		}
		if ring, _ := w.chain.head.Ring(); ring.Engine != cluster.EngineVersion {
			t.Errorf("seed %d: the ring runs engine version %d, all members know %d", seed, ring.Engine, cluster.EngineVersion)
		}
		all.Older, all.Newer, all.Early, all.Replayed = all.Older+stats.Older, all.Newer+stats.Newer, all.Early+stats.Early, all.Replayed+stats.Replayed
		t.Logf("seed %d: %d entries, %d faults, %d commits, %d runs", seed, w.Stats.Entries, w.Stats.Faults, w.Stats.Commits, w.Stats.Runs)
	}
	t.Logf("%d hours each, while members were of two versions: %+v", hours, all)
	if all.Older == 0 || all.Newer == 0 || all.Early == 0 || all.Replayed < 1000 {
		t.Error("not all of it happened")
	}
}
