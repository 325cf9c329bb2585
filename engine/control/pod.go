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
	Source      desired.Key       `json:"source"`             // the object in Git that has its spec or its template
	Object      desired.Digest    `json:"object"`             // of that object, as it was when the pod was made
	Template    desired.Digest    `json:"template,omitempty"` // of the template as its author wrote it
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

	// Fenced: at most one pod of its kind may run, so it has a successor only once it is certain that it runs no more.
	Fenced  bool  `json:"fenced,omitempty"`
	Kept    bool  `json:"kept,omitempty"`    // if fenced: it goes on when its node hears of nobody, and waits for it when the node is lost
	Lost    int64 `json:"lost,omitempty"`    // ring time since which nobody reaches its node; 0: somebody does
	Leaving int64 `json:"leaving,omitempty"` // ring time since which its node is being drained, or it is moved

	Moving string `json:"moving,omitempty"` // of one that is moved: why

	Ready    int64 `json:"ready,omitempty"`    // ring time since which it is ready; 0: it is not
	Finished int64 `json:"finished,omitempty"` // ring time at which it succeeded or failed, which is final

	Requests  place.Resources   `json:"requests"`            // what it asks of its node
	HostPorts []string          `json:"hostPorts,omitempty"` // "tcp:80", sorted
	HostNet   bool              `json:"hostNetwork,omitempty"`
	Images    map[string]string `json:"images,omitempty"`  // references of its spec -> digest, fixed for its revision
	Index     string            `json:"index,omitempty"`   // completion index of an Indexed job's pod
	Attempt   int32             `json:"attempt,omitempty"` // of a job's pod: one more than pods of the job had failed when it was made; 0: not known
	Counted   bool              `json:"counted,omitempty"` // its end is in its job's counts
}

// Active tells whether the pod runs or is still to run: it neither finished nor was told to stop.
func (p *Pod) Active() bool { return p.Finished == 0 && p.Deleting == 0 }

// IsReady tells whether the pod answers for its owner now. One whose node is lost may do so, but nobody knows.
func (p *Pod) IsReady() bool { return p.Ready != 0 && p.Lost == 0 && p.Active() }

// Available tells whether the pod has been ready for minReady ms at time now.
func (p *Pod) Available(minReady, now int64) bool { return p.IsReady() && now-p.Ready >= minReady }

// Restarts is how often containers of the pod were started again.
func (p *Pod) Restarts() int64 {
	var n int64
	for _, c := range p.Status.InitContainerStatuses {
		n += int64(c.RestartCount)
	}
	for _, c := range p.Status.ContainerStatuses {
		n += int64(c.RestartCount)
	}
	return n
}

// Succeeded tells whether the pod finished well.
func (p *Pod) Succeeded() bool { return p.Finished != 0 && p.Status.Phase == corev1.PodSucceeded }

// Failed tells whether the pod finished badly.
func (p *Pod) Failed() bool { return p.Finished != 0 && p.Status.Phase == corev1.PodFailed }
