package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// with adds fields to the spec of a manifest.
func with(manifest, fields string) string {
	return strings.Replace(manifest, "\nspec:\n", "\nspec:\n  "+fields+"\n", 1)
}

// count tells how many pods of a Deployment there are that were not told to stop, and how many are ready.
func count(r *enginetest.Ring) (pods, ready int) {
	for p := range r.State.Pods().Values() {
		if p.Deleting == 0 {
			pods++
		}
		if p.Ready != 0 {
			ready++
		}
	}
	return pods, ready
}

// crawl settles one pod at a time and checks each time that enough are ready and not too many exist.
func crawl(t *testing.T, r *enginetest.Ring, leastReady, mostPods int) {
	t.Helper()
	for range 500 {
		pods, ready := count(r)
		if ready < leastReady || pods > mostPods {
			t.Fatalf("%d pods of at most %d, %d ready of at least %d:\n%s", pods, mostPods, ready, leastReady, show(r))
		}
		var next *control.Pod
		for _, p := range r.Pods() {
			if p.Node != "" && (p.Deleting != 0 || p.Ready == 0) {
				next = p
				break
			}
		}
		switch {
		case next == nil:
			return
		case next.Deleting != 0:
			r.Must(enginetest.Gone(next))
		default:
			r.Must(enginetest.Report(next, corev1.PodRunning, true))
		}
	}
	t.Fatal("the rollout does not end")
}

func web(n int, image string) string { return deployment("web", n, image) }

