package desired

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/render"
)

// settleNear puts the namespaces that pod affinity names in their place. Those of other environments are out of reach:
// anti-affinity keeps the pods it selects off nodes, whosever they are. For the same reason no namespaces are selected by
// label, nor all by an empty selector.
func settleNear(env render.Environment, spec *corev1.PodSpec, path string, tell func(path, text string)) {
	if spec.Affinity == nil {
		return
	}
	settle := func(t *corev1.PodAffinityTerm, at string) {
		for i := range t.Namespaces {
			t.Namespaces[i] = namespaceFor(env, t.Namespaces[i], fmt.Sprintf("%s.namespaces[%d]", at, i), tell)
		}
		if s := t.NamespaceSelector; s != nil && len(s.MatchLabels)+len(s.MatchExpressions) == 0 { // others were refused by name
			tell(at+".namespaceSelector", "not supported yet; expected namespaces")
		}
	}
	each := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, at string) {
		for i := range required {
			settle(&required[i], fmt.Sprintf("%s.requiredDuringSchedulingIgnoredDuringExecution[%d]", at, i))
		}
		for i := range preferred {
			settle(&preferred[i].PodAffinityTerm, fmt.Sprintf("%s.preferredDuringSchedulingIgnoredDuringExecution[%d].podAffinityTerm", at, i))
		}
	}
	if a := spec.Affinity.PodAffinity; a != nil {
		each(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, path+".affinity.podAffinity")
	}
	if a := spec.Affinity.PodAntiAffinity; a != nil {
		each(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, path+".affinity.podAntiAffinity")
	}
}
