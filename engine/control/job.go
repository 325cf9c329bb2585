package control

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// Job is what the ledger knows of a Job: one that Git names, or one run of a CronJob.
type Job struct {
	Key         desired.Key       `json:"key"`
	Environment string            `json:"environment"`
	UID         string            `json:"uid"`
	Owner       Owner             `json:"owner,omitzero"` // the CronJob; zero when Git names the job itself
	Object      desired.Digest    `json:"object"`         // has the job's spec
	Template    desired.Digest    `json:"template"`       // as its author wrote it
	Commit      source.ID         `json:"commit,omitempty"`
	Created     int64             `json:"created"`       // ring time, ms
	Run         int64             `json:"run,omitempty"` // the scheduled time, ms; 0 without a CronJob
	Images      map[string]string `json:"images,omitempty"`

	State    JobState `json:"state,omitempty"`
	Reason   string   `json:"reason,omitempty"`   // of a failure, in Kubernetes' word
	Message  string   `json:"message,omitempty"`  // of a failure, in a sentence
	Started  int64    `json:"started,omitempty"`  // ring time at which it was first to run, or was resumed, ms
	Finished int64    `json:"finished,omitempty"` // ring time, ms

	Active    int32  `json:"active"` // pods that run or are to run
	Ready     int32  `json:"ready"`
	Succeeded int32  `json:"succeeded"`
	Failed    int32  `json:"failed"`
	Indexes   string `json:"indexes,omitempty"` // completed ones, "0-3,5"

	Streak  int32 `json:"streak,omitempty"`  // pods that failed in a row, for the back-off
	RetryAt int64 `json:"retryAt,omitempty"` // ring time before which no failed pod is replaced
	Lost    int32 `json:"lost,omitempty"`    // pods that vanished unfinished and are not yet counted as failed

	Verifies uint64 `json:"verifies,omitempty"` // index of the Activate whose render it verifies; 0: none

	After []string `json:"after,omitempty"` // uids of earlier runs whose pods must be gone before the first of this one
}

// JobState says how far a job is.
type JobState string

// The states of a job.
const (
	JobRunning   JobState = "Running"
	JobSuspended JobState = "Suspended"
	JobComplete  JobState = "Complete"
	JobFailed    JobState = "Failed"
)

// JobPlan is what is to be done for a Job.
type JobPlan struct {
	Job    Job
	Count  []PodID  // finished pods that are in the counts now
	Create []string // pods to make: the completion index of each, "" where there is none
	Delete []Stop
	Gone   bool // its time to live after it finished has passed
	Wake   int64
}

// Back-off between a pod's failure and the next one, and how many finished pods a job keeps for its logs.
const (
	jobBackoffFirst = 10_000  // ms
	jobBackoffMost  = 360_000 // ms
	keepSucceeded   = 3
	keepFailed      = 3
)

// PlanJob decides for j at ring time now; pods are all of the job's, by id. A pod that is told to stop holds its
// place, and its index, until nothing is left of it: no index ever runs twice at once. wait holds new pods back,
// because those of another run must be gone first.
func PlanJob(j Job, spec *batchv1.JobSpec, now int64, pods []*Pod, wait bool) JobPlan {
	p := planJob{j: j, spec: spec, now: now, pods: pods, done: indexesOf(j.Indexes)}
	p.limit = 6
	if spec.BackoffLimit != nil {
		p.limit = *spec.BackoffLimit
	}
	p.indexed = spec.CompletionMode != nil && *spec.CompletionMode == batchv1.IndexedCompletion
	p.count()
	switch {
	case p.j.Finished != 0:
		p.retire()
	case p.failed():
		p.finish(JobFailed)
	case p.complete():
		p.finish(JobComplete)
	case spec.Suspend != nil && *spec.Suspend:
		p.j.State, p.j.Started = JobSuspended, 0
		p.stopAll("its job is suspended")
	default:
		p.run(wait)
	}
	p.tidy()
	p.out.Job = p.j
	return p.out
}

