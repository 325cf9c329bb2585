package main

import (
	"slices"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// clocks are what the voters' clocks say, as each tells the leader with the renewal of its lease: a leader whose own clock
// is far off most voters' gives the leadership up, for it is the leader's clock that makes ring time.
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
// Nodes that vote no more are forgotten.
func (c *clocks) off(self place.NodeID, voters []place.NodeID, wall, at int64) (off time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ahead []int64 // of this node's clock, ms
	for n, r := range c.heard {
		switch {
		case !slices.Contains(voters, n):
			delete(c.heard, n)
		case n != self && at-r.at <= clockFresh:
			ahead = append(ahead, wall-(r.wall+at-r.at))
		}
	}
	ahead = append(ahead, 0)
	if !slices.Contains(voters, self) || 2*len(ahead) <= len(voters) {
		return 0, false
	}
	slices.Sort(ahead)
	low, high := ahead[(len(ahead)-1)/2], ahead[len(ahead)/2]
	if high-low > clockApart {
		return 0, false
	}
	return time.Duration(low+(high-low)/2) * time.Millisecond, true
}
