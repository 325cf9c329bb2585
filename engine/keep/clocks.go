package keep

import (
	"maps"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
)

// When a clock is wrong, ms. Within the margin it stays what it was said to be, so that one that drifts along the limit
// does not come and go.
const (
	clockWrong = 30_000 // it is further off most voters' than this,
	wrongFor   = 5_000  // for so long;
	clockRight = 10_000 // nearer than this,
	rightFor   = 15_000 // for so long
	// clockLook is how often clocks are compared where there are several.
	clockLook = 5_000
)

// compare finds the nodes whose clocks are wrong, and those whose are right again. Of one that is not heard nothing is
// said. Whoever is alone has nobody to be compared with, and is right.
func (k *Keeper) compare(f Facts) (inputs []cluster.Input, wait int64) {
	wait = idle
	alone := f.State.Nodes().Len() == 1
	if !alone {
		wait = clockLook
	}
	if k.doubts == nil {
		k.doubts = map[place.NodeID]int64{}
	}
	for n := range f.State.Nodes().Values() {
		ahead, known := f.Ahead[n.ID]
		if alone {
			ahead, known = 0, true
		}
		lasts, becomes := int64(rightFor), int64(0)
		if n.ClockAhead == 0 {
			lasts, becomes = wrongFor, ahead
		}
		off := max(ahead, -ahead)
		if !known || n.ClockAhead == 0 && off <= clockWrong || n.ClockAhead != 0 && off >= clockRight {
			delete(k.doubts, n.ID)
			continue
		}
		since, doubted := k.doubts[n.ID]
		if !doubted {
			since = f.Now
			k.doubts[n.ID] = since
		}
		if left := since + lasts - f.Now; left > 0 && !alone {
			wait = min(wait, left)
			continue
		}
		inputs = append(inputs, cluster.Input{Clock: &cluster.Clock{ID: n.ID, Ahead: becomes, Term: f.Term}})
	}
	maps.DeleteFunc(k.doubts, func(id place.NodeID, _ int64) bool {
		_, ok := f.State.Nodes().Get(id)
		return !ok
	})
	return inputs, wait
}
