package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

func job(fields, image string) string {
	return `
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  ` + fields + `
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: "` + image + `"}]
`
}

func cronJob(schedule, fields string) string {
	return `
apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
spec:
  schedule: "` + schedule + `"
  ` + fields + `
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers: [{name: main, image: r}]
`
}

// jobsText is every job with its pods: "work Running 1 active 0 ok 2 failed [stopping]".
func jobsText(r *enginetest.Ring) string {
	var lines []string
	for j := range r.State.Jobs().Values() {
		name := strings.TrimPrefix(j.Key.Name, "report-")
		if j.Owner.UID != "" {
			name = time.UnixMilli(j.Run).UTC().Format("15:04")
		}
		line := fmt.Sprintf("%s %s %d active %d ok %d failed", name, j.State, j.Active, j.Succeeded, j.Failed)
		if j.Indexes != "" {
			line += " [" + j.Indexes + "]"
		}
		if j.Reason != "" {
			line += " " + j.Reason
		}
		lines = append(lines, line)
	}
	stopping := 0
	for p := range r.State.Pods().Values() {
		if p.Deleting != 0 && p.Finished == 0 {
			stopping++
		}
	}
	if stopping > 0 {
		lines = append(lines, fmt.Sprintf("%d stopping", stopping))
	}
	return strings.Join(lines, "; ")
}

// end has the first pod that runs, or that of an index, succeed or fail.
func end(r *enginetest.Ring, index string, phase corev1.PodPhase) {
	r.T.Helper()
	for _, p := range r.Pods() {
		if p.Active() && p.Node != "" && (index == "" || p.Index == index) {
			r.Must(enginetest.Report(p, phase, false))
			return
		}
	}
	r.T.Fatalf("no pod runs: %s", jobsText(r))
}

// gone removes all pods that are to stop.
func gone(r *enginetest.Ring) {
	r.T.Helper()
	for _, p := range r.Pods() {
		if p.Deleting != 0 {
			r.Must(enginetest.Gone(p))
		}
	}
}

