package place

import (
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

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
	Taints   []Taint           `json:"taints,omitempty"`
	Capacity Resources         `json:"capacity"`
	PodCIDR  netip.Prefix      `json:"podCIDR"`            // given by Step, lowest free first
	Down     bool              `json:"down,omitempty"`     // nobody reaches it
	Unsteady bool              `json:"unsteady,omitempty"` // it has returned, and is not relied on yet
	Doubt    int               `json:"doubt,omitempty"`    // of one that is unsteady: 1 the least; 0: it is not taken at all
	Cordoned bool              `json:"cordoned,omitempty"`
}

// MaxDoubt is the greatest doubt that is told apart.
const MaxDoubt = 7

// doubt is how little a node is relied on: 0 is fully, -1 is not at all.
func (n *Node) doubt() int {
	switch {
	case n.Down:
		return -1
	case !n.Unsteady:
		return 0
	case n.Doubt <= 0:
		return -1
	}
	return min(n.Doubt, MaxDoubt)
}

// Taint keeps pods off a node that do not tolerate it.
type Taint struct {
	Key    string             `json:"key"`
	Value  string             `json:"value,omitempty"`
	Effect corev1.TaintEffect `json:"effect"` // NoSchedule, PreferNoSchedule or NoExecute
}

// String is "key=value:Effect", as kubectl writes it.
func (t Taint) String() string {
	if t.Value == "" {
		return t.Key + ":" + string(t.Effect)
	}
	return t.Key + "=" + t.Value + ":" + string(t.Effect)
}

// AllLabels are the node's labels with the standard ones, which follow from facts: hostname, arch, os, and the zone if
// it has one. A label that was given does not stand against a fact.
func (n *Node) AllLabels() map[string]string {
	labels := maps.Clone(n.Labels)
	if labels == nil {
		labels = make(map[string]string, 4)
	}
	labels[corev1.LabelHostname] = n.Name
	labels[corev1.LabelArchStable] = n.Arch
	labels[corev1.LabelOSStable] = "linux"
	if n.Zone != "" {
		labels[corev1.LabelTopologyZone] = n.Zone
	}
	return labels
}

// label is one of AllLabels.
func (n *Node) label(key string) (string, bool) {
	switch key {
	case corev1.LabelHostname:
		return n.Name, true
	case corev1.LabelArchStable:
		return n.Arch, true
	case corev1.LabelOSStable:
		return "linux", true
	case corev1.LabelTopologyZone:
		if n.Zone != "" {
			return n.Zone, true
		}
	}
	v, ok := n.Labels[key]
	return v, ok
}

// field is what matchFields can ask for.
func (n *Node) field(key string) (string, bool) { return n.Name, key == "metadata.name" }

// zone is the node's zone, also one that was given as a label.
func (n *Node) zone() string {
	if n.Zone != "" {
		return n.Zone
	}
	return n.Labels[corev1.LabelTopologyZone]
}
