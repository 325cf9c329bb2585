package cluster

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
)

// ruleError is what a rule cannot do; it becomes a Fault of its object.
type ruleError struct{ error }

// templateHashLabel tells the pods of a Deployment's revisions apart.
const templateHashLabel = appsv1.DefaultDeploymentUniqueLabelKey

// runPod keeps a Pod that Git names: there is one pod of its name while Git has it, made from what Git says now.
func (t *tx) runPod(k desired.Key) {
	o, wanted := t.s.objects.Get(k)
	pod, there := t.s.PodNamed(k.Namespace, k.Name)
	ours := there && pod.Source == k
	switch {
	case !wanted && ours:
		t.stop(pod, "it is no longer in Git")
	case !wanted:
	case there && !ours && pod.Deleting == 0:
		panic(ruleError{fmt.Errorf("the name is that of a pod of %s", pod.Owner.Key)})
	case there && pod.Deleting != 0: // its name is not free yet
	case there && pod.Leaving != 0 && pod.Lost == 0:
		t.stop(pod, pod.WhyLeaving())
	case there && pod.Object == o.Digest:
	case there && t.samePod(pod, o):
		now := *pod
		now.Object, now.Template = o.Digest, o.Template
		now.Labels = t.template(o.Digest).Labels
		t.s.pods.set(&t.s, &now)
		t.offer(&now)
	case there:
		t.stop(pod, "its spec changed with commit "+clip(string(o.Commit), 12))
		if _, still := t.s.pods.Get(pod.ID); !still {
			t.queue.add(k)
		}
	default:
		env, _ := t.s.environments.Get(o.Environment)
		tpl := t.template(o.Digest)
		p := t.create(podSeed{
			environment: o.Environment, namespace: k.Namespace, name: k.Name, owner: control.Owner{Key: k},
			source: k, object: o.Digest, authored: o.Template, images: imagesOf(&tpl.Spec, env.Images),
			fenced: true, // by its name
		})
		t.offer(p)
	}
}

// samePod tells whether a changed Pod object asks for the very pod there is, but for its labels and annotations.
func (t *tx) samePod(p *control.Pod, o *Object) bool {
	if o.Template != "" && o.Template == p.Template {
		return true
	}
	a, errA := json.Marshal(t.template(p.Object).Spec)
	b, errB := json.Marshal(t.template(o.Digest).Spec)
	return errA == nil && errB == nil && string(a) == string(b)
}

// offer has the sets of the pod's namespace look at it, in case they select it.
func (t *tx) offer(p *control.Pod) {
	if p.Owner.Key.Kind != "Pod" && hasRule(p.Owner.Key) {
		t.queue.add(p.Owner.Key) // it may have to be let go
	}
	at := desired.Key{Group: "apps", Kind: "ReplicaSet", Namespace: p.Namespace}
	for k := range t.s.replicasets.rows.from(at) {
		if k.Namespace != p.Namespace || k.Kind != at.Kind || k.Group != at.Group {
			break
		}
		t.queue.add(k)
	}
}

// runSet keeps the number of a ReplicaSet's pods.
func (t *tx) runSet(k desired.Key) {
	rs, there := t.s.replicasets.Get(k)
	o, wanted := t.s.objects.Get(k)
	switch {
	case there && rs.Owner.UID != "" && !wanted: // of a Deployment
	case there && rs.Owner.UID != "":
		panic(ruleError{fmt.Errorf("the name is that of a revision of %s", rs.Owner.Key)})
	case !there && !wanted:
		return
	case !wanted:
		t.dissolve(rs, "its ReplicaSet is no longer in Git")
		return
	default:
		rs = t.setFromGit(rs, o)
	}

	minReady, selector := t.setRules(rs)
	match := func(l map[string]string) bool { return selector.Matches(labels.Set(l)) }
	var owned, free []*control.Pod
	for p := range t.s.PodsOf(rs.UID) {
		owned = append(owned, p)
	}
	for p := range t.s.each(t.s.loose.at(k.Namespace)) {
		free = append(free, p)
	}
	t.spend(len(owned) / 8)
	plan := control.PlanSet(*rs, minReady, t.now, match, owned, free)
	for _, id := range plan.Let {
		p, _ := t.s.pods.Get(id)
		t.own(p, control.Owner{})
	}
	for _, id := range plan.Adopt {
		p, _ := t.s.pods.Get(id)
		t.own(p, control.Owner{Key: k, UID: rs.UID})
	}
	for _, d := range plan.Delete {
		p, _ := t.s.pods.Get(d.Pod)
		t.stop(p, d.Why)
	}
	t.spend(plan.Create)
	for range plan.Create {
		t.create(t.replica(rs))
		plan.Set.Pods++
	}
	if plan.Set.Pods != rs.Pods || plan.Set.Ready != rs.Ready || plan.Set.Available != rs.Available {
		if rs.Owner.UID != "" {
			t.queue.add(rs.Owner.Key)
		}
	}
	t.s.replicasets.set(&t.s, &plan.Set)
	t.wake(k, plan.Wake)
}

