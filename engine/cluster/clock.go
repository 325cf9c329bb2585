package cluster

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/place"
)

// ClockSince is the engine version from which nodes whose clocks are wrong get no new pods.
const ClockSince = 8

// clockSkew keeps new pods off a node whose clock is off that of most voters: what goes by the time of day there goes
// wrong, and certificates, tokens and logs do.
var clockSkew = place.Taint{Key: "shoal.dev/clock-skew", Effect: corev1.TaintEffectNoSchedule}

// clock takes what the leader finds of a node's clock. Pods that are there stay.
func (t *tx) clock(in *Clock) error {
	ring, _ := t.s.Ring()
	old, ok := t.s.nodes.Get(in.ID)
	switch {
	case !ok:
		return fmt.Errorf("there is no node %q", clip(string(in.ID), 64))
	case in.Term < ring.Term:
		return staleError{fmt.Errorf("node %s: a leader of term %d has compared its clock, and there was another since, in term %d", old.Name, in.Term, ring.Term)}
	case in.Ahead == old.ClockAhead:
		return nil
	}
	now := *old
	now.ClockAhead = in.Ahead
	now.Taints = slices.DeleteFunc(slices.Clone(old.Taints), func(o place.Taint) bool { return o.Key == clockSkew.Key })
	if in.Ahead != 0 {
		now.Taints = withTaint(now.Taints, clockSkew)
	}
	t.s.nodes.set(&t.s, &now)
	t.room = true
	return nil
}
