package wire

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
)

// TestFeature_V1_NameOfACommit: a Service of a preview has a name of the commit that runs, as long as that and nothing else runs: not while pods of
// another are there, not while a part of it is held back, and not for longer than the preview. What is no preview has none.
func TestFeature_V1_NameOfACommit(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	app := func(image string) string {
		return made(false) + "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n" +
			"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {image: " + image + "}\n"
	}
	show := func(in cluster.Input) {
		r.Must(cluster.Input{Preview: &cluster.Preview{Set: &preview.Environment{
			Name: "pr-12", Branch: "b", Head: source.ID(strings.Repeat("a", 40)), Commit: in.Activate.Commit, Since: 1, Changed: 1,
		}}})
	}
	ready := func() {
		for range 9 {
			r.Settle()
			for _, p := range r.Pods() {
				if p.Deleting != 0 {
					r.Must(enginetest.Gone(p))
				} else {
					r.Must(enginetest.Report(p, corev1.PodRunning, true))
				}
			}
		}
	}
	expect := func(when, want string) {
		t.Helper()
		tables := Compile(FromState(r.State, enginetest.Node(1).ID, r.Content))
		var address, got string
		for _, n := range tables.Names {
			first, rest, _ := strings.Cut(n.Name, ".")
			switch {
			case n.Name == "web.pr-12.svc.cluster.local.":
				address = fmt.Sprint(n.Address)
			case rest == "web.pr-12.svc.cluster.local.":
				got = first + " " + fmt.Sprint(n.Address)
			case len(first) == 12 && rest != n.Name:
				t.Errorf("%s: there is %s", when, n.Name)
			}
		}
		if want != "" {
			want += " " + address
		}
		if got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	r.Commit("dev", app("one"))
	first := r.Activation("pr-12", app("one"))
	show(first)
	r.Must(first)
	expect("while its pods start", "")
	ready()
	one := first.Activate.Commit.Short()
	expect("when they are ready", one)

	second := r.Activation("pr-12", strings.ReplaceAll(app("two"), "image: i", "image: j"))
	show(second)
	expect("when another is shown and not accepted yet", one)
	r.Must(second)
	expect("while pods of both are there", "")
	ready()
	expect("when the first is no more", second.Activate.Commit.Short())

	third := r.Activation("pr-12", strings.ReplaceAll(app("three"), "image: i", "image: j"))
	third.Activate.Held = []string{"web"}
	show(third)
	r.Must(third)
	ready()
	expect("when a part of it is held back", "")
	r.Must(cluster.Input{Preview: &cluster.Preview{Drop: "pr-12", Why: "closed"}})
	expect("when it is gone", "")
}
