package enginetest

import (
	"os"
	"strconv"
	"testing"
)

func TestTry(t *testing.T) {
	from, _ := strconv.Atoi(os.Getenv("FROM"))
	to, _ := strconv.Atoi(os.Getenv("TO"))
	for seed := uint64(from); seed <= uint64(to); seed++ {
		w := NewWorld(seed, 7, 3)
		w.Weather = Weather{Faults: []string{"isolate", "crash"}, Every: 20, Isolation: 15, Pulls: 300}
		w.Plant = Plant(os.Getenv("PLANT"))
		if name := os.Getenv("STORY"); name != "" {
			w.Story, _ = os.Create(name)
		}
		if err := w.Run(1_200_000, 0); err != nil {
			t.Logf("seed %d: %v", seed, err)
		}
	}
}
