package desired

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// The rules of admission, by id. An environment's policy may lift those of pod-security (render.Environment.Allow).
const (
	RulePrivileged   = "pod-security/privileged"
	RuleHostPath     = "pod-security/host-path"
	RuleHostNetwork  = "pod-security/host-network"
	RuleHostPID      = "pod-security/host-pid"
	RuleHostIPC      = "pod-security/host-ipc"
	RuleCapabilities = "pod-security/capabilities"
	RuleNamespace    = "namespace/foreign"
	RuleReserved     = "name/reserved"
)

// Rules lists the rules that a policy may lift, sorted.
func Rules() []string {
	return []string{RuleCapabilities, RuleHostIPC, RuleHostNetwork, RuleHostPath, RuleHostPID, RulePrivileged}
}

// capabilities are those that containers have anyway, so that adding one adds nothing.
var capabilities = []corev1.Capability{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
	"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// reservedNamespaces belong to Kubernetes' own parts, and to the ring's.
var reservedNamespaces = []string{"kube-node-lease", "kube-public", "kube-system", "shoal-system"}

// reservedNames are made by the ring itself.
var reservedNames = []Key{
	{Kind: "ConfigMap", Name: "kube-root-ca.crt"},
	{Kind: "Service", Namespace: "default", Name: "kubernetes"},
}

// home is the namespace of objects that name none.
func home(env render.Environment) string {
	if env.Namespace == "" {
		return env.Name
	}
	return env.Namespace
}

// settle puts an object into its namespace, or says why it may not be there. What an author wrote may not say what the ring says itself.
func settle(env render.Environment, obj kube.Object, key *Key, authored bool, tell func(path, text string)) {
	home := home(env)
	to := func(from, path string) string { return namespaceFor(env, from, path, tell) }
	if namespaced, _ := kube.Namespaced(key.Kind); namespaced {
		ns := home
		if named := obj.GetNamespace(); named != "" {
			ns = to(named, "metadata.namespace")
		}
		obj.SetNamespace(ns)
		key.Namespace = ns
	} else if key.Kind == "Namespace" && key.Name != "" {
		key.Name = to(key.Name, "metadata.name")
		obj.SetName(key.Name)
	}
	for _, r := range reservedNames {
		if r.Kind == key.Kind && r.Name == key.Name && (r.Namespace == "" || r.Namespace == key.Namespace) {
			tell("metadata.name", fmt.Sprintf("%s: %s is made by the ring itself", RuleReserved, key))
		}
	}
	if !authored {
		return
	}
	own := func(m map[string]string, path string) {
		for _, k := range sortedKeys(m) {
			if strings.HasPrefix(k, "shoal.dev/") && !slices.Contains(ownKeys, k) {
				tell(path+"["+k+"]", fmt.Sprintf("%s: only %s may be set under shoal.dev/", RuleReserved, strings.Join(ownKeys, ", ")))
			}
		}
	}
	own(obj.GetLabels(), "metadata.labels")
	own(obj.GetAnnotations(), "metadata.annotations")
}

// namespaceFor returns the namespace that a name in a manifest means, or says why the environment has none for it.
func namespaceFor(env render.Environment, from, path string, tell func(path, text string)) string {
	home := home(env)
	ns, listed := env.Namespaces[from]
	if !listed {
		ns = from
	}
	switch {
	case slices.Contains(reservedNamespaces, ns):
		tell(path, fmt.Sprintf("%s: namespace %s is reserved", RuleReserved, ns))
	case !listed && ns != home:
		tell(path, fmt.Sprintf("%s: %q is not a namespace of environment %s; expected %s", RuleNamespace, ns, env.Name, oneOfNames(env.Namespaces, home)))
	}
	return ns
}

func oneOfNames(m map[string]string, home string) string {
	return strings.Join(append([]string{home}, sortedKeys(m)...), " or ")
}

// admit refuses what gives a pod more than its share of the machine, unless the policy allows it.
func admit(env render.Environment, spec *corev1.PodSpec, path string, tell func(path, text string)) {
	refuse := func(rule, at, what string) {
		if env.Restricted || !slices.Contains(env.Allow, rule) {
			tell(path+"."+at, fmt.Sprintf("%s: %s is not allowed in environment %s", rule, what, env.Name))
		}
	}
	if spec.HostNetwork {
		refuse(RuleHostNetwork, "hostNetwork", "the host's network")
	}
	if spec.HostPID {
		refuse(RuleHostPID, "hostPID", "the host's process namespace")
	}
	if spec.HostIPC {
		refuse(RuleHostIPC, "hostIPC", "the host's IPC namespace")
	}
	for i, v := range spec.Volumes {
		if v.HostPath != nil {
			refuse(RuleHostPath, fmt.Sprintf("volumes[%d].hostPath", i), "a directory of the host")
		}
	}
	eachContainer(spec, func(c *corev1.Container, at string) {
		sc := c.SecurityContext
		if sc == nil {
			return
		}
		if sc.Privileged != nil && *sc.Privileged {
			refuse(RulePrivileged, at+".securityContext.privileged", "a privileged container")
		}
		if sc.Capabilities == nil {
			return
		}
		for i, c := range sc.Capabilities.Add {
			if !slices.Contains(capabilities, corev1.Capability(strings.TrimPrefix(string(c), "CAP_"))) {
				refuse(RuleCapabilities, fmt.Sprintf("%s.securityContext.capabilities.add[%d]", at, i), "capability "+string(c))
			}
		}
	})
}

// eachContainer visits init containers, then containers, with their path below the pod's spec.
func eachContainer(spec *corev1.PodSpec, visit func(c *corev1.Container, at string)) {
	for i := range spec.InitContainers {
		visit(&spec.InitContainers[i], fmt.Sprintf("initContainers[%d]", i))
	}
	for i := range spec.Containers {
		visit(&spec.Containers[i], fmt.Sprintf("containers[%d]", i))
	}
}
