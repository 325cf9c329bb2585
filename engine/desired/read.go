package desired

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
)

// Object reads an object of a Set. It needs no defaulting, and must not be changed by callers that share it.
func Object(content Content, d Digest) (kube.Object, error) {
	b, err := content.Get(d)
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", d, err)
	}
	return kube.Read(b)
}

// Reader reads objects and remembers the last ones. It is a memo of a pure function: dropping it changes nothing but
// time. Not safe for concurrent use.
type Reader struct {
	content  Content
	max      int
	new, old map[Digest]kube.Object
}

// NewReader returns a Reader that keeps at most 2*max objects, and the last max asked for.
func NewReader(content Content, max int) *Reader {
	return &Reader{content: content, max: max, new: map[Digest]kube.Object{}}
}

// Object is Object with a memory. Callers share the result and must not change it.
func (r *Reader) Object(d Digest) (kube.Object, error) {
	if o, ok := r.new[d]; ok {
		return o, nil
	}
	o, ok := r.old[d]
	if !ok {
		var err error
		if o, err = Object(r.content, d); err != nil {
			return nil, err
		}
	}
	if len(r.new) >= r.max {
		r.old, r.new = r.new, map[Digest]kube.Object{}
	}
	r.new[d] = o
	return o, nil
}

// Pod returns the pod that a template makes, with the defaults that Kubernetes gives to pods only and not to
// templates: requests equal to limits, service links, host ports of the host's network. It shares nothing with t.
// Its name and namespace are the caller's to set.
func Pod(t *corev1.PodTemplateSpec) *corev1.Pod {
	t = t.DeepCopy()
	p := &corev1.Pod{}
	p.APIVersion, p.Kind = "v1", "Pod"
	p.Labels, p.Annotations = t.Labels, t.Annotations
	p.Spec = t.Spec
	kube.Default(p)
	return p
}

// Job returns the Job that one run of a CronJob makes, with the defaults that Kubernetes gives to Jobs only and not to
// a CronJob's template. It shares nothing with c. Owner and annotations of the run are the caller's to set.
func Job(c *batchv1.CronJob, name string) *batchv1.Job {
	t := c.Spec.JobTemplate.DeepCopy()
	j := &batchv1.Job{}
	j.APIVersion, j.Kind = "batch/v1", "Job"
	j.Name, j.Namespace = name, c.Namespace
	j.Labels, j.Annotations = t.Labels, t.Annotations
	j.Spec = t.Spec
	kube.Default(j)
	return j
}
