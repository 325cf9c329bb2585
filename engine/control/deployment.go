package control

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// Deployment is what the ledger knows of a Deployment: how far it has come. Its spec is in the object.
type Deployment struct {
	Key         desired.Key    `json:"key"`
	Environment string         `json:"environment"`
	UID         string         `json:"uid"`
	Object      desired.Digest `json:"object"`
	Template    desired.Digest `json:"template"` // as its author wrote it
	Commit      source.ID      `json:"commit"`   // that last changed the object
	Revision    int64          `json:"revision,omitempty"`
	Sized       int32          `json:"sized"` // the size for which its sets were last scaled

	State    Progress `json:"state,omitempty"`
	Progress int64    `json:"progress,omitempty"` // ring time of the last step forward, ms

	Pods      int32 `json:"pods"` // of all revisions
	Updated   int32 `json:"updated"`
	Ready     int32 `json:"ready"`
	Available int32 `json:"available"`
}

// Progress says how far a rollout is.
type Progress string

// The states of a rollout.
const (
	Progressing Progress = "Progressing"
	Complete    Progress = "Complete"
	Stuck       Progress = "ProgressDeadlineExceeded"
	Paused      Progress = "Paused"
)

// DeploymentPlan is what is to be done for a Deployment. Sets have their new sizes; those that are to go are in
// Drop. New asks for a set for the Deployment's template, whose size the next plan decides.
type DeploymentPlan struct {
	Deployment Deployment
	New        bool
	Sets       []ReplicaSet
	Drop       []desired.Key
	Wake       int64
}

// PlanDeployment decides for d at ring time now. sets are all its revisions with their counts; stopping is how
// many pods of each set still exist but were told to stop, by set.
func PlanDeployment(d Deployment, spec *appsv1.DeploymentSpec, sets []ReplicaSet, stopping map[desired.Key]int32, now int64) DeploymentPlan {
	r := newRollout(d, spec, sets, now)
	if r.current == nil && !spec.Paused && r.mayStart(stopping) {
		p := r.finish()
		p.New = true
		return p
	}
	r.adoptRevision()
	switch {
	case spec.Paused:
		r.rescale()
	case d.Sized != r.size && d.Sized != 0:
		r.rescale()
		r.roll(stopping)
	default:
		r.roll(stopping)
	}
	return r.finish()
}

type rollout struct {
	d        Deployment
	spec     *appsv1.DeploymentSpec
	sets     []ReplicaSet // by revision, oldest first
	current  *ReplicaSet  // of sets; nil while there is none
	size     int32
	surge    int32
	missing  int32 // how many may be unavailable
	now      int64
	recreate bool
}

func newRollout(d Deployment, spec *appsv1.DeploymentSpec, sets []ReplicaSet, now int64) *rollout {
	r := &rollout{d: d, spec: spec, sets: slices.Clone(sets), size: 1, now: now}
	if spec.Replicas != nil {
		r.size = *spec.Replicas
	}
	slices.SortFunc(r.sets, func(a, b ReplicaSet) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.Key.Compare(b.Key))
	})
	for i := range r.sets {
		if r.sets[i].Template == d.Template {
			r.current = &r.sets[i]
		}
	}
	r.recreate = spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
	if !r.recreate {
		r.surge, r.missing = fenceposts(spec.Strategy.RollingUpdate, r.size)
	}
	return r
}

// fenceposts resolves maxSurge (rounded up) and maxUnavailable (rounded down) of a size; as both 0 would go
// nowhere, one may then be unavailable. 25 % of 3 are 1 and 0.
func fenceposts(u *appsv1.RollingUpdateDeployment, size int32) (surge, missing int32) {
	quarter := intstr.FromString("25%")
	maxSurge, maxMissing := &quarter, &quarter
	if u != nil && u.MaxSurge != nil {
		maxSurge = u.MaxSurge
	}
	if u != nil && u.MaxUnavailable != nil {
		maxMissing = u.MaxUnavailable
	}
	surge, missing = share(maxSurge, size, true), share(maxMissing, size, false)
	if surge == 0 && missing == 0 {
		missing = 1
	}
	return surge, min(missing, size)
}

func share(v *intstr.IntOrString, size int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(size), up)
	if err != nil || n < 0 {
		return 0
	}
	return int32(min(n, int(maxReplicas)))
}

// maxReplicas bounds arithmetic on sizes: more pods than that are no size but a mistake.
const maxReplicas = 1 << 24

// mayStart tells whether the new revision may be made: under Recreate only once nothing of the old is left.
func (r *rollout) mayStart(stopping map[desired.Key]int32) bool {
	if !r.recreate {
		return true
	}
	for i := range r.sets {
		if s := &r.sets[i]; s.Replicas > 0 || s.Pods > 0 || stopping[s.Key] > 0 {
			s.Replicas = 0
			return r.drained(stopping)
		}
	}
	return true
}

// drained stops what is old and tells whether all of it is gone.
func (r *rollout) drained(stopping map[desired.Key]int32) bool {
	gone := true
	for i := range r.sets {
		s := &r.sets[i]
		if s == r.current {
			continue
		}
		s.Replicas = 0
		gone = gone && s.Pods == 0 && stopping[s.Key] == 0
	}
	return gone
}

// adoptRevision gives the current set the newest revision number: an old template that comes back is a new
// revision of the same set.
func (r *rollout) adoptRevision() {
	if r.current == nil {
		return
	}
	var newest int64
	for i := range r.sets {
		if s := &r.sets[i]; s != r.current {
			newest = max(newest, s.Revision)
		}
	}
	if r.current.Revision <= newest {
		r.current.Revision = newest + 1
		r.current.Commit = r.d.Commit
		r.d.Progress = r.now
	}
	r.d.Revision = r.current.Revision
}

