package desired

import (
	"fmt"

	"github.com/shoal-dev/shoal/engine/render"
)

// label is one label of pods in one namespace.
type label struct{ namespace, key, value string }

// warnings tells what Kubernetes allows and an author hardly means: a Service whose selector matches no pod that any
// object here makes. Most Services select pods of their own app, whose items are their neighbours; only for the
// others is an index made.
func (b *builder) warnings() render.Problems {
	var out render.Problems
	for _, name := range b.names {
		if !b.held[name] {
			out = append(out, b.apps[name].Warnings...)
		}
	}
	var byLabel map[label][]*part
	for start := 0; start < len(b.parts); {
		end := start + 1
		for end < len(b.parts) && b.parts[end].app == b.parts[start].app {
			end++
		}
		own := b.parts[start:end]
		start = end
		for i := range own {
			p := &own[i]
			if p.held || len(p.Selector) == 0 || selectsOwn(p, own) {
				continue
			}
			if byLabel == nil {
				byLabel = b.index()
			}
			if !selects(p, byLabel) {
				out = append(out, p.at("spec.selector", fmt.Sprintf("no pod of namespace %s has these labels: the Service has no endpoints", p.Key.Namespace)))
			}
		}
	}
	return out.Sorted()
}

// index finds the makers of pods by each of their labels.
func (b *builder) index() map[label][]*part {
	byLabel := map[label][]*part{}
	for i := range b.parts {
		p := &b.parts[i]
		for k, v := range p.Labels {
			l := label{p.Key.Namespace, k, v}
			byLabel[l] = append(byLabel[l], p)
		}
	}
	return byLabel
}

func selectsOwn(service *part, own []part) bool {
	for i := range own {
		if p := &own[i]; p.Key.Namespace == service.Key.Namespace && p.Labels != nil && matches(service.Selector, p.Labels) {
			return true
		}
	}
	return false
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
