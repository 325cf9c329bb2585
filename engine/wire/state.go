package wire

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// FromState reads from the ledger's state what Compile needs for one node. An object that cannot be read is left
// out: its bytes were on disk when it was activated.
func FromState(s *cluster.State, node place.NodeID, content desired.Content) Input {
	in := Input{Node: node}
	ring, ok := s.Ring()
	if !ok {
		return in
	}
	in.Cluster, in.ServiceCIDR, in.Domain = ring.PodCIDR, ring.ServiceCIDR, ring.Domain
	in.DNS = netip.AddrPortFrom(DNSAddress(ring.ServiceCIDR), 53)
	in.Ring, in.Tunnels = ring.Genesis.Ring, map[place.NodeID]cluster.Tunnel{}
	for n := range s.Nodes().Values() {
		in.Nodes = append(in.Nodes, n.Node)
		if n.Tunnel != (cluster.Tunnel{}) {
			in.Tunnels[n.ID] = n.Tunnel
		}
		if n.ID == node {
			in.PodCIDR = n.PodCIDR
		}
	}
	for svc := range s.Services().Values() {
		object, err := s.ServiceOf(svc.Object, content)
		if err != nil {
			continue
		}
		one := Service{Object: object, ClusterIP: svc.ClusterIP, NodePorts: nodePorts(svc, object), Commit: s.PreviewRuns(svc.Environment)}
		if p, ok := s.Previews().Get(svc.Environment); ok {
			one.Preview, one.Asleep = p.Name, p.Asleep
		}
		in.Services = append(in.Services, one)
	}
	in.Confined = appendEnded(nil, s, node)
	for p := range s.Pods().Values() {
		if p.Node == "" {
			continue
		}
		template, err := s.TemplateOf(p.Object, content)
		if p.IP.IsValid() && confines(s, p, template) { // also one that has ended: its address is its own until it is taken down
			in.Confined = append(in.Confined, Confined{p.Environment, p.IP, p.Node})
		}
		if err != nil || len(in.Services) == 0 || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		pod := Pod{
			Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, IP: p.IP, Node: p.Node, Ready: p.Lost == 0 && ready(&p.Status), Deleting: p.Deleting != 0,
			Hostname: template.Spec.Hostname, Subdomain: template.Spec.Subdomain,
		}
		for i := range template.Spec.Containers {
			pod.Ports = append(pod.Ports, template.Spec.Containers[i].Ports...)
		}
		if template.Spec.HostNetwork {
			if n, ok := s.Nodes().Get(p.Node); ok {
				pod.IP = n.Address
			}
		}
		in.Pods = append(in.Pods, pod)
	}
	return in
}

// DNSAddress is the tenth address of the services' range, as Kubernetes' installers have it.
func DNSAddress(services netip.Prefix) netip.Addr {
	a := services.Masked().Addr()
	for range 10 {
		a = a.Next()
	}
	return a
}

// nodePorts are the node ports of a service by index of its ports.
func nodePorts(svc *cluster.Service, object *corev1.Service) []uint16 {
	if len(svc.NodePorts) == 0 {
		return nil
	}
	out := make([]uint16, len(object.Spec.Ports))
	for i, p := range object.Spec.Ports {
		for _, given := range svc.NodePorts {
			if given.Port == p.Port && given.Name == p.Name && strings.EqualFold(given.Protocol, string(p.Protocol)) {
				out[i] = uint16(given.NodePort)
			}
		}
	}
	return out
}

func ready(s *corev1.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
