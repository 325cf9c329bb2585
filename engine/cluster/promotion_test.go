package cluster_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// production is what rules there.
var production = promote.Environment{
	Name: "production", Ref: "refs/heads/env/production", After: []string{"staging"},
	Gates: promote.Gates{Soak: promote.Duration(time.Hour), Health: true, Verify: []string{"work"}},
}

// promotion is the activation of a promotion of what staging runs.
func promotion(r *enginetest.Ring, text string) cluster.Input {
	in := r.Activation("production", text)
	a := in.Activate
	run := lastRun(r, "staging")
	a.Ref, a.Tree, a.Policy = production.Ref, run.Tree, &production
	a.Claim = &cluster.Claim{
		Declared: production, Ask: promote.Ask{Act: promote.Promotion, From: "staging", Source: run.Commit, Render: run.Render},
		Facts: promote.Facts{
			Candidate: promote.Commit{ID: a.Commit, Tree: a.Tree, Parents: []source.ID{run.Commit}},
			Of:        promote.Commit{ID: run.Commit, Tree: run.Tree},
		},
	}
	if active, ok := r.State.Environments().Get("production"); ok {
		a.Claim.Facts.Active = promote.Commit{ID: active.Commit, Tree: lastRun(r, "production").Tree}
		a.Claim.Facts.Candidate.Parents = []source.ID{active.Commit, run.Commit}
	}
	return in
}

func lastRun(r *enginetest.Ring, environment string) (last cluster.Run) {
	for run := range r.State.History(environment) {
		last = *run
	}
	return last
}

// staging activates a commit there, whose tree names the Job that verifies it.
func staging(r *enginetest.Ring, text string) {
	r.T.Helper()
	in := r.Activation("staging", text)
	in.Activate.Verify = []string{"work"}
	r.Must(in)
}

func readyAll(r *enginetest.Ring, kind string) {
	r.T.Helper()
	for _, p := range r.Pods() {
		if p.Deleting != 0 {
			r.Must(enginetest.Gone(p))
		} else if p.Owner.Key.Kind == kind && p.Ready == 0 && p.Finished == 0 {
			r.Must(enginetest.Report(p, corev1.PodRunning, true))
		}
	}
}

// jobEnds has the pods of the Job end.
func jobEnds(r *enginetest.Ring, phase corev1.PodPhase) {
	r.T.Helper()
	for _, p := range r.Pods() {
		if p.Owner.Key.Kind == "Job" && p.Finished == 0 {
			r.Must(enginetest.Report(p, phase, false))
		}
	}
}

// What an environment's gates say decides in Step: a promotion is refused until the render has soaked in health, and the Job that
// verifies it has succeeded, which begins only once the rest is healthy and runs anew for another render.
func TestFeature_P3_GatesDecideInStep(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	refused := func(text, want string) {
		t.Helper()
		if out := r.Step(promotion(r, text)); !strings.Contains(out.Rejected, want) || want == "" && out.Rejected != "" {
			t.Fatalf("promotion: %q, want %q", out.Rejected, want)
		}
	}
	web := func(image string) string {
		return deployment("web", 2, image) + "\n---" + job("backoffLimit: 0", "probe:1")
	}
	staging(r, web("web:1"))
	jobs := func(want string) {
		t.Helper()
		if got := jobsText(r); got != want {
			t.Fatalf("jobs: %s, want %s", got, want)
		}
	}
	jobs("work Running 0 active 0 ok 0 failed") // it waits until the rest is healthy
	refused(web("web:1"), "health in staging: not healthy: Deployment web: 0 of 2 pods are available")
	readyAll(r, "ReplicaSet")
	jobs("work Running 1 active 0 ok 0 failed")
	jobEnds(r, corev1.PodSucceeded)
	refused(web("web:1"), "soak in staging: 0s of 1h")
	r.Now += 3_600_000
	refused(web("web:1"), "")
	readyAll(r, "ReplicaSet")
	if runs := lastRun(r, "production"); runs.Act != promote.Promotion || runs.Healthy == 0 {
		t.Errorf("production's run: %+v", runs)
	}
	enginetest.Check(t, r)

	// Another render: soak and Job begin anew. The Job fails.
	staging(r, web("web:2"))
	refused(web("web:2"), "verify:work in staging: no answer yet")
	for range 4 {
		readyAll(r, "ReplicaSet")
	}
	jobEnds(r, corev1.PodFailed)
	r.Now += 3_600_000
	refused(web("web:2"), "verify:work in staging: the Job failed")
	refused(web("web:2"), "not healthy: Job work: failed")

	// Without a word on what it is, nothing comes into an environment with gates; and a claim on another commit is none.
	in := promotion(r, web("web:2"))
	in.Activate.Claim = nil
	if out := r.Step(in); !strings.Contains(out.Rejected, "gates rule what comes in") {
		t.Errorf("without a claim: %q", out.Rejected)
	}
	in = promotion(r, web("web:2"))
	in.Activate.Claim.Facts.Active.ID = in.Activate.Commit
	if out := r.Step(in); !strings.Contains(out.Rejected, "the claim is on top of") {
		t.Errorf("on top of another commit: %q", out.Rejected)
	}
	// Nobody relaxes the gates he is about to pass: those that are active count.
	in = promotion(r, web("web:2"))
	in.Activate.Claim.Declared.Gates, in.Activate.Policy = promote.Gates{}, &promote.Environment{Name: "production", After: []string{"staging"}}
	if out := r.Step(in); !strings.Contains(out.Rejected, "verify:work") {
		t.Errorf("with gates of its own: %q", out.Rejected)
	}
	enginetest.Check(t, r)
}