// TestFeature_K3 walks Deployments through rollouts; what is shown is every pod after the events of a line.
func TestFeature_K3(t *testing.T) {
	strategy := func(surge, unavailable string) string {
		return fmt.Sprintf("strategy: {rollingUpdate: {maxSurge: %s, maxUnavailable: %s}}", surge, unavailable)
	}
	for _, c := range []struct {
		name   string
		fields string
		steps  []string // "image size" commits, "settle", "crawl least most", "advance s", "fail"; or what is shown
	}{
		{"rolling, by percent", "", []string{
			"v1 4", "4 ReplicaSet r1 starting", "settle", "4 ReplicaSet r1 ready",
			"v2 4", "3 ReplicaSet r1 ready\n1 ReplicaSet r1 stopping: scaled down\n2 ReplicaSet r2 starting",
			"crawl 3 5", "4 ReplicaSet r2 ready",
		}},
		{"rolling, one more and none less", strategy("1", "0"), []string{
			"v1 3", "settle", "v2 3", "3 ReplicaSet r1 ready\n1 ReplicaSet r2 starting", "crawl 3 4", "3 ReplicaSet r2 ready",
		}},
		{"rolling, none more and one less", strategy("0", "1"), []string{
			"v1 3", "settle", "v2 3", "2 ReplicaSet r1 ready\n1 ReplicaSet r1 stopping: scaled down\n1 ReplicaSet r2 starting", "crawl 2 3", "3 ReplicaSet r2 ready",
		}},
		{"ten with a surge of three", strategy("3", "30%"), []string{
			"v1 10", "settle", "v2 10", "7 ReplicaSet r1 ready\n3 ReplicaSet r1 stopping: scaled down\n6 ReplicaSet r2 starting", "crawl 7 13", "10 ReplicaSet r2 ready",
		}},
		{"recreate", "strategy: {type: Recreate}", []string{
			"v1 2", "settle", "v2 2", "2 ReplicaSet r1 stopping: scaled down", "settle", "2 ReplicaSet r2 ready",
		}},
		{"scaling makes no revision", "", []string{
			"v1 2", "settle", "v1 5", "settle", "5 ReplicaSet r1 ready", "v1 1", "1 ReplicaSet r1 ready\n4 ReplicaSet r1 stopping: scaled down", "settle", "1 ReplicaSet r1 ready",
		}},
		{"a newer commit supersedes a stuck one", strategy("1", "0"), []string{
			"v1 3", "settle", "bad 3", "3 ReplicaSet r1 ready\n1 ReplicaSet r2 starting", "advance 700",
			"3 ReplicaSet r1 ready\n1 ReplicaSet r2 starting",
			"v3 3", "3 ReplicaSet r1 ready\n1 ReplicaSet r2 stopping: scaled down\n1 ReplicaSet r3 starting", "crawl 3 4", "3 ReplicaSet r3 ready",
		}},
		{"back to the old template is a new revision of the old set", strategy("1", "0"), []string{
			"v1 2", "settle", "v2 2", "settle", "2 ReplicaSet r2 ready", "v1 2", "settle", "2 ReplicaSet r3 ready",
		}},
		{"back while the new one is on its way", strategy("1", "0"), []string{
			"v1 2", "settle", "v2 2", "2 ReplicaSet r1 ready\n1 ReplicaSet r2 starting", "v1 2", "1 ReplicaSet r2 stopping: scaled down\n2 ReplicaSet r3 ready",
		}},
		{"minReadySeconds", "minReadySeconds: 10\n  " + strategy("1", "0"), []string{
			"v1 1", "settle", "advance 10", "v2 1", "settle", "1 ReplicaSet r1 ready\n1 ReplicaSet r2 ready",
			"advance 9", "1 ReplicaSet r1 ready\n1 ReplicaSet r2 ready", "advance 1", "1 ReplicaSet r1 stopping: scaled down\n1 ReplicaSet r2 ready",
		}},
		{"scaling amid a rollout keeps the mix", strategy("1", "0"), []string{
			"v1 4", "settle", "v2 4", "4 ReplicaSet r1 ready\n1 ReplicaSet r2 starting", "v2 8",
			"4 ReplicaSet r1 ready\n3 ReplicaSet r1 starting\n2 ReplicaSet r2 starting",
		}},
		{"paused", "paused: true", []string{"v1 2", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := enginetest.NewRing(t)
			r.Up(1)
			for i, step := range c.steps {
				word, rest, _ := strings.Cut(step, " ")
				var a, b int
				switch {
				case word == "settle":
					r.Settle()
				case word == "crawl":
					fmt.Sscan(rest, &a, &b)
					crawl(t, r, a, b)
				case word == "advance":
					fmt.Sscan(rest, &a)
					r.Advance(int64(a))
				case strings.HasPrefix(word, "v") || word == "bad":
					fmt.Sscan(rest, &a)
					manifest := web(a, word)
					if c.fields != "" {
						manifest = with(manifest, c.fields)
					}
					r.Now += 1000
					r.Commit("dev", manifest)
				default:
					got := show(r)
					if got != step {
						t.Fatalf("step %d: got\n%s\nwant\n%s", i, got, step)
					}
				}
			}
			enginetest.Check(t, r)
		})
	}
}

