package nodeagent

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

// basis is what a pod's status was last made from. As long as it is the same the status is, so neither is it made nor
// compared with the last one: that, field by field, was most of what a look cost.
type basis struct {
	pod        *plan.Pod
	seen       plan.Seen // but for its containers and its link, which no status shows
	containers []instance
	trouble    bool
}

// instance is one container as it was seen, and what its probes said.
type instance struct {
	name   string
	seen   plan.Container
	health plan.Health
}

// newBasis notes what a status is made from.
func newBasis(p *plan.Pod, seen *plan.Seen, health map[string]plan.Health, trouble bool) *basis {
	b := &basis{pod: p, trouble: trouble}
	if seen == nil {
		return b
	}
	b.seen = *seen
	b.seen.Containers, b.seen.Linked = nil, false
	b.containers = make([]instance, 0, len(seen.Containers))
	for name, c := range seen.Containers {
		b.containers = append(b.containers, instance{name, *c, health[c.ID]})
	}
	return b
}

// holds says whether the status made from b is still the one that is due. Beside the arguments a status depends on the
// time: of a pod with a deadline, and of one whose troubles' words may have changed, it is made each time.
func (b *basis) holds(p *plan.Pod, seen *plan.Seen, health map[string]plan.Health, trouble bool) bool {
	if b == nil || b.pod != p || b.trouble || trouble || hasDeadline(p) {
		return false
	}
	if seen == nil {
		seen = &plan.Seen{}
	}
	was := b.seen
	if was.Epoch != seen.Epoch || was.Namespaces != seen.Namespaces || was.Excess != seen.Excess ||
		len(b.containers) != len(seen.Containers) {
		return false
	}
	for i := range b.containers {
		was := &b.containers[i]
		c := seen.Containers[was.name]
		if c == nil || *c != was.seen || health[c.ID] != was.health {
			return false
		}
	}
	return true
}

func hasDeadline(p *plan.Pod) bool {
	ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	return p.Spec.ActiveDeadlineSeconds != nil && !ended
}
