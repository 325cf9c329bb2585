// Package wire is services, names and routes as tables: not yet nftables or DNS bytes.
package wire

import "net/netip"

// Tables is all that a node's network must do. Every slice is sorted; equal states give equal tables.
type Tables struct {
	PodCIDR     netip.Prefix // of this node: egress from it is masqueraded unless it stays in Cluster
	Cluster     netip.Prefix // pods of the whole ring
	ServiceCIDR netip.Prefix
	DNS         netip.AddrPort // where pods ask
	Domain      string         // "cluster.local"
	Ports       []Port
	Names       []Name
}

// Protocol is "tcp", "udp" or "sctp".
type Protocol string

// Port is one port of one service: where it is reached, and who answers.
type Port struct {
	Service   string // "default/web"
	Name      string // of the port, may be empty
	Protocol  Protocol
	ClusterIP netip.Addr // invalid for none
	Port      uint16
	NodePort  uint16           // 0 for none
	Affinity  int32            // seconds of ClientIP session affinity; 0 for none
	Local     bool             // externalTrafficPolicy: Local
	Endpoints []netip.AddrPort // ready ones; sorted. None: connections are refused at once
}

// Name is one name in the ring's domain and its answers.
type Name struct {
	Name    string       // fully qualified, lower case, with the final dot
	Address []netip.Addr // A and AAAA
	SRV     []SRV
	CNAME   string // of an ExternalName service
}

// SRV is one answer to a query for a service's port.
type SRV struct {
	Target string
	Port   uint16
}
