package plan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// Ahead are the pods whose images a node is to have ahead of need (cluster.State.Ahead), with what pulling them takes: spec,
// digests of images, secrets. s must be a Snapshot.
func Ahead(s *cluster.State, node place.NodeID, content desired.Content) ([]*Pod, error) {
	records, err := s.Ahead(node, content)
	if err != nil {
		return nil, err
	}
	w := NewWants()
	w.configs = map[desired.Digest]any{}
	var out []*Pod
	for _, record := range records {
		pod, err := s.PodObject(record, content)
		if err != nil {
			return nil, err
		}
		p := &Pod{Pod: *record, Spec: &pod.Spec, Annotations: pod.Annotations}
		p.Images = record.Images
		if err := w.configure(s, p, &made{}, nil, content); err != nil {
			return nil, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// ImagesAhead are the references of the images that may be pulled for a pod before it is there, in its containers' order,
// each once.
func (p *Pod) ImagesAhead() (refs []string) {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.ImagePullPolicy != corev1.PullNever && !slices.Contains(refs, c.Image) {
			refs = append(refs, c.Image)
		}
	}
	return refs
}
