package cluster

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/place"
)

// PressureSince is the engine version from which nodes say that their disk is short.
const PressureSince = 7

// diskPressure keeps new pods off a node whose disk is short, as in Kubernetes.
var diskPressure = place.Taint{Key: corev1.TaintNodeDiskPressure, Effect: corev1.TaintEffectNoSchedule}

// pressure takes what a node says of its disk. Pods that run there stay. Those that have not begun go elsewhere: they
// might wait for room for ever, and the roll-out that made them too. What may run once only waits with its node, which
// cannot say that nothing is left of it while it has no room to hear of that.
func (t *tx) pressure(from From, in *Pressure) error {
	old, ok := t.s.nodes.Get(from.Node)
	switch {
	case !ok:
		return fmt.Errorf("there is no node %q", clip(string(from.Node), 64))
	case len(in.Disk) > maxText:
		return fmt.Errorf("node %s: what it says of its disk has %d bytes, at most %d are kept", old.Name, len(in.Disk), maxText)
	case in.Disk == old.DiskPressure:
		return nil
	}
	now := *old
	now.DiskPressure = in.Disk
	now.Taints = slices.DeleteFunc(slices.Clone(old.Taints), func(o place.Taint) bool { return o.Key == diskPressure.Key })
	if in.Disk != "" {
		now.Taints = withTaint(now.Taints, diskPressure)
	}
	t.s.nodes.set(&t.s, &now)
	t.room = true
	if in.Disk == "" || now.Down {
		return nil
	}
	for _, p := range t.podsOn(now.ID) {
		if p.Active() && p.Lost == 0 && !p.Fenced && !begun(&p.Status) && !t.seated().kindOf(&t.s, p).Tolerates(diskPressure) {
			t.stop(p, "its node's disk is short, and it had not begun")
			t.concern(p)
		}
	}
	return nil
}

// begun tells whether a container of a pod ever ran.
func begun(s *corev1.PodStatus) bool {
	return slices.ContainsFunc(slices.Concat(s.InitContainerStatuses, s.ContainerStatuses), func(c corev1.ContainerStatus) bool {
		return c.RestartCount > 0 || c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil
	}) || s.Phase == corev1.PodRunning
}
