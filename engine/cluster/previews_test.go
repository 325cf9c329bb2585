package cluster_test

import (
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
)

// A preview runs the commit that it shows and no other; asleep it has no pods; dropped it leaves nothing in the ledger.
func TestFeature_V3_PreviewsLeaveNothing(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	in := r.Activation("pr-12", deployment("web", 2, "web:1"))
	env := preview.Environment{Name: "pr-12", Number: 12, Branch: "feature", Author: "ann", Head: source.ID(strings.Repeat("a", 40)), Commit: in.Activate.Commit, Since: 1, Changed: 1}
	set := func(want string, change func(*preview.Environment)) {
		t.Helper()
		change(&env)
		if out := r.Step(cluster.Input{Preview: &cluster.Preview{Set: &env}}); !strings.Contains(out.Rejected, want) || want == "" && out.Rejected != "" {
			t.Fatalf("preview %+v: %q, want %q", env, out.Rejected, want)
		}
	}
	pods := func(want int) {
		t.Helper()
		r.Settle()
		if got := r.State.Pods().Len(); got != want {
			t.Fatalf("%d pods, want %d", got, want)
		}
	}
	set("", func(*preview.Environment) {})
	r.Must(in)
	pods(2)
	other := r.Activation("pr-12", deployment("web", 3, "web:2"))
	if out := r.Step(other); !strings.Contains(out.Rejected, "preview pr-12 shows commit 000000000000") {
		t.Errorf("another commit than it shows: %q", out.Rejected)
	}
	set("", func(e *preview.Environment) { e.Asleep = true })
	pods(0)
	r.Must(cluster.Input{Preview: &cluster.Preview{Wake: "pr-12"}})
	pods(2)
	if p, _ := r.State.Previews().Get("pr-12"); p.Asked == 0 || p.Asleep {
		t.Errorf("after it was asked for: %+v", p)
	}
	r.Commit("dev", deployment("web", 1, "web:1"))
	set("there is an environment of that name", func(e *preview.Environment) { e.Name = "dev" })
	set("want a DNS label", func(e *preview.Environment) { e.Name = "../x" })

	const none = "its nodes or its quota are none"
	set(none, func(e *preview.Environment) { e.Name, e.Nodes = "pr-13", map[string]string{"a/b/c": "x"} })
	set(none, func(e *preview.Environment) { e.Nodes, e.Each = nil, map[string]string{"pods": "1e-99999999"} })

	r.Must(cluster.Input{Preview: &cluster.Preview{Drop: "pr-12", Why: "closed"}})
	pods(1)
	for _, table := range []int{r.State.Previews().Len(), r.State.Environments().Len() - 1, r.State.Objects().Len() - 1, r.State.Deployments().Len() - 1} {
		if table != 0 {
			t.Errorf("something is left: %d", table)
		}
	}
	for range r.State.History("pr-12") {
		t.Error("a run is left")
	}
	if out := r.Step(cluster.Input{Preview: &cluster.Preview{}}); !strings.Contains(out.Rejected, "expected one of set, drop and wake") {
		t.Errorf("nothing said: %q", out.Rejected)
	}
	enginetest.Check(t, r)
}
