package wire

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// Isolation says to whom some pods of the node may speak first: to the addresses in To, be it by way of a Service, and to the
// ring's DNS. Nothing else that they send leaves them, but for answers to who spoke to them first.
type Isolation struct {
	Name string       // of the environment
	From []netip.Addr // on this node; sorted, at least one, and each in one Isolation only
	To   []netip.Addr // on any node; sorted
}

// Equal tells whether two are the same in every field.
func (i Isolation) Equal(o Isolation) bool {
	return i.Name == o.Name && slices.Equal(i.From, o.From) && slices.Equal(i.To, o.To)
}

// Confined is a pod that may speak to those of its own environment alone.
type Confined struct {
	Environment string
	IP          netip.Addr
	Node        place.NodeID
}

// isolations are those that have pods on the node, by name.
func isolations(node place.NodeID, confined []Confined) []Isolation {
	if len(confined) == 0 {
		return nil
	}
	byName := map[string]*Isolation{}
	for _, c := range confined {
		if !c.IP.IsValid() {
			continue
		}
		i := byName[c.Environment]
		if i == nil {
			i = &Isolation{Name: c.Environment}
			byName[c.Environment] = i
		}
		i.To = append(i.To, c.IP)
		if c.Node == node {
			i.From = append(i.From, c.IP)
		}
	}
	var out []Isolation
	for i := range maps.Values(byName) {
		if len(i.From) == 0 {
			continue
		}
		for _, list := range []*[]netip.Addr{&i.From, &i.To} {
			slices.SortFunc(*list, netip.Addr.Compare)
			*list = slices.Compact(*list)
		}
		out = append(out, *i)
	}
	slices.SortFunc(out, func(a, b Isolation) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// confines tells whether a pod may speak to its own environment alone: the record of its preview says so, or, when the preview is over
// and its pods still have time to end, what it was made from. template may be nil: it cannot be read.
func confines(s *cluster.State, p *control.Pod, template *corev1.PodTemplateSpec) bool {
	if have, ok := s.Previews().Get(p.Environment); ok && have.Sandbox.DenyEgress {
		return true
	}
	return template != nil && template.Annotations[desired.EgressAnnotation] == desired.EgressEnvironment
}

// appendEnded adds the pods that were given up on the node while nobody heard of it, and that may still run there, if their
// environment is confined or is gone, so that nobody can say whether it was.
func appendEnded(confined []Confined, s *cluster.State, node place.NodeID) []Confined {
	for e := range s.Ended().Values() {
		if e.Node != node || !e.IP.IsValid() {
			continue
		}
		have, ok := s.Previews().Get(e.Namespace)
		if ok && have.Sandbox.DenyEgress || !ok && !isNamespace(s, e.Namespace) {
			confined = append(confined, Confined{e.Namespace, e.IP, e.Node})
		}
	}
	return confined
}

func isNamespace(s *cluster.State, name string) bool {
	for e := range s.Environments().Values() {
		if e.Namespace == name {
			return true
		}
	}
	return false
}
