package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/place"
)

// loaded is a decoded object with what rules ask of it time and again.
type loaded struct {
	object   kube.Object
	template *corev1.PodTemplateSpec // nil for kinds that make no pods
	requests place.Resources         // of one pod
	ports    []string                // of the host, "tcp:80", sorted
}

// objectCache keeps decoded objects by digest. It is no part of the State: equal digests give equal objects. It
// may be shared by snapshots in several goroutines.
type objectCache struct {
	mu      sync.Mutex
	objects map[desired.Digest]*loaded
	kinds   map[string]*place.Kind // of pods made from them
	limit   int
}

func newObjectCache() *objectCache {
	return &objectCache{objects: map[desired.Digest]*loaded{}, kinds: map[string]*place.Kind{}, limit: 4096}
}

// kind returns what is known by a key, or makes it.
func (c *objectCache) kind(key string, make func() *place.Kind) *place.Kind {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.kinds[key]
	if !ok {
		if len(c.kinds) >= 2*c.limit {
			clear(c.kinds)
		}
		k = make()
		c.kinds[key] = k
	}
	return k
}

func (c *objectCache) get(d desired.Digest) (*loaded, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.objects[d]
	return o, ok
}

// put keeps o; when the cache is full it starts anew, with room for twice what the State refers to.
func (c *objectCache) put(d desired.Digest, o *loaded, referred int) {
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

// load returns the object at d; it is shared and must not be changed. Missing bytes are a stallError.
func (s *State) load(d desired.Digest, content desired.Content) (*loaded, error) {
	if o, ok := s.objectCache.get(d); ok {
		return o, nil
	}
	b, err := content.Get(d)
	if err != nil {
		return nil, stallError{fmt.Sprintf("content %s: %v", short(d), err)}
	}
	object, err := kube.Read(b)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", short(d), err)
	}
	o := &loaded{object: object, template: desired.PodTemplate(object)}
	if o.template != nil {
		spec := &desired.Pod(o.template).Spec // requests follow from limits in pods only, not in templates
		o.requests, o.ports = place.RequestsOf(spec), hostPorts(spec)
	}
	s.objectCache.put(d, o, s.blobs.Len())
	return o, nil
}

func hostPorts(spec *corev1.PodSpec) []string {
	var ports []string
	for i := range spec.Containers {
		for _, p := range spec.Containers[i].Ports {
			if p.HostPort != 0 {
				ports = append(ports, fmt.Sprintf("%s:%d", strings.ToLower(string(p.Protocol)), p.HostPort))
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// load is State.load within a Step: missing bytes stall it, and any other error is one of the object.
func (t *tx) load(d desired.Digest) *loaded {
	o, err := t.s.load(d, t.content)
	if why, ok := errors.AsType[stallError](err); ok {
		panic(stall(why))
	}
	if err != nil {
		panic(ruleError{err})
	}
	return o
}

// object loads the object at d as a T.
func object[T any](t *tx, d desired.Digest) *T {
	o := t.load(d).object
	v, ok := any(o).(*T)
	if !ok {
		panic(ruleError{fmt.Errorf("object %s is a %T, not a %T", short(d), o, v)})
	}
	return v
}

// template loads the pod template inside the object at d.
func (t *tx) template(d desired.Digest) *corev1.PodTemplateSpec {
	o := t.load(d)
	if o.template == nil {
		panic(ruleError{fmt.Errorf("object %s is a %T, which makes no pods", short(d), o.object)})
	}
	return o.template
}

func short(d desired.Digest) string { return clip(string(d), 12) }