// setFromGit is the record of a set that Git names, as its object now has it; images are those of the
// activation that brought the template.
func (t *tx) setFromGit(rs *control.ReplicaSet, o *Object) *control.ReplicaSet {
	if rs != nil && rs.Object == o.Digest {
		return rs
	}
	env, _ := t.s.environments.Get(o.Environment)
	obj := object[appsv1.ReplicaSet](t, o.Digest)
	now := control.ReplicaSet{Key: o.Key, Environment: o.Environment, UID: o.UID, Created: t.now}
	if rs != nil {
		now = *rs
	}
	now.Object, now.Commit = o.Digest, o.Commit
	now.Replicas = sizeOf(obj.Spec.Replicas)
	if template := t.authored(o, &obj.Spec.Template); now.Template != template {
		now.Template = template
		now.Images = imagesOf(&obj.Spec.Template.Spec, env.Images)
	}
	return &now
}

// setRules are what a set's pods are judged by: how long they must be ready, in ms, and the selector.
func (t *tx) setRules(rs *control.ReplicaSet) (minReady int64, selector labels.Selector) {
	if rs.Owner.UID == "" {
		spec := object[appsv1.ReplicaSet](t, rs.Object).Spec
		return int64(spec.MinReadySeconds) * 1000, selectorOf(spec.Selector)
	}
	d, ok := t.s.deployments.Get(rs.Owner.Key)
	if !ok {
		return 0, labels.Nothing()
	}
	spec := object[appsv1.Deployment](t, d.Object).Spec
	hash, _ := labels.NewRequirement(templateHashLabel, "=", []string{rs.Hash})
	return int64(spec.MinReadySeconds) * 1000, selectorOf(spec.Selector).Add(*hash)
}

func selectorOf(s *metav1.LabelSelector) labels.Selector {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		panic(ruleError{fmt.Errorf("selector: %w", err)})
	}
	return sel
}

func (t *tx) replica(rs *control.ReplicaSet) podSeed {
	seed := podSeed{
		environment: rs.Environment, namespace: rs.Key.Namespace, name: t.childName(rs.Key.Namespace, rs.Key.Name, rs.UID),
		owner: control.Owner{Key: rs.Key, UID: rs.UID}, source: rs.Key, object: rs.Object,
		authored: rs.Template, revision: rs.Hash, images: rs.Images, fenced: t.isStrict(rs),
	}
	if rs.Owner.UID != "" {
		seed.source = rs.Owner.Key
		seed.labels = map[string]string{templateHashLabel: rs.Hash}
	}
	return seed
}

// isStrict tells whether at most as many pods of a set may run as it is to have, whatever happens.
func (t *tx) isStrict(rs *control.ReplicaSet) bool {
	object := rs.Object
	if d, ok := t.s.deployments.Get(rs.Owner.Key); ok {
		object = d.Object
	}
	return t.load(object).object.GetAnnotations()[desired.StrictAnnotation] == "true"
}

// own changes a pod's owner; without one, a Pod of Git owns itself again and any other pod runs on ownerless.
func (t *tx) own(p *control.Pod, owner control.Owner) {
	now := *p
	now.Owner = owner
	if owner.UID == "" && p.Named() {
		now.Owner = control.Owner{Key: p.Source, UID: string(p.ID)}
	}
	t.s.pods.set(&t.s, &now)
}