// play carries out the steps of a story; a step that is no command is what the jobs must look like.
func play(t *testing.T, r *enginetest.Ring, steps []string, manifests map[string]string) {
	t.Helper()
	for i, step := range steps {
		word, rest, _ := strings.Cut(step, " ")
		var n int64
		switch word {
		case "commit":
			r.Commit("dev", manifests[rest])
		case "ok":
			end(r, rest, corev1.PodSucceeded)
		case "fail":
			end(r, rest, corev1.PodFailed)
		case "gone":
			gone(r)
		case "lose":
			r.Must(enginetest.Gone(r.Pods()[0]))
		case "advance":
			fmt.Sscan(rest, &n)
			r.Advance(n)
		case "sleep": // the ring is down
			fmt.Sscan(rest, &n)
			r.Now += n * 1000
			r.Advance(0)
		default:
			if got := jobsText(r); got != step {
				t.Fatalf("step %d: got\n%s\nwant\n%s", i, got, step)
			}
		}
		if err := enginetest.Invariants(r.State); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	enginetest.Check(t, r)
}

func TestFeature_K6(t *testing.T) {
	for _, c := range []struct {
		name, fields string
		steps        []string
	}{
		{"once", "", []string{"commit a", "work Running 1 active 0 ok 0 failed", "ok", "work Complete 0 active 1 ok 0 failed", "commit a", "work Complete 0 active 1 ok 0 failed"}},
		{"completions and parallelism", "completions: 3\n  parallelism: 2", []string{
			"commit a", "work Running 2 active 0 ok 0 failed", "ok", "work Running 2 active 1 ok 0 failed", "ok", "work Running 1 active 2 ok 0 failed", "ok", "work Complete 0 active 3 ok 0 failed",
		}},
		{"back-off doubles and stops at the limit", "backoffLimit: 2", []string{
			"commit a", "fail", "work Running 0 active 0 ok 1 failed", "advance 9", "work Running 0 active 0 ok 1 failed", "advance 1", "work Running 1 active 0 ok 1 failed",
			"fail", "advance 19", "work Running 0 active 0 ok 2 failed", "advance 1", "work Running 1 active 0 ok 2 failed", "fail", "work Failed 0 active 0 ok 3 failed BackoffLimitExceeded",
			"advance 10000", "work Failed 0 active 0 ok 3 failed BackoffLimitExceeded",
		}},
		{"a pod that vanishes is a failure", "backoffLimit: 1", []string{"commit a", "lose", "work Running 0 active 0 ok 1 failed", "advance 10", "work Running 1 active 0 ok 1 failed"}},
		{"deadline", "activeDeadlineSeconds: 60", []string{
			"commit a", "advance 59", "work Running 1 active 0 ok 0 failed", "advance 1", "work Failed 0 active 0 ok 0 failed DeadlineExceeded; 1 stopping", "gone", "work Failed 0 active 0 ok 0 failed DeadlineExceeded",
		}},
		{"time to live: what is left goes, and it does not run again", "ttlSecondsAfterFinished: 100", []string{
			"commit a", "ok", "advance 100", "gone", "work Complete 0 active 1 ok 0 failed", "advance 1000", "work Complete 0 active 1 ok 0 failed",
		}},
		{"indexed: a pod an index, retried by itself", "completions: 4\n  parallelism: 2\n  completionMode: Indexed", []string{
			"commit a", "work Running 2 active 0 ok 0 failed", "ok 1", "work Running 2 active 1 ok 0 failed [1]", "fail 0", "work Running 1 active 1 ok 1 failed [1]",
			"advance 10", "work Running 2 active 1 ok 1 failed [1]", "ok 0", "ok 2", "work Running 1 active 3 ok 1 failed [0-2]", "ok 3", "work Complete 0 active 4 ok 1 failed [0-3]",
		}},
		{"suspended and resumed", "parallelism: 2\n  completions: 2", []string{
			"commit a", "commit suspended", "work Suspended 0 active 0 ok 0 failed; 2 stopping", "gone", "work Suspended 0 active 0 ok 0 failed", "commit a", "work Running 2 active 0 ok 0 failed",
		}},
		{"another template runs anew, after the old one is gone", "", []string{
			"commit a", "commit b", "work Running 0 active 0 ok 0 failed; 1 stopping", "gone", "work Running 1 active 0 ok 0 failed", "ok", "work Complete 0 active 1 ok 0 failed", "commit a", "work Running 1 active 0 ok 0 failed",
		}},
		{"parallelism grows and shrinks in place", "parallelism: 1\n  completions: 4", []string{
			"commit a", "commit wide", "work Running 3 active 0 ok 0 failed", "commit a", "work Running 1 active 0 ok 0 failed; 2 stopping",
		}},
		{"out of Git", "", []string{"commit a", "commit none", "1 stopping", "gone", ""}},
		{"out of Git and back: the pods of before end first", "", []string{
			"commit a", "commit none", "1 stopping", "commit a", "work Running 0 active 0 ok 0 failed; 1 stopping", "gone", "work Running 1 active 0 ok 0 failed",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := enginetest.NewRing(t)
			r.Up(1)
			play(t, r, c.steps, map[string]string{
				"a": job(c.fields, "a"), "b": job(c.fields, "b"), "suspended": job(c.fields+"\n  suspend: true", "a"),
				"wide": job(strings.Replace(c.fields, "parallelism: 1", "parallelism: 3", 1), "a"), "none": "",
			})
		})
	}
}

// TestWorkQueue shows a job without completions: one success, and the others may end.
func TestWorkQueue(t *testing.T) {
	now := enginetest.Epoch
	r := enginetest.NewRing(t)
	r.Up(1)
	r.Commit("dev", job("parallelism: 3", "a"))
	_ = now
	play(t, r, []string{"work Running 3 active 0 ok 0 failed", "ok", "work Running 2 active 1 ok 0 failed", "fail", "work Running 1 active 1 ok 1 failed", "ok", "work Complete 0 active 2 ok 1 failed"}, nil)
}

func TestFeature_K7(t *testing.T) {
	for _, c := range []struct {
		name, schedule, fields string
		steps                  []string
	}{
		{"once a schedule", "*/5 * * * *", "", []string{
			"commit a", "", "advance 299", "", "advance 1", "00:05 Running 1 active 0 ok 0 failed", "commit a", "ok", "advance 1", "00:05 Complete 0 active 1 ok 0 failed",
			"advance 299", "00:05 Complete 0 active 1 ok 0 failed; 00:10 Running 1 active 0 ok 0 failed",
		}},
		{"Allow", "* * * * *", "", []string{"commit a", "advance 120", "00:01 Running 1 active 0 ok 0 failed; 00:02 Running 1 active 0 ok 0 failed"}},
		{"Forbid: the missed run starts when the other has ended", "* * * * *", "concurrencyPolicy: Forbid", []string{
			"commit a", "advance 150", "00:01 Running 1 active 0 ok 0 failed", "ok", "00:01 Complete 0 active 1 ok 0 failed; 00:02 Running 1 active 0 ok 0 failed",
		}},
		{"Forbid: unless it is too late", "* * * * *", "concurrencyPolicy: Forbid\n  startingDeadlineSeconds: 10", []string{
			"commit a", "advance 150", "00:01 Running 1 active 0 ok 0 failed", "ok", "00:01 Complete 0 active 1 ok 0 failed", "advance 30", "00:01 Complete 0 active 1 ok 0 failed; 00:03 Running 1 active 0 ok 0 failed",
		}},
		{"Replace: the new pod waits for the end of the old one", "* * * * *", "concurrencyPolicy: Replace", []string{
			"commit a", "advance 60", "00:01 Running 1 active 0 ok 0 failed", "advance 60", "00:02 Running 0 active 0 ok 0 failed; 1 stopping", "advance 60", "00:03 Running 0 active 0 ok 0 failed; 1 stopping",
			"gone", "00:03 Running 1 active 0 ok 0 failed",
		}},
		{"Forbid: a CronJob that left Git and came back waits for the pods of before", "* * * * *", "concurrencyPolicy: Forbid", []string{
			"commit a", "advance 60", "commit none", "1 stopping", "commit a", "advance 60", "00:02 Running 0 active 0 ok 0 failed; 1 stopping",
			"gone", "00:02 Running 1 active 0 ok 0 failed",
		}},
		{"down for two days: one run is made up for", "*/5 * * * *", "", []string{
			"commit a", "sleep 172860", "00:00 Running 1 active 0 ok 0 failed", "ok", "advance 240", "00:00 Complete 0 active 1 ok 0 failed; 00:05 Running 1 active 0 ok 0 failed",
		}},
		{"down past the deadline", "*/5 * * * *", "startingDeadlineSeconds: 60", []string{"commit a", "sleep 400", "", "advance 200", "00:10 Running 1 active 0 ok 0 failed"}},
		{"suspended, and what it missed", "*/5 * * * *", "", []string{
			"commit suspended", "advance 700", "", "commit a", "00:10 Running 1 active 0 ok 0 failed",
		}},
		{"another schedule counts from when it came", "*/5 * * * *", "", []string{"commit a", "advance 700", "ok", "ok", "commit hourly", "00:05 Complete 0 active 1 ok 0 failed; 00:10 Complete 0 active 1 ok 0 failed", "advance 2899", "00:05 Complete 0 active 1 ok 0 failed; 00:10 Complete 0 active 1 ok 0 failed", "advance 1", "00:05 Complete 0 active 1 ok 0 failed; 00:10 Complete 0 active 1 ok 0 failed; 01:00 Running 1 active 0 ok 0 failed"}},
		{"history", "* * * * *", "successfulJobsHistoryLimit: 1\n  failedJobsHistoryLimit: 1", []string{
			"commit a", "advance 60", "ok", "advance 60", "fail", "advance 60", "ok", "gone", "00:02 Failed 0 active 0 ok 1 failed BackoffLimitExceeded; 00:03 Complete 0 active 1 ok 0 failed",
			"advance 60", "fail", "gone", "00:03 Complete 0 active 1 ok 0 failed; 00:04 Failed 0 active 0 ok 1 failed BackoffLimitExceeded",
		}},
		{"out of Git", "* * * * *", "", []string{"commit a", "advance 60", "commit none", "1 stopping", "gone", "", "advance 600", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := enginetest.NewRing(t)
			r.Up(1)
			play(t, r, c.steps, map[string]string{
				"a": cronJob(c.schedule, c.fields), "none": "", "suspended": cronJob(c.schedule, c.fields+"\n  suspend: true"), "hourly": cronJob("0 * * * *", c.fields),
			})
		})
	}
}

// TestFault_J8 shows that a thousand runs leave no more behind than their history.
func TestFault_J8(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	r.Commit("dev", cronJob("* * * * *", ""))
	for range 300 {
		r.Advance(60)
		end(r, "", corev1.PodSucceeded)
		gone(r)
	}
	if j, p, a := r.State.Jobs().Len(), r.State.Pods().Len(), r.State.Addresses().Len(); j != 3 || p != 3 || a > 253 {
		t.Errorf("%d jobs, %d pods, %d addresses", j, p, a)
	}
	c, _ := r.State.CronJobs().Get(desired.Key{Group: "batch", Kind: "CronJob", Namespace: "dev", Name: "report"})
	if want := enginetest.Epoch + 300*60_000; c.Last != want || c.Next != want+60_000 {
		t.Errorf("%+v", c)
	}
}

func TestRunName(t *testing.T) {
	if got := control.RunName("backup", 29627700*60_000+59_999); got != "backup-29627700" {
		t.Error(got)
	}
}

// TestFault_J7 shows 1,000 jobs that are due at the same second: they start over some Ticks, and another input in
// between does not wait for them.
func TestFault_J7(t *testing.T) {
	r := enginetest.NewRing(t)
	up := enginetest.Node(1)
	up.Capacity.Pods = 2000
	r.Must(cluster.Input{NodeUp: up})
	var many []string
	for i := range 1000 {
		many = append(many, strings.Replace(cronJob("* * * * *", ""), "name: report", fmt.Sprintf("name: report%03d", i), 1))
	}
	r.Commit("dev", strings.Join(many, "\n---\n"))
	r.Now += 60_000
	started := 0
	for range 8 {
		r.Must(cluster.Input{Tick: &cluster.Tick{}})
		now := r.State.Jobs().Len()
		if now-started > 128 {
			t.Errorf("%d jobs started with one Tick", now-started)
		}
		started = now
	}
	if started != 1000 {
		t.Errorf("%d of 1000 jobs started", started)
	}
	if wake := r.State.Wake(); wake != r.Now+60_000 {
		t.Errorf("the next Tick is wanted at %d", wake)
	}
}

// TestFault_J3 shows a clock that steps back and forth: every run of a minute once, none of them missed for ever.
func TestFault_J3(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	r.Commit("dev", cronJob("*/10 * * * *", "successfulJobsHistoryLimit: 100"))
	clock := func(minutes int64) {
		r.Now = enginetest.Epoch + minutes*60_000
		if w := r.State.Wake(); w != 0 && w <= max(r.Now, r.State.Time()) {
			r.Must(cluster.Input{Tick: &cluster.Tick{}})
		}
		for _, p := range r.Pods() {
			if p.Active() {
				end(r, "", corev1.PodSucceeded)
			}
		}
	}
	for _, minutes := range []int64{10, 20, 5, 10, 20, 25, 30, 1470, 40, 50, 1469, 1470, 1480} {
		clock(minutes)
	}
	if got, want := jobsText(r), "00:10 Complete 0 active 1 ok 0 failed; 00:20 Complete 0 active 1 ok 0 failed; 00:30 Complete 0 active 1 ok 0 failed; 00:30 Complete 0 active 1 ok 0 failed; 00:40 Complete 0 active 1 ok 0 failed"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEndIsFinal shows that a report that comes after a pod's end does not bring it back.
func TestEndIsFinal(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	r.Commit("dev", job("", "a"))
	p := r.Pods()[0]
	r.Must(enginetest.Report(p, corev1.PodSucceeded, false))
	r.Must(enginetest.Report(p, corev1.PodRunning, true))
	if p, _ = r.State.Pod(p.ID); !p.Succeeded() || p.Ready != 0 {
		t.Errorf("%+v", p)
	}
}
