package wire

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// Input is what Compile reads. It changes nothing of it, and keeps nothing of it but strings.
type Input struct {
	Node        place.NodeID // whose tables are wanted
	PodCIDR     netip.Prefix // of that node
	Cluster     netip.Prefix // pods of the whole ring
	ServiceCIDR netip.Prefix
	DNS         netip.AddrPort
	Domain      string                          // "cluster.local", without dots at its ends
	Ring        string                          // the ring's id, 32 hex digits; the overlay's network number follows from it
	OverlayPort uint16                          // UDP port of the overlay; 0 for 4789
	Nodes       []place.Node                    // in any order, with this one; one without address or pod range gets no route
	Tunnels     map[place.NodeID]cluster.Tunnel // of the nodes that have WireGuard
	Services    []Service                       // in any order; each namespace/name once
	Pods        []Pod                           // in any order; those that are neither Succeeded nor Failed
	Confined    []Confined                      // in any order
}

// Service is a Service with the numbers it was given. The spec's own clusterIP (but for "None") and nodePorts
// are not read.
type Service struct {
	Object    *corev1.Service
	ClusterIP netip.Addr // invalid for a headless or ExternalName service
	NodePorts []uint16   // by index of spec.ports; 0, or beyond its end: none
	Commit    source.ID  // that its preview runs, whose name it has besides; "": none
	Preview   string     // whose it is; "": of no preview
	Asleep    bool       // that preview sleeps
}

// Pod is what Services must know of a pod.
type Pod struct {
	Namespace string
	Name      string
	Labels    map[string]string
	IP        netip.Addr // invalid: not known yet, and the pod answers for nothing
	Node      place.NodeID
	Ready     bool // the condition Ready, whether it is being deleted or not
	Deleting  bool // it was told to stop
	Hostname  string
	Subdomain string
	Ports     []corev1.ContainerPort // of all its containers, for target ports with a name
}
