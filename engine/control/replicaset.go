package control

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// ReplicaSet is what the ledger knows of a set of equal pods: one that Git names, or one revision of a
// Deployment.
type ReplicaSet struct {
	Key         desired.Key       `json:"key"`
	Environment string            `json:"environment"`
	UID         string            `json:"uid"`
	Owner       Owner             `json:"owner,omitzero"` // the Deployment; zero when Git names the set itself
	Object      desired.Digest    `json:"object"`         // has the pod template
	Template    desired.Digest    `json:"template"`       // as its author wrote it
	Hash        string            `json:"hash,omitempty"` // pod-template-hash, given once and kept
	Revision    int64             `json:"revision,omitempty"`
	Commit      source.ID         `json:"commit,omitempty"` // that made the revision: its change cause
	Created     int64             `json:"created"`          // ring time, ms
	Images      map[string]string `json:"images,omitempty"` // references of the template -> digest

	Replicas  int32 `json:"replicas"`  // how many there should be
	Pods      int32 `json:"pods"`      // how many there are, less those that are stopping
	Ready     int32 `json:"ready"`     // of these
	Available int32 `json:"available"` // of these, ready for minReadySeconds

	Failures int32 `json:"failures,omitempty"` // pods that failed in a row, for the back-off
	RetryAt  int64 `json:"retryAt,omitempty"`  // ring time before which no failed pod is replaced
}

// SetPlan is what is to be done for a ReplicaSet.
type SetPlan struct {
	Set    ReplicaSet // with its counts
	Create int
	Delete []Stop
	Adopt  []PodID
	Let    []PodID // let go: their labels no longer match
	Wake   int64   // ring time at which to look again, 0: when something changes
}

// Stop is a pod to be told to stop, with its reason.
type Stop struct {
	Pod PodID
	Why string
}

// Back-off between replacements of failed pods.
const (
	setBackoffFirst = 10_000  // ms
	setBackoffMost  = 300_000 // ms
)

// PlanSet decides for rs at ring time now. minReady is in ms; match says whether labels fit its selector; owned
// are its pods, free the pods of its namespace that nobody owns (bare pods among them), both by id. Pods named
// in Git are counted, but not stopped to reach the number: Git says that they exist.
//
// A pod whose node is lost gets a substitute, and so does one whose node is drained, which stays until the substitute
// is available. A lost pod that returns is one too many then, and the youngest goes: where it can, what runs stays.
// A fenced pod holds its place until nothing is left of it.
func PlanSet(rs ReplicaSet, minReady, now int64, match func(map[string]string) bool, owned, free []*Pod) SetPlan {
	p := SetPlan{Set: rs}
	var active, lost, leaving []*Pod
	held := 0 // places of fenced pods that are to stop
	for _, pod := range owned {
		switch {
		case pod.Deleting != 0 && pod.Fenced && pod.Finished == 0:
			held++
		case pod.Deleting != 0:
		case !match(pod.Labels):
			p.Let = append(p.Let, pod.ID)
		case pod.Finished != 0:
			p.Delete = append(p.Delete, Stop{pod.ID, "it finished, and its set replaces it"})
			p.Set.Failures++
			p.Set.RetryAt = now + backoff(setBackoffFirst, setBackoffMost, int64(p.Set.Failures))
		case pod.Fenced && pod.Leaving != 0 && !pod.Named():
			p.Delete = append(p.Delete, Stop{pod.ID, pod.WhyLeaving()})
			held++
		case pod.Fenced:
			active = append(active, pod)
		case pod.Lost != 0:
			lost = append(lost, pod)
		case pod.Leaving != 0:
			leaving = append(leaving, pod)
		default:
			active = append(active, pod)
		}
	}
	for _, pod := range free {
		if pod.Active() && match(pod.Labels) {
			p.Adopt = append(p.Adopt, pod.ID)
			active = append(active, pod)
		}
	}

	missing := int(rs.Replicas) - len(active) - held
	if surplus := len(active) - int(rs.Replicas); surplus > 0 {
		active = p.shrink(active, surplus, because("scaled down"))
	}
	if surplus := len(lost) - int(rs.Replicas); surplus > 0 {
		p.shrink(lost, surplus, because("scaled down while its node was lost"))
	}
	p.count(active, minReady, now)
	if surplus := int(p.Set.Available) + len(leaving) - int(rs.Replicas); surplus > 0 {
		leaving = p.shrink(leaving, surplus, (*Pod).WhyLeaving)
	}
	p.countLeaving(leaving, minReady, now)
	if p.Set.Ready >= rs.Replicas {
		p.Set.Failures = 0
	}
	switch {
	case missing > 0 && now < p.Set.RetryAt && p.Set.Failures > 0:
		p.Wake = soonest(p.Wake, p.Set.RetryAt)
	case missing > 0:
		p.Create = missing
	}
	return p
}

