package main

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// clocks are what the nodes' clocks say, as each tells the leader with the renewal of its lease. A leader whose own clock
// is far off most voters' gives the leadership up, for it is the leader's clock that makes ring time; other nodes whose
// clocks are far off get no more pods (package keep).
type clocks struct {
	mu    sync.Mutex // guards what follows
	heard map[place.NodeID]reading
}

// reading is what a clock said.
type reading struct{ wall, at int64 } // ms since 1970; by this node's clock that does not jump

const (
	clockFresh = 5_000 // ms: how old a reading may be, some renewals
	clockApart = 5_000 // ms: what is further apart does not say the same
)

// note takes in what a node's clock says at a time; 0 is no word.
func (c *clocks) note(node place.NodeID, wall, at int64) {
	if wall == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard == nil {
		c.heard = map[place.NodeID]reading{}
	}
	c.heard[node] = reading{wall, at}
}

// off is how far this node's clock, which says wall at a time, is ahead of the median of the voters', its own among them; not known
// unless a majority of them was heard of lately, nor when of an even number of clocks the two in the middle are far apart.
func (c *clocks) off(self place.NodeID, voters []place.NodeID, wall, at int64) (off time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	behind, known := c.medianLocked(self, voters, wall, at)
	return time.Duration(-behind) * time.Millisecond, known
}

// ahead is how far the nodes' clocks are ahead of the median of the voters', ms: of this one, and of those that were heard
// of lately. Nobody's is known where off is not. Nodes that are not in the ring any more are forgotten.
func (c *clocks) ahead(self place.NodeID, voters, nodes []place.NodeID, wall, at int64) map[place.NodeID]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.heard, func(n place.NodeID, _ reading) bool { return !slices.Contains(nodes, n) })
	median, known := c.medianLocked(self, voters, wall, at)
	if !known {
		return nil
	}
	out := map[place.NodeID]int64{self: -median}
	for n, r := range c.heard {
		if n != self && at-r.at <= clockFresh {
			out[n] = r.wall + at - r.at - wall - median
		}
	}
	return out
}

// medianLocked is how far the median of the voters' clocks is ahead of this node's, ms.
func (c *clocks) medianLocked(self place.NodeID, voters []place.NodeID, wall, at int64) (ahead int64, known bool) {
	all := []int64{0} // ahead of this node's clock, ms
	for n, r := range c.heard {
		if n != self && slices.Contains(voters, n) && at-r.at <= clockFresh {
			all = append(all, r.wall+at-r.at-wall)
		}
	}
	if !slices.Contains(voters, self) || 2*len(all) <= len(voters) {
		return 0, false
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if high-low > clockApart {
		return 0, false
	}
	return low + (high-low)/2, true
}
