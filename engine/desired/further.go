package desired

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
)

// Node ports, as Kubernetes has them by default.
const (
	nodePortLow  = 30000
	nodePortHigh = 32767
)

// further tells what Kubernetes finds out only after validation, in an allocator or an admission plugin, and what of
// a whole object does not work yet.
func further(obj kube.Object, tell func(path, text string)) {
	if spec, path := podSpecOf(obj); spec != nil && !spec.HostNetwork {
		eachContainer(spec, func(c *corev1.Container, at string) {
			for i, p := range c.Ports {
				if p.HostPort != 0 {
					tell(fmt.Sprintf("%s.%s.ports[%d].hostPort", path, at, i), "not supported yet without hostNetwork; a Service of type NodePort is")
				}
			}
		})
	}
	checkStrict(obj, tell)
	switch o := obj.(type) {
	case *corev1.Service:
		for i, p := range o.Spec.Ports {
			if p.NodePort != 0 && (p.NodePort < nodePortLow || p.NodePort > nodePortHigh) {
				tell(fmt.Sprintf("spec.ports[%d].nodePort", i), fmt.Sprintf(
					"Invalid value: %d: provided port is not in the valid range. The range of valid ports is %d-%d",
					p.NodePort, nodePortLow, nodePortHigh))
			}
		}
		if len(o.Spec.Selector) == 0 && o.Spec.Type != corev1.ServiceTypeExternalName {
			tell("spec.selector", "Required value: a Service without selector is not supported yet")
		}
	case *corev1.Secret:
		if o.Type == corev1.SecretTypeServiceAccountToken || o.Type == corev1.SecretTypeBootstrapToken {
			tell("type", fmt.Sprintf("%s: not supported yet", o.Type))
		}
	}
}
