package desired

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/internal/sealed"
)

// openable is obj as Kubernetes can validate it. What is sealed is not of the form that the Secret's type asks for, and nobody knows here
// what is inside: it is held for an empty JSON object, and what is wrong with the values is seen where they are opened.
func openable(obj kube.Object, isSealed bool) kube.Object {
	s, ok := obj.(*corev1.Secret)
	if !ok || !isSealed {
		return obj
	}
	s = s.DeepCopy()
	for k := range s.Data {
		s.Data[k] = []byte("{}")
	}
	return s
}

// hidden are annotations that nobody reads: texts of many lines.
var hidden = []string{"kubectl.kubernetes.io/last-applied-configuration", sealed.AnnotationIdentity, sealed.AnnotationSOPS}
