package cluster

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/place"
)

// podSeed is what a rule says of a pod it wants.
type podSeed struct {
	environment string
	namespace   string
	name        string
	owner       control.Owner
	source      desired.Key
	object      desired.Digest
	authored    desired.Digest // the template as its author wrote it
	revision    string
	labels      map[string]string // on top of the template's
	images      map[string]string
	index       string
	attempt     int32
	fenced      bool // at most one at a time
}

// create makes a pod and looks for its node. Who makes many spends for all of them first, so that an absurd number
// costs nothing.
func (t *tx) create(seed podSeed) *control.Pod {
	object := t.load(seed.object)
	p := &control.Pod{
		ID:          control.PodID(t.uid(seed.environment, desired.Key{Kind: "Pod", Namespace: seed.namespace, Name: seed.name})),
		Environment: seed.environment, Namespace: seed.namespace, Name: seed.name,
		Owner: seed.owner, Source: seed.source, Object: seed.object, Template: seed.authored, Revision: seed.revision,
		Labels: merged(object.template.Labels, seed.labels), Created: t.now,
		Requests: object.requests, HostPorts: object.ports, HostNet: object.template.Spec.HostNetwork,
		Images: seed.images, Index: seed.index, Attempt: seed.attempt, Fenced: seed.fenced,
		Kept: seed.fenced && isKept(&object.template.Spec, object.object),
	}
	if p.Owner.UID == "" {
		p.Owner.UID = string(p.ID)
	}
	t.place(p)
	t.s.pods.set(&t.s, p)
	return p
}

// isKept tells whether a pod of which one may run stays with its node. One that asks for its node by host name has no
// other, and of one that is to be kept in isolation its author says so: neither is stopped at the end of a lease, and
// neither has a successor before the node returns or leaves. It follows from the pod's object alone, so that a node that
// hears of nothing else decides alike.
func isKept(spec *corev1.PodSpec, owner kube.Object) bool {
	_, bound := spec.NodeSelector[corev1.LabelHostname]
	return bound || owner.GetAnnotations()[desired.IsolationAnnotation] == desired.IsolationKeep
}

func merged(a, b map[string]string) map[string]string {
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}

// imagesOf are the fixed digests of the images a template refers to.
func imagesOf(spec *corev1.PodSpec, fixed map[string]string) map[string]string {
	var out map[string]string
	add := func(ref string) {
		if d, ok := fixed[ref]; ok {
			if out == nil {
				out = map[string]string{}
			}
			out[ref] = d
		}
	}
	for i := range spec.InitContainers {
		add(spec.InitContainers[i].Image)
	}
	for i := range spec.Containers {
		add(spec.Containers[i].Image)
	}
	return out
}

// place gives p, which is not in the State yet or is to be set again, its node and address, or the reason why
// there is none.
func (t *tx) place(p *control.Pod) {
	// What pods of one object and size ask for is the same, so one that found no node speaks for all.
	class := string(p.Object) + "/" + p.Owner.UID
	why, unfit := t.unfit[class]
	verdict := place.Verdict{Reason: why}
	if !unfit {
		x := t.seated()
		verdict = x.board.Place(x.kindOf(&t.s, p), p.Owner.UID)
	}
	if verdict.Node == "" || verdict.Doubt > 0 {
		if name, ok := t.resume(p); ok {
			p.Reason = "pod " + name + " has come back instead"
			return
		}
	}
	p.Reason = verdict.Reason
	if unfit {
		return
	}
	if verdict.Node == "" {
		t.misfit(class, verdict.Reason)
		return
	}
	if !p.HostNet {
		node, _ := t.s.nodes.Get(verdict.Node)
		ip, ok := t.freeIP(node.PodCIDR)
		if !ok {
			t.clear(node.ID)
			p.Reason = fmt.Sprintf("node %s: every address of %s is held", node.Name, node.PodCIDR)
			t.misfit(class, p.Reason)
			return
		}
		p.IP = ip
		t.s.addresses.set(&t.s, &Address{IP: ip, Pod: p.ID})
	}
	p.Node = verdict.Node
	p.Epoch = t.s.index
	if node, ok := t.s.nodes.Get(verdict.Node); ok {
		t.evictLater(node)
	}
}