type planJob struct {
	j       Job
	spec    *batchv1.JobSpec
	now     int64
	pods    []*Pod
	limit   int32
	indexed bool
	done    map[int32]bool

	active   []*Pod
	stopping int32
	restarts int64
	out      JobPlan
}

// count takes the pods that ended into account, each once.
func (p *planJob) count() {
	p.j.Active, p.j.Ready = 0, 0
	for ; p.j.Lost > 0; p.j.Lost-- {
		p.failure()
	}
	for _, pod := range p.pods {
		switch {
		case pod.Finished != 0 && !pod.Counted:
			p.out.Count = append(p.out.Count, pod.ID)
			if pod.Succeeded() {
				p.success(pod)
			} else if pod.Deleting == 0 { // stopped by us is no failure
				p.failure()
			}
		case pod.Finished != 0:
		case pod.Deleting != 0:
			p.stopping++
		case pod.Leaving != 0 && pod.Lost == 0:
			p.out.Delete = append(p.out.Delete, Stop{pod.ID, pod.WhyLeaving()})
			p.stopping++
		default:
			p.active = append(p.active, pod)
			p.restarts += pod.Restarts()
			if pod.IsReady() {
				p.j.Ready++
			}
		}
	}
	p.j.Active = int32(len(p.active))
}

func (p *planJob) success(pod *Pod) {
	p.j.Streak, p.j.RetryAt = 0, 0
	if !p.indexed {
		p.j.Succeeded++
		return
	}
	n, err := strconv.ParseInt(pod.Index, 10, 32)
	if err != nil || p.done[int32(n)] {
		return
	}
	p.done[int32(n)] = true
	p.j.Indexes = indexText(p.done)
	p.j.Succeeded = int32(len(p.done))
}

func (p *planJob) failure() {
	p.j.Failed++
	p.j.Streak++
	p.j.RetryAt = p.now + backoff(jobBackoffFirst, jobBackoffMost, int64(p.j.Streak))
}

// failed tells whether the job has reached a limit, and says which.
func (p *planJob) failed() bool {
	onFailure := p.spec.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
	switch {
	case p.j.Failed > p.limit, onFailure && p.restarts > 0 && p.restarts >= int64(p.limit):
		p.j.Reason = batchv1.JobReasonBackoffLimitExceeded
		p.j.Message = fmt.Sprintf("%d pods failed, with %d restarts in the pods that run; backoffLimit is %d", p.j.Failed, p.restarts, p.limit)
		return true
	case p.spec.ActiveDeadlineSeconds != nil && p.j.Started != 0:
		end := p.j.Started + *p.spec.ActiveDeadlineSeconds*1000
		if p.now < end {
			p.out.Wake = soonest(p.out.Wake, end)
			return false
		}
		p.j.Reason = batchv1.JobReasonDeadlineExceeded
		p.j.Message = fmt.Sprintf("it ran longer than its activeDeadlineSeconds of %d", *p.spec.ActiveDeadlineSeconds)
		return true
	}
	return false
}

// complete tells whether enough pods succeeded. Without completions one success is enough, once all others have
// ended (a work queue).
func (p *planJob) complete() bool {
	if p.spec.Completions == nil {
		return p.j.Succeeded > 0 && p.j.Active == 0 && p.stopping == 0
	}
	return p.j.Succeeded >= *p.spec.Completions
}

func (p *planJob) finish(state JobState) {
	p.j.State, p.j.Finished = state, max(p.now, 1)
	p.j.RetryAt = 0
	p.stopAll("its job has finished: " + cmp.Or(p.j.Reason, string(state)))
	p.out.Wake = 0
	p.retire()
}

// retire waits for the end of a finished job's time to live.
func (p *planJob) retire() {
	p.stopAll("its job has finished")
	if p.spec.TTLSecondsAfterFinished == nil {
		return
	}
	end := p.j.Finished + int64(*p.spec.TTLSecondsAfterFinished)*1000
	if p.now >= end {
		p.out.Gone = true
		return
	}
	p.out.Wake = soonest(p.out.Wake, end)
}

