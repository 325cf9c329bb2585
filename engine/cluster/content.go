package cluster

import (
	"encoding/json"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-dev/shoal/engine/desired"
)

// objectCache keeps decoded objects by digest. It is no part of the State: equal digests give equal objects. It
// may be shared by snapshots in several goroutines.
type objectCache struct {
	mu      sync.Mutex
	objects map[desired.Digest]any
	limit   int
}

func newObjectCache() *objectCache {
	return &objectCache{objects: map[desired.Digest]any{}, limit: 4096}
}

func (c *objectCache) get(d desired.Digest) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.objects[d]
	return o, ok
}

// put keeps o; when the cache is full it starts anew, with room for twice what the State refers to.
func (c *objectCache) put(d desired.Digest, o any, referred int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.objects) >= c.limit {
		c.limit = max(4096, 2*referred)
		if len(c.objects) >= c.limit {
			clear(c.objects)
		}
	}
	c.objects[d] = o
}

// load returns the object at d, of one of the kinds that rules know; nil for other kinds. The object is shared
// and must not be changed.
func (s *State) load(d desired.Digest, content desired.Content) (any, error) {
	if o, ok := s.objectCache.get(d); ok {
		return o, nil
	}
	b, err := content.Get(d)
	if err != nil {
		return nil, stallError{fmt.Sprintf("content %s: %v", short(d), err)}
	}
	o, err := decodeObject(b)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", short(d), err)
	}
	s.objectCache.put(d, o, s.blobs.Len())
	return o, nil
}

func decodeObject(b []byte) (any, error) {
	var meta metav1.TypeMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return nil, err
	}
	var o any
	switch meta.APIVersion + " " + meta.Kind {
	case "v1 Pod":
		o = new(corev1.Pod)
	case "v1 Service":
		o = new(corev1.Service)
	case "apps/v1 ReplicaSet":
		o = new(appsv1.ReplicaSet)
	case "apps/v1 Deployment":
		o = new(appsv1.Deployment)
	case "batch/v1 Job":
		o = new(batchv1.Job)
	case "batch/v1 CronJob":
		o = new(batchv1.CronJob)
	default:
		return nil, nil
	}
	if err := json.Unmarshal(b, o); err != nil {
		return nil, err
	}
	return o, nil
}

// object loads the object at d as a T. Missing bytes stall the Step; bytes that are no T are our fault or the
// submitter's, and an error.
func object[T any](t *tx, d desired.Digest) *T {
	o, err := t.s.load(d, t.content)
	if why, ok := err.(stallError); ok {
		panic(stall(why))
	}
	if err != nil {
		panic(err)
	}
	v, ok := o.(*T)
	if !ok {
		panic(fmt.Errorf("object %s is a %T, not a %T", short(d), o, v))
	}
	return v
}

// TemplateOf returns the pod template inside the object at d: that of a workload, or a bare Pod as one. What it
// returns is shared and must not be changed.
func (s *State) TemplateOf(d desired.Digest, content desired.Content) (*corev1.PodTemplateSpec, error) {
	o, err := s.load(d, content)
	if err != nil {
		return nil, err
	}
	if t := templateOf(o); t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("object %s has no pod template", short(d))
}

func templateOf(o any) *corev1.PodTemplateSpec {
	switch o := o.(type) {
	case *corev1.Pod:
		return &corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	default:
		return nil
	}
}

func short(d desired.Digest) string { return clip(string(d), 12) }
