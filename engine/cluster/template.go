package cluster

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
)

// PodObject is the pod that p stands for, whole and with Kubernetes' defaults: its name, labels, annotations and
// spec, as its containers are to be made from. The digests of its images are in p.Images. The result is the
// caller's own.
func (s *State) PodObject(p *control.Pod, content desired.Content) (*corev1.Pod, error) {
	o, err := s.load(p.Object, content)
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	if o.template == nil {
		return nil, fmt.Errorf("pod %s/%s: object %s has no pod template", p.Namespace, p.Name, short(p.Object))
	}
	pod := desired.Pod(o.template)
	pod.Name, pod.Namespace, pod.UID = p.Name, p.Namespace, types.UID(p.ID)
	pod.Labels = merged(nil, p.Labels)
	if p.Index != "" {
		indexed(pod, p)
	}
	return pod, nil
}

// TemplateOf returns the pod template inside the object at d: that of a workload, or a bare Pod as one. It is shared
// and must not be changed.
func (s *State) TemplateOf(d desired.Digest, content desired.Content) (*corev1.PodTemplateSpec, error) {
	o, err := s.load(d, content)
	if err != nil {
		return nil, err
	}
	if o.template == nil {
		return nil, fmt.Errorf("object %s has no pod template", short(d))
	}
	return o.template, nil
}

// indexed tells the pod of an Indexed Job its number, as Kubernetes does: by annotation, by environment variable,
// and by host name unless the template has one.
func indexed(pod *corev1.Pod, p *control.Pod) {
	pod.Annotations = merged(pod.Annotations, map[string]string{batchv1.JobCompletionIndexAnnotation: p.Index})
	add := func(containers []corev1.Container) {
		for i := range containers {
			c := &containers[i]
			c.Env = append(c.Env, corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations['" + batchv1.JobCompletionIndexAnnotation + "']"},
			}})
		}
	}
	add(pod.Spec.InitContainers)
	add(pod.Spec.Containers)
	if pod.Spec.Hostname == "" {
		pod.Spec.Hostname = clip(p.Owner.Key.Name, 63-1-len(p.Index)) + "-" + p.Index
	}
}
