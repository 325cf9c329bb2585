package cluster

import (
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
)

// runJob takes a Job further: one that Git names, or a run of a CronJob.
func (t *tx) runJob(k desired.Key) {
	j, there := t.s.jobs.Get(k)
	o, wanted := t.s.objects.Get(k)
	switch {
	case there && j.Owner.UID != "" && !wanted: // of a CronJob
	case there && j.Owner.UID != "":
		panic(ruleError{fmt.Errorf("the name is that of a run of %s", j.Owner.Key)})
	case !there && !wanted:
		return
	case !wanted:
		t.dissolveJob(j, "its Job is no longer in Git")
		return
	default:
		j = t.jobFromGit(j, o)
	}
	now := *j
	now.After = slices.DeleteFunc(slices.Clone(j.After), func(uid string) bool { return !t.unfinished(uid) })

	var pods []*control.Pod
	for p := range t.s.PodsOf(now.UID) {
		pods = append(pods, p)
	}
	t.spend(len(pods) / 8)
	plan := control.PlanJob(now, t.jobSpec(now.Object), t.now, pods, len(now.After) > 0 || t.verifyLater(&now))
	for _, id := range plan.Count {
		old, _ := t.s.pods.Get(id)
		p := *old
		p.Counted = true
		t.s.pods.set(&t.s, &p)
	}
	for _, d := range plan.Delete {
		p, _ := t.s.pods.Get(d.Pod)
		t.stop(p, d.Why)
	}
	t.spend(len(plan.Create))
	for _, index := range plan.Create {
		t.create(t.jobPod(&plan.Job, index))
	}
	if plan.Job.Finished != j.Finished && now.Owner.UID != "" {
		t.queue.add(now.Owner.Key)
	}
	if plan.Job.Verifies != 0 && plan.Job.Finished != 0 && j.Finished == 0 {
		t.verified(&plan.Job)
	}
	if plan.Gone {
		t.expire(&plan.Job)
		return
	}
	t.s.jobs.set(&t.s, &plan.Job)
	t.wake(k, plan.Wake)
}

// expire takes away what is left of a job whose time to live has passed. Of a job in Git the record stays, or it
// would run again.
func (t *tx) expire(j *control.Job) {
	if j.Owner.UID != "" {
		t.dissolveJob(j, "its job's ttlSecondsAfterFinished passed")
		return
	}
	for p := range t.s.PodsOf(j.UID) {
		t.stop(p, "its job's ttlSecondsAfterFinished passed")
	}
	t.s.jobs.set(&t.s, j)
}

// unfinished tells whether pods of an owner still run, or may.
func (t *tx) unfinished(uid string) bool {
	for p := range t.s.PodsOf(uid) {
		if p.Finished == 0 {
			return true
		}
	}
	return false
}

// before gives the uids, sorted, of the owners of pods that were made for an object of this key and still run, or
// may: also those of an object that left Git and came back, which its record no longer knows.
func (t *tx) before(k desired.Key) []string {
	var uids []string
	prefix := k.Namespace + "/" + clip(k.Name, shortestBase)
	for at := range t.s.podNames.pairs.from(pair[string, control.PodID]{at: prefix}) {
		if !strings.HasPrefix(at.at, prefix) {
			break
		}
		if p, ok := t.s.pods.Get(at.key); ok && p.Source == k && p.Finished == 0 {
			uids = append(uids, p.Owner.UID)
		}
	}
	slices.Sort(uids)
	return slices.Compact(uids)
}

// jobFromGit is the record of a job that Git names. A changed template is another job of the same name, and so is one that is to verify
// another render: it runs anew, once the pods of the old one are gone.
func (t *tx) jobFromGit(j *control.Job, o *Object) *control.Job {
	spec := t.jobSpec(o.Digest)
	template := t.authored(o, &spec.Template)
	verifies := t.verifies(o)
	anew := verifies != nil && (j == nil || j.Verifies != verifies.Index)
	if j != nil && j.Template == template && !anew {
		now := *j
		now.Object, now.Commit = o.Digest, o.Commit
		return &now
	}
	env, _ := t.s.environments.Get(o.Environment)
	now := &control.Job{
		Key: o.Key, Environment: o.Environment, UID: o.UID, Object: o.Digest, Template: template, Commit: o.Commit,
		Created: t.now, Images: imagesOf(&spec.Template.Spec, env.Images),
	}
	why := "its job's template changed with commit " + clip(string(o.Commit), 12)
	if verifies != nil {
		now.Verifies = verifies.Index
		if j != nil && j.Template == template {
			why = "its job verifies commit " + verifies.Commit.Short() + " now"
		}
	}
	if j != nil {
		now.UID = t.uid(o.Environment, o.Key)
		renamed := *o
		renamed.UID, renamed.Created = now.UID, t.now
		t.s.objects.set(&t.s, &renamed)
		for p := range t.s.PodsOf(j.UID) {
			t.stop(p, why)
		}
	}
	now.After = t.before(o.Key)
	return now
}