func TestDeploymentState(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	state := func() string {
		d, _ := r.State.Deployments().Get(deploymentKey("dev", "web"))
		return fmt.Sprintf("%s r%d %d/%d/%d", d.State, d.Revision, d.Pods, d.Updated, d.Available)
	}
	check := func(want string) {
		t.Helper()
		if got := state(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	r.Commit("dev", with(web(2, "v1"), "progressDeadlineSeconds: 60"))
	check("Progressing r1 2/2/0")
	r.Settle()
	check("Complete r1 2/2/2")
	r.Advance(1000)
	r.Must(enginetest.Report(r.Pods()[0], corev1.PodRunning, false))
	check("Complete r1 2/2/1") // not ready later is no rollout
	r.Settle()
	r.Commit("dev", with(web(2, "v2"), "progressDeadlineSeconds: 60"))
	check("Progressing r2 3/1/2")
	r.Advance(59)
	check("Progressing r2 3/1/2")
	r.Advance(1)
	check("ProgressDeadlineExceeded r2 3/1/2")
	r.Settle()
	check("Complete r2 2/2/2")
	for i := range 14 {
		r.Commit("dev", with(with(web(2, fmt.Sprint("w", i)), "revisionHistoryLimit: 2"), "progressDeadlineSeconds: 60"))
		r.Settle()
	}
	if n := r.State.ReplicaSets().Len(); n != 3 {
		t.Errorf("%d sets with a history of 2", n)
	}
	check("Complete r16 2/2/2")
	if n := r.State.Wake(); n != 0 {
		t.Errorf("a ring at rest wants a tick at %d", n)
	}
	r.Must(cluster.Input{Retire: &cluster.Retire{Environment: "dev"}})
	r.Settle()
	if r.State.Pods().Len() != 0 || r.State.ReplicaSets().Len() != 0 || r.State.Deployments().Len() != 0 {
		t.Error("a retired environment leaves something behind")
	}
}

// TestFeature_K2 shows a ReplicaSet that adopts a matching pod, and lets go of one whose label was changed.
func TestFeature_K2(t *testing.T) {
	pod := func(label string) string {
		return `
apiVersion: v1
kind: Pod
metadata: {name: bare, labels: {app: ` + label + `}}
spec: {containers: [{name: main, image: x}]}
`
	}
	set := strings.Replace(deployment("set", 2, "x"), "Deployment", "ReplicaSet", 1)
	r := enginetest.NewRing(t)
	r.Up(1)
	owners := func() string {
		n := map[string]int{}
		for _, p := range r.Pods() {
			if p.Deleting == 0 {
				n[p.Source.Kind+" of "+p.Owner.Key.Kind]++
			}
		}
		return fmt.Sprint(n)
	}
	check := func(want string) {
		t.Helper()
		if got := owners(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		enginetest.Check(t, r)
	}
	r.Commit("dev", pod("set"))
	r.Settle()
	r.Commit("dev", pod("set")+"\n---\n"+set)
	check("map[Pod of ReplicaSet:1 ReplicaSet of ReplicaSet:1]")
	r.Settle()
	r.Commit("dev", pod("other")+"\n---\n"+set) // let go, and replaced
	check("map[Pod of Pod:1 ReplicaSet of ReplicaSet:2]")
	r.Settle()
	if r.State.Pods().Len() != 3 {
		t.Fatal(show(r))
	}
	r.Commit("dev", pod("set")+"\n---\n"+set) // back again: one of its own goes
	check("map[Pod of ReplicaSet:1 ReplicaSet of ReplicaSet:1]")
	r.Settle()
	r.Commit("dev", pod("set")) // the set goes, the pod stays
	check("map[Pod of Pod:1]")
	r.Settle()
	r.Commit("dev", strings.Replace(pod("set"), "image: x", "image: w", 1)) // made anew, when the old one is gone
	if got := r.Pods()[0].Why; got != "its spec changed with commit 000000000000" {
		t.Fatal(got)
	}
	check("map[]")
	r.Settle()
	check("map[Pod of Pod:1]")
	r.Commit("dev", "")
	r.Settle()
	check("map[]")
}

// TestRestart shows pods that come back when their node says that nothing is left of them.
func TestRestart(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	r.Commit("dev", web(2, "v1"))
	r.Settle()
	r.Must(enginetest.Gone(r.Pods()[0]))
	if got := show(r); !strings.Contains(got, "1 ReplicaSet r1 ready") || !strings.Contains(got, "1 ReplicaSet r1 starting") {
		t.Fatal(got)
	}
	r.Settle()
	for range 3 { // a pod that failed (its node evicted it) is replaced, with a back-off
		r.Must(enginetest.Report(r.Pods()[0], corev1.PodFailed, false))
		for _, p := range r.Pods() {
			if p.Deleting != 0 {
				r.Must(enginetest.Gone(p))
			}
		}
		if n := r.State.Pods().Len(); n != 1 {
			t.Fatalf("%d pods right after a failure", n)
		}
		r.Advance(10)
		if n := r.State.Pods().Len(); n != 2 {
			t.Fatalf("%d pods after the back-off", n)
		}
		r.Settle()
	}
}
