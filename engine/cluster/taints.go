package cluster

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/place"
)

const (
	// TaintsSince is the engine version from which nodes have taints.
	TaintsSince = 6
	// maxTaints bounds how many a node has.
	maxTaints = 32
)

// Tainted is when a taint of a node came that pods must leave for.
type Tainted struct {
	Key   string `json:"key"`
	Since int64  `json:"since"` // ring time, ms
}

// taint gives a node a taint, or takes some away.
func (t *tx) taint(in *Taint) error {
	ring, _ := t.s.Ring()
	old, ok := t.s.nodes.Get(in.ID)
	switch {
	case !ok:
		return fmt.Errorf("there is no node %q", clip(string(in.ID), 64))
	case in.Taint.Key == diskPressure.Key && ring.Engine >= PressureSince:
		return fmt.Errorf("taint %s: a node gives it to itself while its disk is short", diskPressure.Key)
	case in.Taint.Key == clockSkew.Key && ring.Engine >= ClockSince:
		return fmt.Errorf("taint %s: a node has it while its clock is off that of most voters", clockSkew.Key)
	case in.Off && in.Taint.Key == "":
		return errors.New("taint: no key says which are to go")
	case !in.Off:
		if err := in.Taint.Check(); err != nil {
			return fmt.Errorf("taint: %w", err)
		}
	}
	now := *old
	if in.Off {
		now.Taints = slices.DeleteFunc(slices.Clone(old.Taints), func(o place.Taint) bool {
			return o.Key == in.Taint.Key && (in.Taint.Effect == "" || o.Effect == in.Taint.Effect)
		})
		if len(now.Taints) == len(old.Taints) {
			return fmt.Errorf("node %s: it has no taint %s", old.Name, clip(in.Taint.String(), 400))
		}
	} else {
		now.Taints = withTaint(old.Taints, in.Taint)
	}
	if len(now.Taints) > maxTaints {
		return fmt.Errorf("node %s: more than %d taints", old.Name, maxTaints)
	}
	t.setTaints(&now)
	t.s.nodes.set(&t.s, &now)
	t.room = true
	t.evict(&now)
	return nil
}

// withTaint is the taints with one more, in place of that of the same key and effect.
func withTaint(taints []place.Taint, more place.Taint) []place.Taint {
	taints = slices.Clone(taints)
	i, there := slices.BinarySearchFunc(taints, more, place.Taint.Compare)
	if there {
		taints[i] = more
		return taints
	}
	return slices.Insert(taints, i, more)
}

// firstTaints are those that a machine says it is to have when it comes into the ring; later ones are said to the ring.
func (t *tx) firstTaints(now *Node, said []place.Taint) error {
	if now.Up {
		return nil
	}
	if len(said) > maxTaints {
		return fmt.Errorf("more than %d taints", maxTaints)
	}
	for _, taint := range said {
		if err := taint.Check(); err != nil {
			return fmt.Errorf("taint: %w", err)
		}
		now.Taints = withTaint(now.Taints, taint)
	}
	t.setTaints(now)
	return nil
}

// setTaints notes since when pods must leave for the taints that a node has now.
func (t *tx) setTaints(n *Node) {
	var since []Tainted
	for _, taint := range n.Taints {
		if taint.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		at := t.now
		for _, old := range n.Tainted {
			if old.Key == taint.Key {
				at = old.Since
			}
		}
		since = append(since, Tainted{Key: taint.Key, Since: at})
	}
	n.Tainted = since
}

// evict stops the pods of a node that may not be there any more, and wakes for the next that has to go. As in Kubernetes
// it does not wait for their substitutes: who says NoExecute wants them off.
func (t *tx) evict(n *Node) {
	if len(n.Tainted) == 0 || n.Down { // on one that is lost nothing can be stopped: it is asked again when it returns
		return
	}
	var next int64
	for _, p := range t.podsOn(n.ID) {
		if p.Finished != 0 || p.Deleting != 0 {
			continue
		}
		taint, due := t.mustLeave(n, p)
		switch {
		case due == 0:
		case due <= t.now:
			t.stop(p, "its node has the taint "+taint.String())
			t.concern(p)
		case next == 0 || due < next:
			next = due
		}
	}
	if next != 0 && (n.Steady == 0 || next < n.Steady) {
		t.wake(nodeKey(n.ID), next)
	}
}

// mustLeave is when a pod must have left its node, and for which taint; 0 if it may stay. What it tolerates for a while it
// tolerates from when the taint came, or the pod.
func (t *tx) mustLeave(n *Node, p *control.Pod) (why place.Taint, due int64) {
	kind := t.seated().kindOf(&t.s, p)
	for _, taint := range n.Taints {
		forever, seconds := kind.Stays([]place.Taint{taint})
		if forever {
			continue
		}
		at := t.now // the taint itself is not tolerated
		if seconds > 0 {
			began := p.Created
			if s := p.Status.StartTime; s != nil {
				began = s.UnixMilli()
			}
			i := slices.IndexFunc(n.Tainted, func(o Tainted) bool { return o.Key == taint.Key })
			at = max(n.Tainted[i].Since, began) + seconds*1000
		}
		if due == 0 || at < due {
			why, due = taint, max(at, 1)
		}
	}
	return why, due
}

// evictLater has a node's rule run when a pod came to a node that it must leave again.
func (t *tx) evictLater(n *Node) {
	if len(n.Tainted) > 0 {
		t.wake(nodeKey(n.ID), t.now)
	}
}
