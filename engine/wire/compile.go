package wire

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/shoal-dev/shoal/engine/place"
)

// Compile returns the tables of one node. A node port or an address that two Services claim stays with the
// first by namespace/name, so that tables never contradict themselves.
func Compile(in Input) Tables {
	t := Tables{
		PodCIDR: in.PodCIDR, Cluster: in.Cluster, ServiceCIDR: in.ServiceCIDR, DNS: in.DNS, Domain: in.Domain,
		Ports: make([]Port, 0, len(in.Services)),
		Names: make([]Name, 0, len(in.Services)),
	}
	t.Overlay = overlay(in.Ring, in.OverlayPort)
	t.Routes, t.Address = routes(in.Node, in.Nodes, in.Tunnels)
	t.Tunnel = in.Tunnels[in.Node]
	t.Isolated = isolations(in.Node, in.Confined)
	services := slices.Clone(in.Services)
	slices.SortFunc(services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Object.Namespace, b.Object.Namespace), cmp.Compare(a.Object.Name, b.Object.Name))
	})
	pods := index(services, in.Pods)
	taken := make(map[claim]bool, len(services))
	for i := range services {
		s := &services[i]
		selected := pods.match(s.Object)
		if s.Object.Spec.Type != corev1.ServiceTypeExternalName && s.ClusterIP.IsValid() {
			known := len(t.Ports)
			t.Ports = appendPorts(t.Ports, s, pods, selected, in.Node, taken)
			t.Doors = appendDoors(t.Doors, s, t.Ports[known:])
		}
		t.Names = appendNames(t.Names, s, pods, selected, in.Domain)
	}
	slices.SortFunc(t.Ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(t.Doors, func(a, b Door) int { return cmp.Compare(a.NodePort, b.NodePort) })
	slices.SortFunc(t.Names, func(a, b Name) int { return cmp.Compare(a.Name, b.Name) })
	t.Names = slices.CompactFunc(t.Names, func(a, b Name) bool { return a.Name == b.Name })
	return t
}

// claim is what only one port can have: an address and port, or (without an address) a node port.
type claim struct {
	ip       netip.Addr
	protocol Protocol
	port     uint16
}

func appendPorts(ports []Port, s *Service, pods selection, selected []int32, node place.NodeID, taken map[claim]bool) []Port {
	o := s.Object
	local := o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	inside := selected
	if p := o.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		inside = pods.on(node, selected)
	}
	serving := pods.serving(o, inside)
	full := o.Namespace + "/" + o.Name
	for i := range o.Spec.Ports {
		sp := &o.Spec.Ports[i]
		p := Port{
			Service: full, Name: sp.Name, Protocol: protocol(sp.Protocol), ClusterIP: s.ClusterIP, Port: uint16(sp.Port),
			Affinity: affinity(o),
		}
		if at := (claim{p.ClusterIP, p.Protocol, p.Port}); taken[at] {
			continue
		} else {
			taken[at] = true
		}
		p.Endpoints = pods.endpoints(serving, sp)
		if i < len(s.NodePorts) && s.NodePorts[i] != 0 {
			if at := (claim{netip.Addr{}, p.Protocol, s.NodePorts[i]}); !taken[at] {
				taken[at] = true
				p.NodePort, p.Local = s.NodePorts[i], local
				p.External = outside(p.Endpoints, pods, o, sp, node, selected, inside, local)
			}
		}
		ports = append(ports, p)
	}
	return ports
}

func appendDoors(doors []Door, s *Service, ports []Port) []Door {
	for i := range ports {
		if p := &ports[i]; s.Preview != "" && p.NodePort != 0 && p.Protocol == TCP {
			doors = append(doors, Door{s.Preview, p.NodePort, s.Asleep, netip.AddrPortFrom(p.ClusterIP, p.Port), len(p.Endpoints) > 0})
		}
	}
	return doors
}

// outside returns who answers at the node port. It shares the slice of endpoints when no policy tells them apart.
func outside(endpoints []netip.AddrPort, pods selection, o *corev1.Service, sp *corev1.ServicePort, node place.NodeID, selected, inside []int32, local bool) []netip.AddrPort {
	switch {
	case local:
		return pods.endpoints(pods.serving(o, pods.on(node, selected)), sp)
	case len(inside) != len(selected):
		return pods.endpoints(pods.serving(o, selected), sp)
	}
	return endpoints
}

// on narrows pods to those of a node.
func (s selection) on(node place.NodeID, pods []int32) []int32 {
	var here []int32
	for _, i := range pods {
		if s.pods[i].Node == node {
			here = append(here, i)
		}
	}
	return here
}

// endpoints returns the addresses of pods for a service's port; a pod without the target port's name is left out.
func (s selection) endpoints(pods []int32, sp *corev1.ServicePort) []netip.AddrPort {
	if len(pods) == 0 {
		return nil
	}
	out := make([]netip.AddrPort, 0, len(pods))
	for _, i := range pods {
		if port := target(&s.pods[i], sp); port != 0 {
			out = append(out, netip.AddrPortFrom(s.pods[i].IP, port))
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// target is the port of the pod that sp means, or 0 if it has none.
func target(p *Pod, sp *corev1.ServicePort) uint16 {
	if sp.TargetPort.Type == intstr.Int {
		if sp.TargetPort.IntVal == 0 {
			return uint16(sp.Port)
		}
		return uint16(sp.TargetPort.IntVal)
	}
	for i := range p.Ports {
		if p.Ports[i].Name == sp.TargetPort.StrVal && protocol(p.Ports[i].Protocol) == protocol(sp.Protocol) {
			return uint16(p.Ports[i].ContainerPort)
		}
	}
	return 0
}

func protocol(p corev1.Protocol) Protocol {
	if p == "" {
		return TCP
	}
	return Protocol(strings.ToLower(string(p)))
}

// affinity is in seconds, by default 3 hours as in Kubernetes.
func affinity(o *corev1.Service) int32 {
	if o.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := o.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return *c.ClientIP.TimeoutSeconds
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}