func (p *planJob) stopAll(why string) {
	for _, pod := range p.active {
		p.out.Delete = append(p.out.Delete, Stop{pod.ID, why})
	}
	p.active, p.j.Active, p.j.Ready = nil, 0, 0
}

// run keeps as many pods as parallelism and what is left to do allow.
func (p *planJob) run(wait bool) {
	p.j.State = JobRunning
	if p.j.Started == 0 {
		p.j.Started = max(p.now, 1)
		if d := p.spec.ActiveDeadlineSeconds; d != nil {
			p.out.Wake = soonest(p.out.Wake, p.j.Started+*d*1000)
		}
	}
	want := int32(1)
	if p.spec.Parallelism != nil {
		want = *p.spec.Parallelism
	}
	switch {
	case p.spec.Completions != nil:
		want = min(want, *p.spec.Completions-p.j.Succeeded)
	case p.j.Succeeded > 0: // the queue is empty: those that run finish
		want = min(want, p.j.Active)
	}
	if surplus := int(p.j.Active - want); surplus > 0 {
		slices.SortFunc(p.active, byDispensable)
		for _, pod := range p.active[:surplus] {
			p.out.Delete = append(p.out.Delete, Stop{pod.ID, "more pods than its job's parallelism"})
		}
		p.active = p.active[surplus:]
		p.j.Active = want
		return
	}
	missing := min(want-p.j.Active-p.stopping, maxAtOnce)
	switch {
	case missing <= 0 || wait:
	case p.now < p.j.RetryAt:
		p.out.Wake = soonest(p.out.Wake, p.j.RetryAt)
	case p.indexed:
		p.out.Create = p.freeIndexes(missing)
	default:
		p.out.Create = make([]string, missing)
	}
	p.j.Active += int32(len(p.out.Create))
}

// maxAtOnce is more pods than one entry may make: it only keeps the list of them short.
const maxAtOnce = 1 << 18

// freeIndexes are the lowest n that are neither completed nor held by a pod.
func (p *planJob) freeIndexes(n int32) []string {
	held := map[string]bool{}
	for _, pod := range p.pods {
		if pod.Finished == 0 {
			held[pod.Index] = true
		}
	}
	var free []string
	for i := int32(0); i < *p.spec.Completions && int32(len(free)) < n; i++ {
		if name := strconv.Itoa(int(i)); !p.done[i] && !held[name] {
			free = append(free, name)
		}
	}
	return free
}

// tidy lets the oldest finished pods go: they hold an address and their logs' place on a node.
func (p *planJob) tidy() {
	var succeeded, failed []*Pod
	for _, pod := range p.pods {
		switch {
		case pod.Finished == 0 || pod.Deleting != 0:
		case pod.Succeeded():
			succeeded = append(succeeded, pod)
		default:
			failed = append(failed, pod)
		}
	}
	drop := func(pods []*Pod, keep int) {
		slices.SortFunc(pods, func(a, b *Pod) int {
			return cmp.Or(cmp.Compare(b.Finished, a.Finished), cmp.Compare(a.Name, b.Name))
		})
		for _, pod := range pods[min(keep, len(pods)):] {
			p.out.Delete = append(p.out.Delete, Stop{pod.ID, "newer pods of its job have finished"})
		}
	}
	drop(succeeded, keepSucceeded)
	drop(failed, keepFailed)
}

// indexesOf reads "0-3,5".
func indexesOf(text string) map[int32]bool {
	done := map[int32]bool{}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.ParseInt(first, 10, 32)
		b, errB := strconv.ParseInt(last, 10, 32)
		if errA != nil || errB != nil {
			continue
		}
		for i := a; i <= b; i++ {
			done[int32(i)] = true
		}
	}
	return done
}

// indexText writes "0-3,5".
func indexText(done map[int32]bool) string {
	all := make([]int32, 0, len(done))
	for i := range done {
		all = append(all, i)
	}
	slices.Sort(all)
	var parts []string
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(int(all[i])))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", all[i], all[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
