// Package control holds the rules of each kind, a file a kind: from what is desired and what there is, to
// which pods there should be.
package control

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// PodID is a pod's uid: hash(ring, index of the creating entry, environment, kind, namespace/name), 32 hex
// digits in the form of a UUID.
type PodID string

// Owner is the object a pod was made for; a bare Pod owns itself.
type Owner struct {
	Key desired.Key `json:"key"`
	UID string      `json:"uid"`
}

// Pod is what the ledger knows of one pod. Its spec is not in here: it is the pod template (or the Pod) inside
// the object that Object names.
type Pod struct {
	ID          PodID             `json:"id"`
	Environment string            `json:"environment"`
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Owner       Owner             `json:"owner"`
	Object      desired.Digest    `json:"object"`
	Revision    string            `json:"revision,omitempty"` // pod-template-hash, given once and kept
	Labels      map[string]string `json:"labels,omitempty"`
	Created     int64             `json:"created"` // ring time, ms since 1970

	Node   place.NodeID `json:"node,omitempty"`   // "" while pending
	Reason string       `json:"reason,omitempty"` // why there, or why nowhere
	Epoch  uint64       `json:"epoch,omitempty"`  // index of the entry that placed it: the fencing token
	IP     netip.Addr   `json:"ip,omitzero"`      // from the node's CIDR; invalid for hostNetwork

	Deleting int64  `json:"deleting,omitempty"` // ring time at which it was told to stop; 0: it stays
	Grace    int64  `json:"grace,omitempty"`    // seconds from SIGTERM to SIGKILL
	Why      string `json:"why,omitempty"`      // why it is being stopped

	Status corev1.PodStatus `json:"status"` // as its node last reported; bounded
}