// shrink stops the most dispensable of the pods that Git does not name, over of them if there are as many, and
// returns those that stay.
func (p *SetPlan) shrink(active []*Pod, over int, why func(*Pod) string) (stay []*Pod) {
	slices.SortFunc(active, byDispensable)
	for _, pod := range active {
		if over == 0 || pod.Named() {
			stay = append(stay, pod)
			continue
		}
		p.Delete = append(p.Delete, Stop{pod.ID, why(pod)})
		over--
	}
	return stay
}

// count is of the pods that stay: one that was told to stop counts no more, however ready it still is.
func (p *SetPlan) count(stay []*Pod, minReady, now int64) {
	p.Set.Pods, p.Set.Ready, p.Set.Available = int32(len(stay)), 0, 0
	for _, pod := range stay {
		if pod.IsReady() {
			p.Set.Ready++
		}
		if pod.Available(minReady, now) {
			p.Set.Available++
		} else if pod.IsReady() {
			p.Wake = soonest(p.Wake, pod.Ready+minReady)
		}
	}
}

// countLeaving adds the pods that answer until their substitutes do, as far as those are not there yet.
func (p *SetPlan) countLeaving(leaving []*Pod, minReady, now int64) {
	for _, pod := range leaving {
		if pod.IsReady() && p.Set.Ready < p.Set.Replicas {
			p.Set.Ready++
		}
		if pod.Available(minReady, now) && p.Set.Available < p.Set.Replicas {
			p.Set.Available++
		}
	}
}

// WhyLeaving is why a pod is stopped that is to run elsewhere.
func (p *Pod) WhyLeaving() string {
	if p.Moving != "" {
		return "it is moved: " + p.Moving
	}
	return "its node is drained"
}

func because(why string) func(*Pod) string { return func(*Pod) string { return why } }

// Named tells whether Git names the pod itself, rather than an owner it was made for.
func (p *Pod) Named() bool { return p.Source.Kind == "Pod" }

// byDispensable orders pods as Kubernetes does when a set shrinks: those without a node first, then those that
// are pending, not ready, ready for the shortest time, restarted the most, newest; last by name.
func byDispensable(a, b *Pod) int {
	return cmp.Or(
		-compareBool(a.Node == "", b.Node == ""),
		cmp.Compare(phaseRank(a), phaseRank(b)),
		compareBool(a.IsReady(), b.IsReady()),
		-cmp.Compare(a.Ready, b.Ready),
		-cmp.Compare(a.Restarts(), b.Restarts()),
		-cmp.Compare(a.Created, b.Created),
		cmp.Compare(a.Name, b.Name),
	)
}

func phaseRank(p *Pod) int {
	switch p.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	default: // pending, or not reported yet
		return 0
	}
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// backoff is first doubled with every failure after the first, most at most.
func backoff(first, most, failures int64) int64 {
	d := first
	for ; failures > 1 && d < most; failures-- {
		d *= 2
	}
	return min(d, most)
}

// soonest is the earlier of two wakes, where 0 is never.
func soonest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
