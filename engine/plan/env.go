package plan

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// Environ is the environment of a container in Kubernetes' order: service variables, envFrom, env; a later
// name wins and $(VAR) is expanded from what came before. A missing ConfigMap, Secret or key that is not
// optional is an error that names it.
//
// A pod of which one may run gets its epoch as SHOAL_EPOCH, a number that is higher than that of any before it: who keeps its
// data can refuse one that was believed dead and writes on.
func Environ(p *Pod, c *corev1.Container) ([]string, error) {
	vars := map[string]string{}
	for _, v := range p.ServiceEnv {
		vars[v.Name] = v.Value
	}
	if p.Fenced {
		vars["SHOAL_EPOCH"] = strconv.FormatUint(p.Epoch, 10)
	}
	own := map[string]string{}
	for _, from := range c.EnvFrom {
		values, err := p.envFrom(from)
		if err != nil {
			return nil, fmt.Errorf("container %s: envFrom: %w", c.Name, err)
		}
		for k, v := range values {
			own[from.Prefix+k] = v
		}
	}
	lookup := expansion.MappingFuncFor(own, vars)
	for _, e := range c.Env {
		value := expansion.Expand(e.Value, lookup)
		if e.ValueFrom != nil {
			var set bool
			var err error
			if value, set, err = p.valueFrom(e.ValueFrom, c); err != nil {
				return nil, fmt.Errorf("container %s: env %s: %w", c.Name, e.Name, err)
			}
			if !set {
				continue
			}
		}
		own[e.Name] = value
	}
	maps.Copy(vars, own)
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out, nil
}

// Argv expands $(VAR) in a container's command and args from its environment.
func Argv(c *corev1.Container, environ []string) (command, args []string) {
	vars := make(map[string]string, len(environ))
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		vars[k] = v
	}
	lookup := expansion.MappingFuncFor(vars)
	expand := func(in []string) (out []string) {
		for _, s := range in {
			out = append(out, expansion.Expand(s, lookup))
		}
		return out
	}
	return expand(c.Command), expand(c.Args)
}

func (p *Pod) envFrom(from corev1.EnvFromSource) (map[string]string, error) {
	switch {
	case from.ConfigMapRef != nil:
		cm := p.ConfigMaps[from.ConfigMapRef.Name]
		if cm == nil {
			if from.ConfigMapRef.Optional != nil && *from.ConfigMapRef.Optional {
				return nil, nil
			}
			return nil, fmt.Errorf("ConfigMap %s/%s does not exist", p.Namespace, from.ConfigMapRef.Name)
		}
		return cm.Data, nil
	case from.SecretRef != nil:
		sec := p.Secrets[from.SecretRef.Name]
		if sec == nil {
			if from.SecretRef.Optional != nil && *from.SecretRef.Optional {
				return nil, nil
			}
			return nil, fmt.Errorf("Secret %s/%s does not exist", p.Namespace, from.SecretRef.Name)
		}
		out := make(map[string]string, len(sec.Data))
		for k, v := range sec.Data {
			out[k] = string(v)
		}
		return out, nil
	}
	return nil, nil
}

// valueFrom reads one reference; set is false where an optional one points at nothing.
func (p *Pod) valueFrom(from *corev1.EnvVarSource, c *corev1.Container) (value string, set bool, err error) {
	optional := func(o *bool, what, name, key string) (string, bool, error) {
		if o != nil && *o {
			return "", false, nil
		}
		return "", false, fmt.Errorf("%s %s/%s has no key %q", what, p.Namespace, name, key)
	}
	switch {
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		if cm := p.ConfigMaps[ref.Name]; cm != nil {
			if v, ok := cm.Data[ref.Key]; ok {
				return v, true, nil
			}
		}
		return optional(ref.Optional, "ConfigMap", ref.Name, ref.Key)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		if sec := p.Secrets[ref.Name]; sec != nil {
			if v, ok := sec.Data[ref.Key]; ok {
				return string(v), true, nil
			}
		}
		return optional(ref.Optional, "Secret", ref.Name, ref.Key)
	case from.FieldRef != nil:
		v, err := Field(p, from.FieldRef.FieldPath)
		return v, err == nil, err
	case from.ResourceFieldRef != nil:
		v, err := ResourceField(p, c, from.ResourceFieldRef)
		return v, err == nil, err
	}
	return "", false, nil
}

// Field is the downward API's fieldRef: metadata.name, .namespace, .uid, .labels and .annotations (whole, or
// ['key']), spec.nodeName, spec.serviceAccountName, status.podIP(s), status.hostIP(s).
func Field(p *Pod, path string) (string, error) {
	if name, key, ok := strings.Cut(strings.TrimSuffix(path, "']"), "['"); ok {
		switch name {
		case "metadata.labels":
			return p.Labels[key], nil
		case "metadata.annotations":
			return p.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.ID), nil
	case "metadata.labels":
		return formatMap(p.Labels), nil
	case "metadata.annotations":
		return formatMap(p.Annotations), nil
	case "spec.nodeName":
		return p.NodeName, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		if p.Spec.HostNetwork {
			return p.NodeIP.String(), nil
		}
		return p.IP.String(), nil
	case "status.hostIP", "status.hostIPs":
		return p.NodeIP.String(), nil
	}
	return "", fmt.Errorf("fieldRef %q is not supported", path)
}

// formatMap writes labels as Kubernetes' downward API does: sorted, one key="value" a line.
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(lines, "\n")
}

// ResourceField is the downward API's resourceFieldRef: a request or limit in units of its divisor, rounded up.
// A limit that is not set is what the node has. Without a container's name c is meant, which may be nil where a name
// is required, as in a volume.
func ResourceField(p *Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if c == nil || ref.ContainerName != "" {
		if c = p.Container(ref.ContainerName); c == nil {
			return "", fmt.Errorf("resourceFieldRef: container %q does not exist", ref.ContainerName)
		}
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	if kind != "limits" && kind != "requests" || !knownResource(name) {
		return "", fmt.Errorf("resourceFieldRef: resource %q is not supported", ref.Resource)
	}
	list := c.Resources.Limits
	if kind == "requests" {
		list = c.Resources.Requests
	}
	amount, ok := list[corev1.ResourceName(name)]
	if !ok && kind == "limits" {
		amount = p.NodeCapacity[corev1.ResourceName(name)]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return ceilDiv(amount.MilliValue(), divisor.MilliValue()), nil
	}
	return ceilDiv(amount.Value(), divisor.Value()), nil
}

// knownResource says whether a resource can be asked for by resourceFieldRef, by Kubernetes' list.
func knownResource(name string) bool {
	switch corev1.ResourceName(name) {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	size, huge := strings.CutPrefix(name, corev1.ResourceHugePagesPrefix)
	return huge && size != ""
}

func ceilDiv(a, b int64) string {
	if b <= 0 {
		b = 1
	}
	if a > math.MaxInt64-b {
		return strconv.FormatInt(a/b, 10)
	}
	return strconv.FormatInt((a+b-1)/b, 10)
}
