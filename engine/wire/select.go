package wire

import corev1 "k8s.io/api/core/v1"

// label is one "key=value" of a namespace.
type label struct{ namespace, key, value string }

// selection finds the pods of a selector without looking at every pod for every Service: pods are indexed by
// those labels that some selector asks for.
type selection struct {
	pods []Pod
	with map[label][]int32 // indexes of pods, ascending
}

func index(services []Service, pods []Pod) selection {
	s := selection{pods: pods, with: make(map[label][]int32)}
	for i := range services {
		o := services[i].Object
		for k, v := range o.Spec.Selector {
			s.with[label{o.Namespace, k, v}] = nil
		}
	}
	for i := range pods {
		if !pods[i].IP.IsValid() {
			continue
		}
		for k, v := range pods[i].Labels {
			l := label{pods[i].Namespace, k, v}
			if have, asked := s.with[l]; asked {
				s.with[l] = append(have, int32(i))
			}
		}
	}
	return s
}

// match returns the indexes of the pods that o selects and that have an address. A Service without a selector
// selects none.
func (s selection) match(o *corev1.Service) []int32 {
	var rarest []int32
	first := true
	for k, v := range o.Spec.Selector {
		if have := s.with[label{o.Namespace, k, v}]; first || len(have) < len(rarest) {
			rarest, first = have, false
		}
	}
	if len(o.Spec.Selector) < 2 {
		return rarest
	}
	var found []int32
next:
	for _, i := range rarest {
		for k, v := range o.Spec.Selector {
			if s.pods[i].Labels[k] != v {
				continue next
			}
		}
		found = append(found, i)
	}
	return found
}

// serving narrows the selected pods to those that answer, by the rule of the package comment.
func (s selection) serving(o *corev1.Service, selected []int32) []int32 {
	if o.Spec.PublishNotReadyAddresses {
		return selected
	}
	var ready, leaving []int32
	for _, i := range selected {
		switch p := &s.pods[i]; {
		case p.Ready && !p.Deleting:
			ready = append(ready, i)
		case p.Ready:
			leaving = append(leaving, i)
		}
	}
	if len(ready) == 0 {
		return leaving
	}
	return ready
}
