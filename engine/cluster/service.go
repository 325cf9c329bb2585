package cluster

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/desired"
)

// ServiceOf returns the Service at d. It is shared and must not be changed.
func (s *State) ServiceOf(d desired.Digest, content desired.Content) (*corev1.Service, error) {
	o, err := s.load(d, content)
	if err != nil {
		return nil, err
	}
	if svc, ok := o.object.(*corev1.Service); ok {
		return svc, nil
	}
	return nil, fmt.Errorf("object %s is no Service", short(d))
}
