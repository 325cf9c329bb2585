package place

import (
	corev1 "k8s.io/api/core/v1"
)

// RequestsOf is what a pod asks for: its containers and sidecars run together, an init container runs alone with
// the sidecars started before it, and the larger of the two counts.
func RequestsOf(spec *corev1.PodSpec) Resources {
	var together, sidecars, first Resources
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		r := requests(c.Resources.Requests)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars = sidecars.Plus(r, 1)
			first = larger(first, sidecars)
			continue
		}
		first = larger(first, sidecars.Plus(r, 1))
	}
	for i := range spec.Containers {
		together = together.Plus(requests(spec.Containers[i].Resources.Requests), 1)
	}
	sum := larger(together.Plus(sidecars, 1), first)
	return sum.Plus(requests(spec.Overhead), 1)
}

func requests(l corev1.ResourceList) Resources {
	var r Resources
	if q, ok := l[corev1.ResourceCPU]; ok {
		r.MilliCPU = most
		if q.Value() < most/1000 { // MilliValue of more would overflow
			r.MilliCPU = bounded(q.MilliValue())
		}
	}
	if q, ok := l[corev1.ResourceMemory]; ok {
		r.Memory = bounded(q.Value())
	}
	if q, ok := l[corev1.ResourceEphemeralStorage]; ok {
		r.Ephemeral = bounded(q.Value())
	}
	return r
}

func larger(a, b Resources) Resources {
	return Resources{
		MilliCPU:  max(a.MilliCPU, b.MilliCPU),
		Memory:    max(a.Memory, b.Memory),
		Ephemeral: max(a.Ephemeral, b.Ephemeral),
	}
}

// most keeps sums of requests far from overflow: 2^50 is a pebibyte, or 10^12 cores.
const most = 1 << 50

func bounded(n int64) int64 { return min(max(n, 0), most) }
