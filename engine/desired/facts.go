package desired

import (
	"encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
)

// Facts are what cross-references need to know of an object.
type Facts struct {
	Keys      []string          `json:"keys,omitempty"`      // of a ConfigMap or Secret: what it holds; sorted
	Frozen    Digest            `json:"frozen,omitempty"`    // of an immutable ConfigMap or Secret: its data
	Refs      []Ref             `json:"refs,omitempty"`      // of a pod template: what it needs
	Images    []string          `json:"images,omitempty"`    // of a pod template; sorted, each once
	Labels    map[string]string `json:"labels,omitempty"`    // of the pods
	Selector  map[string]string `json:"selector,omitempty"`  // of a Service
	NodePorts []NodePort        `json:"nodePorts,omitempty"` // of a Service, those its author chose
	Uses      map[string]int64  `json:"uses,omitempty"`      // by what a quota may bound: cpu in thousandths, memory in bytes, else how many
}

// Ref is one mention of a ConfigMap or Secret in a pod template; the namespace is the object's own.
type Ref struct {
	Kind     string `json:"kind"` // "ConfigMap" or "Secret"
	Name     string `json:"name"`
	Key      string `json:"key,omitempty"`      // "" when the whole is meant
	Optional bool   `json:"optional,omitempty"` // it may be missing
	Path     string `json:"path"`               // where it is mentioned
}

// NodePort is a port that is taken on every node.
type NodePort struct {
	Port     int32  `json:"port"`
	Protocol string `json:"protocol"` // "TCP", "UDP" or "SCTP"
	Path     string `json:"path"`
}

// factsOf reads the facts of an object, defaulted.
func factsOf(obj kube.Object) Facts {
	f := Facts{Uses: usesOf(obj)}
	switch o := obj.(type) {
	case *corev1.ConfigMap:
		f.Keys = append(sortedKeys(o.Data), sortedKeys(o.BinaryData)...)
		slices.Sort(f.Keys)
		f.Frozen = frozen(o.Immutable, o.Data, o.BinaryData)
	case *corev1.Secret:
		f.Keys = sortedKeys(o.Data)
		f.Frozen = frozen(o.Immutable, o.Type, o.Data)
	case *corev1.Service:
		f.Selector = o.Spec.Selector
		for i, p := range o.Spec.Ports {
			if p.NodePort != 0 {
				f.NodePorts = append(f.NodePorts, NodePort{p.NodePort, string(p.Protocol), fmt.Sprintf("spec.ports[%d].nodePort", i)})
			}
		}
	default:
		if t := PodTemplate(obj); t != nil {
			_, path := podSpecOf(obj)
			f.Labels = t.Labels
			f.Refs = refsOf(&t.Spec, path)
			f.Images = imagesOf(&t.Spec)
		}
	}
	return f
}

// frozen is a digest of what must stay as it is while immutable is set.
func frozen(immutable *bool, data ...any) Digest {
	if immutable == nil || !*immutable {
		return ""
	}
	var all []byte
	for _, d := range data {
		b, err := json.Marshal(d)
		if err != nil || string(b) == "{}" { // strings and maps of them always encode; {} is as good as absent
			b = []byte("null")
		}
		all = append(append(all, b...), '\n')
	}
	return DigestOf(all)
}

// PodTemplate returns the template of the pods that obj makes, or nil if it makes none. A Pod is its own template.
// The result shares memory with obj.
func PodTemplate(obj kube.Object) *corev1.PodTemplateSpec {
	switch o := obj.(type) {
	case *corev1.Pod:
		return &corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	}
	return nil
}

// podSpecOf returns the pod spec inside obj and its path, or nil.
func podSpecOf(obj kube.Object) (*corev1.PodSpec, string) {
	switch o := obj.(type) {
	case *corev1.Pod:
		return &o.Spec, "spec"
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.Spec, "spec.jobTemplate.spec.template.spec"
	}
	if t := PodTemplate(obj); t != nil {
		return &t.Spec, "spec.template.spec"
	}
	return nil, ""
}

func imagesOf(spec *corev1.PodSpec) []string {
	var images []string
	eachContainer(spec, func(c *corev1.Container, _ string) { images = append(images, c.Image) })
	slices.Sort(images)
	return slices.Compact(images)
}

// refsOf lists what a pod needs, in the order of its spec.
func refsOf(spec *corev1.PodSpec, path string) []Ref {
	var refs []Ref
	add := func(kind, name, key string, optional *bool, format string, args ...any) {
		refs = append(refs, Ref{kind, name, key, optional != nil && *optional, path + "." + fmt.Sprintf(format, args...)})
	}
	items := func(kind, name string, items []corev1.KeyToPath, optional *bool, at string) {
		if len(items) == 0 {
			add(kind, name, "", optional, "%s", at)
		}
		for i, it := range items {
			add(kind, name, it.Key, optional, "%s.items[%d].key", at, i)
		}
	}
	for i, v := range spec.Volumes {
		at := fmt.Sprintf("volumes[%d]", i)
		switch {
		case v.ConfigMap != nil:
			items("ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional, at+".configMap")
		case v.Secret != nil:
			items("Secret", v.Secret.SecretName, v.Secret.Items, v.Secret.Optional, at+".secret")
		case v.Projected != nil:
			for j, s := range v.Projected.Sources {
				at := fmt.Sprintf("%s.projected.sources[%d]", at, j)
				if s.ConfigMap != nil {
					items("ConfigMap", s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, at+".configMap")
				}
				if s.Secret != nil {
					items("Secret", s.Secret.Name, s.Secret.Items, s.Secret.Optional, at+".secret")
				}
			}
		}
	}
	for i, s := range spec.ImagePullSecrets {
		add("Secret", s.Name, "", nil, "imagePullSecrets[%d]", i)
	}
	eachContainer(spec, func(c *corev1.Container, at string) {
		for i, e := range c.EnvFrom {
			if r := e.ConfigMapRef; r != nil {
				add("ConfigMap", r.Name, "", r.Optional, "%s.envFrom[%d].configMapRef", at, i)
			}
			if r := e.SecretRef; r != nil {
				add("Secret", r.Name, "", r.Optional, "%s.envFrom[%d].secretRef", at, i)
			}
		}
		for i, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				add("ConfigMap", r.Name, r.Key, r.Optional, "%s.env[%d].valueFrom.configMapKeyRef", at, i)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				add("Secret", r.Name, r.Key, r.Optional, "%s.env[%d].valueFrom.secretKeyRef", at, i)
			}
		}
	})
	return refs
}
