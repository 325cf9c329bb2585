package cluster_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/promote"
)

// TestReplay_NeverAheadOnStaleStatus: what an environment's pods said of the commit before says nothing of the one that it has just come to. While the
// old pods are ready, report late, or are all that is left of a roll-out that hangs, nothing goes on to the next environment; nor does
// it on what was true when somebody asked, and is not when the ring decides.
func TestReplay_NeverAheadOnStaleStatus(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	refused := func(what, text, want string) {
		t.Helper()
		if out := r.Step(promotion(r, text)); !strings.Contains(out.Rejected, want) || want == "" && out.Rejected != "" {
			t.Fatalf("%s: %q, want %q", what, out.Rejected, want)
		}
	}
	web := func(image string) string {
		return deployment("web", 2, image) + "\n---" + job("backoffLimit: 0", "probe:1")
	}
	staging(r, web("web:1"))
	readyAll(r, "ReplicaSet")
	jobEnds(r, corev1.PodSucceeded)
	r.Now += 3_600_000
	refused("the first", web("web:1"), "")

	// All pods are ready, and of the commit before.
	old := r.Pods()
	staging(r, web("web:2"))
	const ill = "health in staging: not healthy: Deployment web"
	refused("at once", web("web:2"), ill)
	for _, p := range old {
		if p.Environment == "staging" && p.Owner.Key.Kind == "ReplicaSet" {
			r.Step(enginetest.Report(p, corev1.PodRunning, true))
		}
	}
	refused("after late reports of the old pods", web("web:2"), ill)
	r.Now += 24 * 3_600_000
	refused("after a day in which the roll-out hangs", web("web:2"), ill)
	if run := lastRun(r, "staging"); run.Healthy != 0 || run.Proven != 0 {
		t.Errorf("staging's run: %+v", run)
	}

	// The evidence and the render of the commit before, under the name of this one.
	in := promotion(r, web("web:2"))
	for run := range r.State.History("staging") {
		in.Activate.Claim.Ask.Render = run.Render
		break
	}
	if out := r.Step(in); !strings.Contains(out.Rejected, "that is not what was looked at") {
		t.Errorf("with the render of the commit before: %q", out.Rejected)
	}
	in = promotion(r, web("web:2"))
	in.Activate.Claim.Facts.Runs = []promote.Run{{Environment: "staging", Commit: in.Activate.Claim.Ask.Source, Tree: in.Activate.Tree, Render: in.Activate.Claim.Ask.Render, Since: 1, Healthy: 1}}
	if out := r.Step(in); !strings.Contains(out.Rejected, ill) {
		t.Errorf("with health that the claim itself brings: %q", out.Rejected)
	}

	// What was so when somebody asked is not when it is decided.
	for range 4 {
		readyAll(r, "ReplicaSet")
	}
	jobEnds(r, corev1.PodSucceeded)
	r.Now += 3_600_000
	asked := promotion(r, web("web:2"))
	for _, p := range r.Pods() {
		if p.Environment == "staging" && p.Owner.Key.Kind == "ReplicaSet" && p.Deleting == 0 {
			r.Must(enginetest.Report(p, corev1.PodRunning, false))
			break
		}
	}
	if out := r.Step(asked); !strings.Contains(out.Rejected, "health in staging: not healthy: Deployment web: 1 of 2 pods are available") {
		t.Errorf("a pod has failed since: %q", out.Rejected)
	}
	readyAll(r, "ReplicaSet")
	refused("soak begins anew", web("web:2"), "soak in staging: 0s of 1h")
	r.Now += 3_600_000
	refused("healthy for long enough", web("web:2"), "")
	enginetest.Check(t, r)
}
