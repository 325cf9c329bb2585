package desired

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/shoal-dev/shoal/engine/kube"
)

// What a workload may ask of the ring, by annotation.
const (
	// StrictAnnotation, "true", has at most as many pods of a workload run as it is to have, over lost nodes too.
	StrictAnnotation = "shoal.dev/strict"
	// IsolationAnnotation, IsolationKeep, lets pods that may run once only go on where nobody hears of them any more.
	// Then they have no successor before their node returns or leaves the ring.
	IsolationAnnotation = "shoal.dev/isolation"
	IsolationKeep       = "keep"
)

// EgressAnnotation, EgressEnvironment, on a pod says that it may speak to those of its own environment alone. The ring sets it where that
// holds, so that it goes on to hold for pods that outlive their environment.
const (
	EgressAnnotation  = "shoal.dev/egress"
	EgressEnvironment = "environment"
)

// ownKeys are the labels and annotations under shoal.dev/ that an author may set.
var ownKeys = []string{IsolationAnnotation, StrictAnnotation}

// checkStrict holds what a workload asks of the ring to what can be had.
func checkStrict(obj kube.Object, tell func(path, text string)) {
	annotations := obj.GetAnnotations()
	if v, ok := annotations[IsolationAnnotation]; ok && v != IsolationKeep {
		tell("metadata.annotations["+IsolationAnnotation+"]", fmt.Sprintf("Unsupported value: %q: want %q", v, IsolationKeep))
	}
	switch v, ok := annotations[StrictAnnotation]; {
	case !ok:
		return
	case v != "true" && v != "false":
		tell("metadata.annotations["+StrictAnnotation+"]", fmt.Sprintf("Unsupported value: %q: want \"true\" or \"false\"", v))
	case v == "true":
		if d, ok := obj.(*appsv1.Deployment); ok && d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			tell("spec.strategy.type", "Invalid value: a strict Deployment wants Recreate: RollingUpdate starts new pods beside the old ones")
		}
	}
}