// roll takes the rollout one step further.
func (r *rollout) roll(stopping map[desired.Key]int32) {
	if r.current == nil {
		return
	}
	if r.recreate {
		if r.drained(stopping) {
			r.current.Replicas = r.size
		}
		return
	}
	r.grow()
	r.shrink()
}

// total is the size of all sets together.
func (r *rollout) total() int32 {
	var n int32
	for i := range r.sets {
		n += r.sets[i].Replicas
	}
	return n
}

// grow makes the new set as large as the surge allows. With 10 replicas, a surge of 3 and 10 old pods it goes
// to 3.
func (r *rollout) grow() {
	if r.current.Replicas >= r.size {
		r.current.Replicas = r.size
		return
	}
	if room := r.size + r.surge - r.total(); room > 0 {
		r.current.Replicas += min(room, r.size-r.current.Replicas)
	}
}

// shrink makes old sets smaller: first by pods that are not available anyway, then as far as enough stay
// available. With 10 replicas, 3 that may be missing, 10 old pods available and 3 new ones not yet, 3 old may
// go; with 10 old and 3 new ones available, 6.
func (r *rollout) shrink() {
	least := r.size - r.missing
	unready := max(r.current.Replicas-r.current.Available, 0)
	budget := r.total() - least - unready
	for i := range r.sets {
		s := &r.sets[i]
		if s == r.current || budget <= 0 {
			continue
		}
		n := min(max(s.Replicas-s.Available, 0), budget)
		s.Replicas -= n
		budget -= n
	}
	var available int32
	for i := range r.sets {
		available += min(r.sets[i].Available, r.sets[i].Replicas)
	}
	spare := min(available-least, budget)
	for i := range r.sets {
		s := &r.sets[i]
		if s == r.current || spare <= 0 {
			continue
		}
		n := min(s.Replicas, spare)
		s.Replicas -= n
		spare -= n
	}
}

// rescale spreads a changed size over the sets in proportion to theirs, the current one taking what rounding
// leaves; during a rollout this keeps the mix of old and new.
func (r *rollout) rescale() {
	var live []*ReplicaSet
	for i := range r.sets {
		if r.sets[i].Replicas > 0 {
			live = append(live, &r.sets[i])
		}
	}
	switch {
	case len(live) == 0 && r.current != nil:
		r.current.Replicas = r.size
		return
	case len(live) == 0 && len(r.sets) > 0:
		r.sets[len(r.sets)-1].Replicas = r.size
		return
	case len(live) == 0:
		return
	case len(live) == 1:
		live[0].Replicas = r.size
		return
	}
	total := int64(r.total())
	allowed := int64(0)
	if r.size > 0 {
		allowed = int64(r.size + r.surge)
	}
	if r.d.Sized > 0 { // keep no more over the size than there was
		allowed = min(allowed, int64(r.size)+max(total-int64(r.d.Sized), 0))
	}
	left := allowed
	for _, s := range live {
		n := int64(s.Replicas) * allowed / total
		s.Replicas = int32(n)
		left -= n
	}
	largest := live[len(live)-1]
	if r.current != nil && slices.Contains(live, r.current) {
		largest = r.current
	}
	largest.Replicas += int32(left)
}

// finish counts, judges the progress and clears old revisions away.
func (r *rollout) finish() DeploymentPlan {
	d := r.d
	old := d
	d.Sized = r.size
	d.Pods, d.Updated, d.Ready, d.Available = 0, 0, 0, 0
	for i := range r.sets {
		s := &r.sets[i]
		d.Pods += s.Pods
		d.Ready += s.Ready
		d.Available += s.Available
	}
	if r.current != nil {
		d.Updated = r.current.Pods
	}
	outdated, was := d.Pods-d.Updated, old.Pods-old.Updated
	if d.Progress == 0 || d.Updated > old.Updated || outdated < was || d.Ready > old.Ready || d.Available > old.Available {
		d.Progress = r.now
	}
	p := DeploymentPlan{}
	deadline := int64(600_000)
	if r.spec.ProgressDeadlineSeconds != nil {
		deadline = int64(*r.spec.ProgressDeadlineSeconds) * 1000
	}
	complete := r.current != nil && d.Updated == r.size && d.Pods == r.size && d.Available >= r.size
	switch {
	case r.spec.Paused:
		d.State = Paused
		d.Progress = r.now
		if old.State == Paused {
			d.Progress = old.Progress
		}
	case complete, old.State == Complete && old.Object == d.Object && r.current != nil && d.Updated == r.size && d.Pods == r.size:
		d.State = Complete // a pod that is not ready later is no rollout
	case r.now-d.Progress >= deadline:
		d.State = Stuck
	default:
		d.State = Progressing
		p.Wake = d.Progress + deadline
	}
	if complete {
		r.prune(&p)
	}
	p.Deployment, p.Sets = d, r.sets
	return p
}

// prune drops the oldest revisions without pods beyond revisionHistoryLimit.
func (r *rollout) prune(p *DeploymentPlan) {
	limit := 10
	if r.spec.RevisionHistoryLimit != nil {
		limit = int(*r.spec.RevisionHistoryLimit)
	}
	current := r.current.Key
	over := len(r.sets) - 1 - limit
	r.sets = slices.DeleteFunc(r.sets, func(s ReplicaSet) bool {
		if over <= 0 || s.Key == current || s.Replicas > 0 || s.Pods > 0 {
			return false
		}
		over--
		p.Drop = append(p.Drop, s.Key)
		return true
	})
	r.current = nil // the slice has moved
}
