package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// TestFault_J6 has pods of a job, and of a run of a CronJob, evicted, lost with their node and drained at the last moment: the
// job is tried again after its back-off, under the same name and uid, each pod says which attempt it is, and the limit
// holds. Who is moved by a drain has not failed.
func TestFault_J6(t *testing.T) {
	for name, manifest := range map[string]string{
		"job": job("backoffLimit: 2", "a"),
		"run": strings.Replace(cronJob("* * * * *", "concurrencyPolicy: Forbid"), "backoffLimit: 0", "backoffLimit: 2", 1),
	} {
		t.Run(name, func(t *testing.T) {
			r := enginetest.NewRing(t)
			r.Up(3)
			r.Commit("dev", manifest)
			if name == "run" {
				r.Advance(60)
			}
			var key string
			now := func() (*control.Pod, *control.Job) {
				t.Helper()
				var pod *control.Pod
				for _, p := range r.Pods() {
					if p.Active() {
						if pod != nil {
							t.Fatalf("pods %s and %s are wanted at once", pod.Name, p.Name)
						}
						pod = p
					}
				}
				jobs := slices.Collect(r.State.Jobs().Values())
				if got := fmt.Sprint(jobs[0].Key, jobs[0].UID); len(jobs) != 1 || key != "" && got != key {
					t.Fatalf("jobs %v, was %s", jobs, key)
				} else {
					key = got
				}
				return pod, jobs[0]
			}
			is := func(what string, attempt int32, want string) {
				t.Helper()
				p, j := now()
				got := fmt.Sprintf("%s %d failed", j.State, j.Failed)
				if p != nil {
					got += fmt.Sprintf(" attempt %d", p.Attempt)
				}
				if attempt > 0 {
					want += fmt.Sprintf(" attempt %d", attempt)
				}
				if got != want {
					t.Errorf("%s: %s, want %s", what, got, want)
				}
			}
			is("begun", 1, "Running 0 failed")
			p, _ := now()
			r.Must(enginetest.Report(p, corev1.PodRunning, true))
			r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: p.Node, Drain: true}}) // at 99 percent
			gone(r)
			is("drained", 1, "Running 0 failed")
			r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: p.Node, Off: true}})

			p, _ = now()
			in := enginetest.Report(p, corev1.PodFailed, false)
			in.Phase.Status.Reason = "Evicted"
			r.Must(in)
			is("evicted", 0, "Running 1 failed")
			r.Advance(9)
			is("not yet", 0, "Running 1 failed")
			r.Advance(1)
			is("tried again", 2, "Running 1 failed")

			p, _ = now()
			r.Must(enginetest.Report(p, corev1.PodRunning, true))
			r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: p.Node}})
			is("its node is lost, and may run it", 2, "Running 1 failed")
			r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: p.Node, Fenced: true}})
			is("its lease is over", 0, "Running 2 failed")
			r.Advance(20)
			is("tried again", 3, "Running 2 failed")

			p, _ = now()
			if name == "run" {
				r.Must(enginetest.Report(p, corev1.PodSucceeded, false))
				_, j := now()
				if j.State != control.JobComplete || j.Succeeded != 1 {
					t.Errorf("%+v", j)
				}
				return
			}
			r.Must(enginetest.Gone(p)) // it vanished
			is("over the limit", 0, "Failed 3 failed")
			r.Advance(3600)
			is("for good", 0, "Failed 3 failed")
			enginetest.Check(t, r)
		})
	}
}