// dissolve stops what belongs to a set and forgets it. Pods of Git that it had adopted stay.
func (t *tx) dissolve(rs *control.ReplicaSet, why string) {
	for p := range t.s.PodsOf(rs.UID) {
		if p.Named() {
			t.own(p, control.Owner{})
			continue
		}
		t.stop(p, why)
	}
	t.s.replicasets.drop(&t.s, rs.Key)
	t.wake(rs.Key, 0)
	t.s.faults.drop(&t.s, rs.Key)
}

// runDeployment takes a Deployment's rollout further.
func (t *tx) runDeployment(k desired.Key) {
	d, there := t.s.deployments.Get(k)
	o, wanted := t.s.objects.Get(k)
	switch {
	case !there && !wanted:
		return
	case !wanted:
		for rs := range t.s.Revisions(k) {
			t.dissolve(rs, "its Deployment is no longer in Git")
		}
		t.s.deployments.drop(&t.s, k)
		return
	}
	spec := &object[appsv1.Deployment](t, o.Digest).Spec
	if t.asleep(o.Environment) {
		sleeping, none := *spec, int32(0)
		sleeping.Replicas = &none
		spec = &sleeping
	}
	now := control.Deployment{Key: k, Environment: o.Environment, UID: o.UID}
	if there {
		now = *d
	}
	now.Object, now.Commit, now.Template = o.Digest, o.Commit, t.authored(o, &spec.Template)

	var sets []control.ReplicaSet
	for rs := range t.s.Revisions(k) {
		sets = append(sets, *rs)
	}
	plan := control.PlanDeployment(now, spec, sets, t.stopping(spec, sets), t.now)
	t.s.deployments.set(&t.s, &plan.Deployment)
	for i := range plan.Sets {
		next := plan.Sets[i]
		old, _ := t.s.replicasets.Get(next.Key)
		if next.Replicas != old.Replicas || next.Revision != old.Revision || next.Commit != old.Commit {
			t.spend(1)
			t.s.replicasets.set(&t.s, &next)
		}
		if next.Replicas != old.Replicas || there && d.Object != o.Digest {
			t.queue.add(next.Key)
		}
	}
	for _, gone := range plan.Drop {
		t.s.replicasets.drop(&t.s, gone)
		t.wake(gone, 0)
	}
	if plan.New {
		t.newRevision(&plan.Deployment, &spec.Template, sets)
		t.queue.add(k)
	}
	t.wake(k, plan.Wake)
}

// stopping counts the pods of each set that still exist but are to stop; only Recreate asks.
func (t *tx) stopping(spec *appsv1.DeploymentSpec, sets []control.ReplicaSet) map[desired.Key]int32 {
	if spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	n := map[desired.Key]int32{}
	for i := range sets {
		for p := range t.s.PodsOf(sets[i].UID) {
			if p.Deleting != 0 {
				n[sets[i].Key]++
			}
		}
	}
	return n
}

// newRevision makes the set of a Deployment's new template, of size 0: the next plan gives it its size.
func (t *tx) newRevision(d *control.Deployment, template *corev1.PodTemplateSpec, sets []control.ReplicaSet) {
	env, _ := t.s.environments.Get(d.Environment)
	hash := templateHash(d.UID, d.Template, func(h string) bool {
		for i := range sets {
			if sets[i].Hash == h {
				return true
			}
		}
		return false
	})
	key := desired.Key{Group: "apps", Kind: "ReplicaSet", Namespace: d.Key.Namespace, Name: d.Key.Name + "-" + hash}
	t.s.replicasets.set(&t.s, &control.ReplicaSet{
		Key: key, Environment: d.Environment, UID: t.uid(d.Environment, key), Owner: control.Owner{Key: d.Key, UID: d.UID},
		Object: d.Object, Template: d.Template, Hash: hash, Commit: d.Commit, Created: t.now,
		Images: imagesOf(&template.Spec, env.Images),
	})
}

// authored is the digest that tells revisions apart: that of the template as its author wrote it, or where the
// manifest has none, of the template itself.
func (t *tx) authored(o *Object, template *corev1.PodTemplateSpec) desired.Digest {
	if o.Template != "" {
		return o.Template
	}
	b, err := json.Marshal(template)
	if err != nil {
		panic(err)
	}
	return desired.DigestOf(b)
}

// sizeOf is how many replicas are asked for: 1 where nothing is said.
func sizeOf(n *int32) int32 {
	if n == nil {
		return 1
	}
	return max(*n, 0)
}
