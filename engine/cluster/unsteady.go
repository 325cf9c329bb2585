package cluster

import (
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/place"
)

// LastResortSince is the engine version from which unsteady nodes are the last resort, and not out of the question.
const LastResortSince = 7

const (
	// unsteadyFor is how long a return is held against a node that is lost again, ms.
	unsteadyFor = 600_000
	// firstDoubt is how long a node that returned a second time is not relied on; it doubles with each further return,
	// up to unsteadyFor, ms.
	firstDoubt = 15_000
)

// doubt decides from when on a node that has returned is relied on: at once the first time, ever later if it keeps
// coming and going. Until then its pods' substitutes stay and it gets new ones only as the last resort, so that a link
// that flaps does not move pods with every flap.
func (t *tx) doubt(n *Node) {
	if n.Returned != 0 && t.now-n.Returned < unsteadyFor {
		n.Returns = min(n.Returns+1, 30)
	} else {
		n.Returns = 1
	}
	n.Returned, n.Steady, n.Doubt = max(t.now, 1), 0, 0
	if n.Returns > 1 {
		n.Steady = n.Returned + min(int64(firstDoubt)<<(n.Returns-2), unsteadyFor)
		t.wake(nodeKey(n.ID), n.Steady)
		if t.lastResort() {
			n.Doubt = min(n.Returns-1, place.MaxDoubt)
		}
	}
	n.Unsteady = n.Steady != 0
}

func (t *tx) lastResort() bool {
	ring, _ := t.s.Ring()
	return ring.Engine >= LastResortSince
}

// rely takes a node's pods for what they were before it was lost.
func (t *tx) rely(id place.NodeID) {
	t.room = true
	for _, p := range t.podsOn(id) {
		if p.Lost != 0 {
			t.found(p)
		}
	}
}

// relyOnFenced takes those pods for what they were of which one may run: nobody takes their place while they are there,
// however little their node is relied on.
func (t *tx) relyOnFenced(id place.NodeID) {
	for _, p := range t.podsOn(id) {
		if p.Lost != 0 && p.Fenced {
			t.found(p)
		}
	}
}

func (t *tx) found(p *control.Pod) {
	now := *p
	now.Lost = 0
	t.s.pods.set(&t.s, &now)
	t.concern(&now)
}

// resume is asked when no node that is relied on suits a pod. If another of its owner was lost with a node that is there
// again, that one takes its place: it runs already, or is started where it was, and the new one is too many then.
func (t *tx) resume(p *control.Pod) (name string, ok bool) {
	if p.Fenced || !t.lastResort() {
		return "", false
	}
	if t.returned == nil {
		t.returned = t.s.lostOnUnsteady()
	}
	for {
		ids := t.returned[p.Owner.UID]
		if len(ids) == 0 {
			return "", false
		}
		t.returned[p.Owner.UID] = ids[1:]
		old, there := t.s.pods.Get(ids[0])
		if !there || old.Lost == 0 || old.Deleting != 0 || old.Owner != p.Owner {
			continue // something else became of it in this Step
		}
		t.found(old)
		return old.Name, true
	}
}

// lostOnUnsteady are the pods, by owner, that were lost with a node that is there again and not relied on yet: on the
// node with the least doubt first.
func (s *State) lostOnUnsteady() map[string][]control.PodID {
	lost := map[string][]control.PodID{}
	for doubt := 1; doubt <= place.MaxDoubt; doubt++ {
		for n := range s.nodes.Values() {
			if n.Down || !n.Unsteady || n.Doubt != doubt || n.Draining {
				continue
			}
			for p := range s.PodsOn(n.ID) {
				if p.Lost != 0 && !p.Fenced && p.Deleting == 0 && p.Finished == 0 && p.Leaving == 0 {
					lost[p.Owner.UID] = append(lost[p.Owner.UID], p.ID)
				}
			}
		}
	}
	return lost
}
