package desired

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// RuleRestricted is the Pod Security Standard "restricted", as far as it goes beyond the other rules. No policy lifts it.
const RuleRestricted = "pod-security/restricted"

// restrict holds a pod to the Pod Security Standard "restricted" (Kubernetes 1.34), beyond what admit does. What the standard names and
// Shoal does not have yet (sysctls, AppArmor, SELinux, procMount, kinds of volumes) is refused as unsupported.
func restrict(env render.Environment, spec *corev1.PodSpec, path string, tell func(path, text string)) {
	refuse := func(at, expected string) {
		tell(path+"."+at, fmt.Sprintf("%s: expected %s in environment %s", RuleRestricted, expected, env.Name))
	}
	pod := spec.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if pod.RunAsNonRoot != nil && !*pod.RunAsNonRoot {
		refuse("securityContext.runAsNonRoot", "true")
	}
	if pod.RunAsUser != nil && *pod.RunAsUser == 0 {
		refuse("securityContext.runAsUser", "another user than 0")
	}
	if unconfined(pod.SeccompProfile) {
		refuse("securityContext.seccompProfile.type", "RuntimeDefault")
	}
	for i, v := range spec.Volumes {
		if !harmless(&v) {
			refuse(fmt.Sprintf("volumes[%d]", i), "configMap, downwardAPI, emptyDir, projected, secret or a claim")
		}
	}
	eachContainer(spec, func(c *corev1.Container, at string) {
		restrictContainer(pod, c, func(path, expected string) { refuse(at+"."+path, expected) })
	})
}

func restrictContainer(pod *corev1.PodSecurityContext, c *corev1.Container, refuse func(path, expected string)) {
	own := c.SecurityContext
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	if own.AllowPrivilegeEscalation == nil || *own.AllowPrivilegeEscalation {
		refuse("securityContext.allowPrivilegeEscalation", "false")
	}
	if own.RunAsNonRoot != nil && !*own.RunAsNonRoot || own.RunAsNonRoot == nil && pod.RunAsNonRoot == nil {
		refuse("securityContext.runAsNonRoot", "true, here or for the pod,")
	}
	if own.RunAsUser != nil && *own.RunAsUser == 0 {
		refuse("securityContext.runAsUser", "another user than 0")
	}
	if unconfined(own.SeccompProfile) || own.SeccompProfile == nil && pod.SeccompProfile == nil {
		refuse("securityContext.seccompProfile.type", "RuntimeDefault, here or for the pod,")
	}
	if own.Capabilities == nil || !slices.Contains(own.Capabilities.Drop, "ALL") {
		refuse("securityContext.capabilities.drop", "ALL")
	}
	if own.Capabilities != nil {
		for i, name := range own.Capabilities.Add {
			bare := corev1.Capability(strings.TrimPrefix(string(name), "CAP_"))
			if bare != "NET_BIND_SERVICE" && slices.Contains(capabilities, bare) { // of others admit tells
				refuse(fmt.Sprintf("securityContext.capabilities.add[%d]", i), "none but NET_BIND_SERVICE")
			}
		}
	}
	for i, p := range c.Ports {
		if p.HostPort != 0 {
			refuse(fmt.Sprintf("ports[%d].hostPort", i), "none")
		}
	}
	restrictHandlers(c, refuse)
}

// restrictHandlers refuses to have the node ask another than the pod itself.
func restrictHandlers(c *corev1.Container, refuse func(path, expected string)) {
	handler := func(at string, http *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) {
		if http != nil && http.Host != "" {
			refuse(at+".httpGet.host", "none")
		}
		if tcp != nil && tcp.Host != "" {
			refuse(at+".tcpSocket.host", "none")
		}
	}
	for _, p := range []struct {
		at    string
		probe *corev1.Probe
	}{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}} {
		if p.probe != nil {
			handler(p.at, p.probe.HTTPGet, p.probe.TCPSocket)
		}
	}
	if c.Lifecycle == nil {
		return
	}
	if h := c.Lifecycle.PostStart; h != nil {
		handler("lifecycle.postStart", h.HTTPGet, h.TCPSocket)
	}
	if h := c.Lifecycle.PreStop; h != nil {
		handler("lifecycle.preStop", h.HTTPGet, h.TCPSocket)
	}
}

func unconfined(p *corev1.SeccompProfile) bool {
	return p != nil && p.Type != corev1.SeccompProfileTypeRuntimeDefault && p.Type != corev1.SeccompProfileTypeLocalhost
}

// harmless tells whether a volume is of a kind that the standard allows. Of directories of the host admit tells; one that names no kind is
// made an emptyDir.
func harmless(v *corev1.Volume) bool {
	s := &v.VolumeSource
	return s.HostPath != nil || *s == corev1.VolumeSource{} || s.ConfigMap != nil || s.DownwardAPI != nil || s.EmptyDir != nil || s.Projected != nil ||
		s.Secret != nil || s.PersistentVolumeClaim != nil || s.Ephemeral != nil || s.CSI != nil
}

// confine marks the pods that an object makes as such that may speak to their own environment alone.
func confine(obj kube.Object) {
	mark := func(m map[string]string) map[string]string {
		if m == nil {
			m = map[string]string{}
		}
		m[EgressAnnotation] = EgressEnvironment
		return m
	}
	if p, ok := obj.(*corev1.Pod); ok {
		p.Annotations = mark(p.Annotations)
	} else if t := PodTemplate(obj); t != nil {
		t.Annotations = mark(t.Annotations)
	}
}