// clear lets the oldest finished pod of a job go, because a node has no address left for a pod that is to run.
func (t *tx) clear(node place.NodeID) {
	var oldest *control.Pod
	for p := range t.s.PodsOn(node) {
		if p.Counted && p.Deleting == 0 && (oldest == nil || p.Finished < oldest.Finished) {
			oldest = p
		}
	}
	if oldest != nil {
		t.stop(oldest, "its address is needed for another pod")
	}
}

func (t *tx) misfit(class, why string) {
	if t.unfit == nil {
		t.unfit = map[string]string{}
	}
	t.unfit[class] = why
}

// maxPlaced is how many pods that waited get their node, or another reason, with one entry.
const maxPlaced = 20_000

// settlePending looks for nodes for the pods that have none, oldest first, when there may be room.
func (t *tx) settlePending() {
	if !t.room {
		return
	}
	t.room = false
	t.unfit = nil
	var ids []control.PodID
	for p := range t.s.pending.pairs.all() {
		ids = append(ids, p.key)
	}
	left := maxPlaced
	for _, id := range ids {
		old, ok := t.s.pods.Get(id)
		if !ok {
			continue
		}
		now := *old
		t.place(&now)
		if now.Node == old.Node && now.Reason == old.Reason {
			continue
		}
		t.s.pods.set(&t.s, &now)
		if left--; left == 0 {
			t.wake(placing, t.now) // the rest with the next Tick
			return
		}
	}
}

// stop tells a pod to stop; one that has no node is gone at once.
func (t *tx) stop(p *control.Pod, why string) {
	if p.Deleting != 0 {
		return
	}
	t.spend(1)
	if p.Node == "" {
		t.s.pods.drop(&t.s, p.ID)
		return
	}
	now := *p
	now.Deleting, now.Why, now.Ready = max(t.now, 1), why, 0
	now.Grace = t.grace(p)
	t.s.pods.set(&t.s, &now)
}

// grace is what a pod has from SIGTERM to SIGKILL, in seconds.
func (t *tx) grace(p *control.Pod) int64 {
	if g := t.template(p.Object).Spec.TerminationGracePeriodSeconds; g != nil {
		return min(max(*g, 0), 1<<31)
	}
	return 30
}

// removed forgets a pod of which its node says that nothing is left.
func (t *tx) removed(p *control.Pod) {
	t.release(p.IP, p.ID)
	t.s.pods.drop(&t.s, p.ID)
	t.room = true
	if j, ok := t.s.jobs.Get(p.Owner.Key); ok && j.UID == p.Owner.UID && p.Finished == 0 && p.Deleting == 0 {
		now := *j
		now.Lost++
		t.s.jobs.set(&t.s, &now)
	}
	if rs, ok := t.s.replicasets.Get(p.Owner.Key); ok && hasRule(rs.Owner.Key) {
		t.queue.add(rs.Owner.Key) // Recreate waits for the last pod of the old revision
	}
	for k := range t.s.jobsAfter.at(p.Owner.UID) {
		t.queue.add(k)
	}
	t.concern(p)
}

// report takes what a node says of a pod. Having finished is final.
func (t *tx) report(old *control.Pod, status corev1.PodStatus) {
	if old.Finished != 0 {
		return
	}
	now := *old
	now.Status = status
	switch status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed:
		now.Finished, now.Ready = max(t.now, 1), 0
		t.room = true
	default:
		switch ready := isReady(status); {
		case !ready || now.Deleting != 0:
			now.Ready = 0
		case now.Ready == 0:
			now.Ready = max(t.now, 1)
		}
	}
	t.s.pods.set(&t.s, &now)
	if now.Ready != old.Ready || now.Finished != old.Finished || now.Restarts() != old.Restarts() {
		t.concern(&now)
	}
}

func isReady(s corev1.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// concern has the rules run that a change of p matters to: its owner's, and that of a Pod in Git that waits for
// the name.
func (t *tx) concern(p *control.Pod) {
	if ring, _ := t.s.Ring(); ring.Rebalance != nil {
		t.balance = true
	}
	if hasRule(p.Owner.Key) {
		t.queue.add(p.Owner.Key)
	}
	if k := (desired.Key{Kind: "Pod", Namespace: p.Namespace, Name: p.Name}); k != p.Owner.Key {
		if _, ok := t.s.objects.Get(k); ok {
			t.queue.add(k)
		}
	}
}