// jobSpec loads the spec of a job from a Job or a CronJob.
func (t *tx) jobSpec(d desired.Digest) *batchv1.JobSpec {
	switch o := t.load(d).object.(type) {
	case *batchv1.Job:
		return &o.Spec
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec
	default:
		panic(ruleError{fmt.Errorf("object %s is a %T, which has no job", short(d), o)})
	}
}

// AttemptsSince is the engine version from which pods of jobs say which attempt they are.
const AttemptsSince = 8

// shortestBase is how many bytes of a job's name its pods' names have at least.
const shortestBase = 40

func (t *tx) jobPod(j *control.Job, index string) podSeed {
	base := j.Key.Name
	labels := map[string]string{
		batchv1.JobNameLabel: j.Key.Name, batchv1.ControllerUidLabel: j.UID,
		"job-name": j.Key.Name, "controller-uid": j.UID, // as they were called first
	}
	if index != "" {
		base = clip(base, max(57-1-len(index), shortestBase)) + "-" + index
		labels[batchv1.JobCompletionIndexAnnotation] = index
	}
	seed := podSeed{
		environment: j.Environment, namespace: j.Key.Namespace, name: t.childName(j.Key.Namespace, base, j.UID),
		owner: control.Owner{Key: j.Key, UID: j.UID}, source: j.Key, object: j.Object, authored: j.Template,
		labels: labels, images: j.Images, index: index, fenced: true,
	}
	if j.Owner.UID != "" {
		seed.source = j.Owner.Key
	}
	if ring, _ := t.s.Ring(); ring.Engine >= AttemptsSince {
		seed.attempt = j.Failed + 1
	}
	return seed
}

// dissolveJob stops the pods of a job and forgets it.
func (t *tx) dissolveJob(j *control.Job, why string) {
	for p := range t.s.PodsOf(j.UID) {
		t.stop(p, why)
	}
	t.s.jobs.drop(&t.s, j.Key)
	t.wake(j.Key, 0)
	t.s.faults.drop(&t.s, j.Key)
}

// runCronJob starts the run that is due.
func (t *tx) runCronJob(k desired.Key) {
	c, there := t.s.cronjobs.Get(k)
	o, wanted := t.s.objects.Get(k)
	switch {
	case !there && !wanted:
		return
	case !wanted:
		for j := range t.s.Runs(k) {
			t.dissolveJob(j, "its CronJob is no longer in Git")
		}
		t.s.cronjobs.drop(&t.s, k)
		return
	}
	spec := &object[batchv1.CronJob](t, o.Digest).Spec
	if t.asleep(o.Environment) {
		sleeping, suspend := *spec, true
		sleeping.Suspend = &suspend
		spec = &sleeping
	}
	now := control.CronJob{Key: k, Environment: o.Environment, UID: o.UID}
	if there {
		now = *c
	}
	now.Object, now.Commit = o.Digest, o.Commit
	var runs []control.Job
	for j := range t.s.Runs(k) {
		runs = append(runs, *j)
	}
	plan, err := control.PlanCron(now, spec, t.now, runs)
	if err != nil {
		panic(ruleError{err})
	}
	for _, gone := range plan.Stop {
		j, _ := t.s.jobs.Get(gone)
		why := "newer runs of its CronJob have finished"
		if j.Finished == 0 {
			why = "it is replaced by run " + plan.Name
		}
		t.dissolveJob(j, why)
	}
	if plan.Run != 0 {
		t.startRun(&plan, o, spec)
	}
	t.s.cronjobs.set(&t.s, &plan.CronJob)
	t.wake(k, plan.Wake)
}

// startRun makes the job of a run. Unless runs may overlap, its pods wait until those of all others are gone.
func (t *tx) startRun(plan *control.CronPlan, o *Object, spec *batchv1.CronJobSpec) {
	c := &plan.CronJob
	key := desired.Key{Group: "batch", Kind: "Job", Namespace: c.Key.Namespace, Name: plan.Name}
	if other, ok := t.s.jobs.Get(key); ok {
		panic(ruleError{fmt.Errorf("the run's name %s is that of a job of environment %s", plan.Name, other.Environment)})
	}
	env, _ := t.s.environments.Get(o.Environment)
	template := &spec.JobTemplate.Spec.Template
	j := &control.Job{
		Key: key, Environment: o.Environment, UID: t.uid(o.Environment, key), Owner: control.Owner{Key: c.Key, UID: c.UID},
		Object: o.Digest, Template: t.authored(o, template), Commit: o.Commit, Created: t.now, Run: plan.Run,
		Images: imagesOf(&template.Spec, env.Images),
	}
	if spec.ConcurrencyPolicy != "" && spec.ConcurrencyPolicy != batchv1.AllowConcurrent {
		j.After = t.before(c.Key)
	}
	t.s.jobs.set(&t.s, j)
	t.queue.add(key)
}
