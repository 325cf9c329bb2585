// Package wire is services and names as tables: not yet nftables or DNS bytes.
//
// Compile turns what is known of Services and pods (Input) into what one node's network must do (Tables). It
// depends on its argument alone and its results are sorted, so equal inputs give equal tables, and whoever
// carries them out can tell what changed by comparing two of them in order.
//
// Who answers for a port of a Service is decided here, once for firewall and DNS alike:
//
//   - pods that are ready and are not being deleted;
//   - if there is none of these, pods that are being deleted but still ready, so that the last ones of a
//     rolling update or of a scale-down serve until they are gone (Kubernetes' KEP-1669);
//   - with publishNotReadyAddresses every pod that has an address.
package wire

import (
	"net/netip"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// Tables is all that a node's network must do. Every slice is sorted; equal states give equal tables.
type Tables struct {
	PodCIDR     netip.Prefix // of this node: egress from it is masqueraded unless it stays in Cluster
	Address     netip.Addr   // of this node in the network beneath; invalid if not known
	Cluster     netip.Prefix // pods of the whole ring
	ServiceCIDR netip.Prefix
	DNS         netip.AddrPort // where pods ask
	Domain      string         // "cluster.local"
	Ports       []Port         // sorted by Service, Name, Protocol, Port
	Names       []Name         // sorted by Name
	Overlay     Overlay
	Tunnel      cluster.Tunnel // the node's own end of WireGuard, as the others know it; zero if they know of none
	// Strict is the node's own will: pods' packets leave for other nodes, and are taken from them, through WireGuard alone.
	// Compile leaves it to whoever knows.
	Strict bool
	Routes []Route // to the other nodes' pods, sorted by CIDR; nodes that are down keep theirs
	// Isolated is the pods of the node that may not speak to everybody; sorted by Name.
	Isolated []Isolation
	// Doors is the node ports of previews over TCP, as far as their Services have an address; sorted by NodePort.
	Doors []Door
}

// Door is a node port by which a preview is reached: who asks for one that sleeps wakes it.
type Door struct {
	Preview  string
	NodePort uint16
	Asleep   bool
	Service  netip.AddrPort // where what came in is taken
	Served   bool           // there are pods behind Service
}

// Flow is a connection that was led to a pod.
type Flow struct {
	Pod      netip.Addr
	Answered bool // the pod has answered once
}

// Protocol is "tcp", "udp" or "sctp".
type Protocol string

// The protocols a Service can have.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// Port is one port of one service: where it is reached, and who answers.
type Port struct {
	Service   string // "default/web"
	Name      string // of the port, may be empty
	Protocol  Protocol
	ClusterIP netip.Addr // invalid for none
	Port      uint16
	NodePort  uint16           // 0 for none; no two ports of a protocol share one
	Affinity  int32            // seconds of ClientIP session affinity; 0 for none
	Local     bool             // externalTrafficPolicy: Local
	Endpoints []netip.AddrPort // who answers at ClusterIP; sorted. None: connections are refused at once
	// External is who answers at NodePort; sorted. It is Endpoints, or with Local those of them on this node.
	External []netip.AddrPort
}

// Equal tells whether two ports are the same in every field.
func (p Port) Equal(o Port) bool {
	return p.Service == o.Service && p.Name == o.Name && p.Protocol == o.Protocol && p.ClusterIP == o.ClusterIP &&
		p.Port == o.Port && p.NodePort == o.NodePort && p.Affinity == o.Affinity && p.Local == o.Local &&
		slices.Equal(p.Endpoints, o.Endpoints) && slices.Equal(p.External, o.External)
}

// Name is one name in the ring's domain and its answers.
type Name struct {
	Name    string       // fully qualified, lower case, with the final dot
	Address []netip.Addr // A and AAAA; sorted
	SRV     []SRV        // sorted by target and port
	CNAME   string       // of an ExternalName service, with the final dot; otherwise empty
	Reverse bool         // Address is answered with this name when asked for in reverse
}

// SRV is one answer to a query for a service's port.
type SRV struct {
	Target string
	Port   uint16
}
