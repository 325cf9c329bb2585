// Package place chooses the node of each pod: filters, then scores, each giving its reason.
package place

import "net/netip"

// NodeID is the first 16 hex digits of the sha256 of a node's public key: never an address, never a name.
type NodeID string

// Resources are what pods ask for and nodes have, in integers.
type Resources struct {
	MilliCPU  int64 `json:"milliCPU,omitempty"`  // thousandths of a core
	Memory    int64 `json:"memory,omitempty"`    // bytes
	Ephemeral int64 `json:"ephemeral,omitempty"` // bytes of local disk
	Pods      int64 `json:"pods,omitempty"`
}

// Node is what the ledger knows of a machine.
type Node struct {
	ID       NodeID            `json:"id"`
	Name     string            `json:"name"` // of people; unique in the ring
	Address  netip.Addr        `json:"address"`
	Arch     string            `json:"arch"` // GOARCH
	Zone     string            `json:"zone,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Capacity Resources         `json:"capacity"`
	PodCIDR  netip.Prefix      `json:"podCIDR"`            // given by Step, lowest free first
	Down     bool              `json:"down,omitempty"`     // nobody reaches it
	Unsteady bool              `json:"unsteady,omitempty"` // it has returned, and is not relied on yet
	Cordoned bool              `json:"cordoned,omitempty"`
}
