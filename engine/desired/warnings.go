package desired

import (
	"fmt"

	"github.com/shoal-dev/shoal/engine/render"
)

// label is one label of pods in one namespace.
type label struct{ namespace, key, value string }

// warnings tells what Kubernetes allows and an author hardly means: a Service whose selector matches no pod that any
// object here makes.
func (b *builder) warnings() render.Problems {
	byLabel := map[label][]*part{}
	for i := range b.parts {
		p := &b.parts[i]
		for k, v := range p.Labels {
			l := label{p.Key.Namespace, k, v}
			byLabel[l] = append(byLabel[l], p)
		}
	}
	var out render.Problems
	for i := range b.parts {
		p := &b.parts[i]
		if p.held || len(p.Selector) == 0 || selects(p, byLabel) {
			continue
		}
		out = append(out, p.at("spec.selector", fmt.Sprintf("no pod of namespace %s has these labels: the Service has no endpoints", p.Key.Namespace)))
	}
	return out.Sorted()
}

// selects looks only at the pods of the rarest label of the selector.
func selects(service *part, byLabel map[label][]*part) bool {
	var rarest []*part
	first := true
	for k, v := range service.Selector {
		if c := byLabel[label{service.Key.Namespace, k, v}]; first || len(c) < len(rarest) {
			rarest, first = c, false
		}
	}
	for _, p := range rarest {
		if matches(service.Selector, p.Labels) {
			return true
		}
	}
	return false
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, there := labels[k]; !there || got != v {
			return false
		}
	}
	return true
}
