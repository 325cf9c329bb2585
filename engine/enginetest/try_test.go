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
		w := NewWorld(seed, 20, 5)
		w.Plant = Plant(os.Getenv("PLANT"))
		if name := os.Getenv("STORY"); name != "" {
			w.Story, _ = os.Create(name)
		}
		if err := w.Run(1_800_000, 0); err != nil {
			t.Logf("seed %d: %v", seed, err)
		}
	}
}
