package control

import (
	"cmp"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// CronJob is what the ledger knows of a CronJob.
type CronJob struct {
	Key         desired.Key    `json:"key"`
	Environment string         `json:"environment"`
	UID         string         `json:"uid"`
	Object      desired.Digest `json:"object"`
	Commit      source.ID      `json:"commit"`
	Schedule    string         `json:"schedule"`            // with its time zone, as last seen: another one begins anew
	Since       int64          `json:"since"`               // ring time from which the schedule counts, ms
	Last        int64          `json:"last,omitempty"`      // the scheduled time of the newest run, ms
	Next        int64          `json:"next,omitempty"`      // of the next one; 0: it never comes
	Succeeded   int64          `json:"succeeded,omitempty"` // ring time at which a run last succeeded, ms
	Missed      int64          `json:"missed,omitempty"`    // the newest scheduled time that was let pass, ms
}

// CronPlan is what is to be done for a CronJob.
type CronPlan struct {
	CronJob CronJob
	Run     int64         // the scheduled time of the run to start, 0 for none
	Name    string        // of that run
	Stop    []desired.Key // runs to end, with their pods
	Wake    int64
}

// RunName names a run by its scheduled minute, so that it is one run however many times it is thought of: 31 bytes
// remain for pods' names as in Kubernetes, where a CronJob's name has 52 bytes at most. Of an "@every" shorter than a
// minute one run a minute starts.
func RunName(cronJob string, at int64) string { return fmt.Sprintf("%s-%d", cronJob, at/60_000) }

// PlanCron decides for c at ring time now; runs are its jobs. The newest run that was missed is made up for,
// older ones are not.
func PlanCron(c CronJob, spec *batchv1.CronJobSpec, now int64, runs []Job) (CronPlan, error) {
	location := ""
	if spec.TimeZone != nil {
		location = *spec.TimeZone
	}
	schedule, err := ParseSchedule(spec.Schedule, location)
	if err != nil {
		return CronPlan{}, err
	}
	if line := spec.Schedule + " " + location; line != c.Schedule {
		c.Schedule, c.Since = line, now
	}
	p := CronPlan{}
	slices.SortFunc(runs, func(a, b Job) int { return cmp.Or(cmp.Compare(b.Run, a.Run), a.Key.Compare(b.Key)) })
	var active []Job
	for i := range runs {
		if runs[i].Finished == 0 {
			active = append(active, runs[i])
		}
		if runs[i].State == JobComplete {
			c.Succeeded = max(c.Succeeded, runs[i].Finished)
		}
	}
	p.history(spec, runs)

	due, next := schedule.Due(max(c.Since, c.Last), now)
	c.Next = next
	switch {
	case due == 0:
	case spec.Suspend != nil && *spec.Suspend: // due when it goes on, unless its deadline has passed then
	case tooLate(spec, due, now):
		c.Missed = due
	case slices.ContainsFunc(runs, func(j Job) bool { return j.Key.Name == RunName(c.Key.Name, due) }):
		c.Last = due
	case spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(active) > 0:
		// It runs when the other has ended, if it is not too late then.
		c.Missed = due
	default:
		if spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
			for i := range active {
				p.Stop = append(p.Stop, active[i].Key)
			}
		}
		c.Last, p.Run, p.Name = due, due, RunName(c.Key.Name, due)
	}
	if spec.Suspend == nil || !*spec.Suspend {
		p.Wake = next
	}
	p.CronJob = c
	return p, nil
}

// tooLate tells whether a run's deadline has passed.
func tooLate(spec *batchv1.CronJobSpec, due, now int64) bool {
	return spec.StartingDeadlineSeconds != nil && now-due > *spec.StartingDeadlineSeconds*1000
}

// history ends finished runs beyond the limits, oldest first; runs come newest first.
func (p *CronPlan) history(spec *batchv1.CronJobSpec, runs []Job) {
	good, bad := int32(3), int32(1)
	if spec.SuccessfulJobsHistoryLimit != nil {
		good = *spec.SuccessfulJobsHistoryLimit
	}
	if spec.FailedJobsHistoryLimit != nil {
		bad = *spec.FailedJobsHistoryLimit
	}
	for i := range runs {
		switch runs[i].State {
		case JobComplete:
			if good--; good < 0 {
				p.Stop = append(p.Stop, runs[i].Key)
			}
		case JobFailed:
			if bad--; bad < 0 {
				p.Stop = append(p.Stop, runs[i].Key)
			}
		}
	}
}
