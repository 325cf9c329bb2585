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

// TestFeature_V5_Doors: the node ports over TCP of previews are told, with whether they sleep and whether there are pods; others' are not.
func TestFeature_V5_Doors(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	app := made(false) + "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, selector: {app: web}, ports: [{name: a, port: 80}, {name: b, port: 53, protocol: UDP}]}\n" +
		"---\napiVersion: v1\nkind: Service\nmetadata: {name: inner}\nspec: {selector: {app: web}, ports: [{port: 81}]}\n"
	r.Commit("dev", app)
	in := r.Activation("pr-12", app)
	env := preview.Environment{Name: "pr-12", Branch: "b", Head: source.ID(strings.Repeat("a", 40)), Commit: in.Activate.Commit, Since: 1, Changed: 1}
	r.Must(cluster.Input{Preview: &cluster.Preview{Set: &env}})
	r.Must(in)
	expect := func(when string, asleep, served bool) {
		t.Helper()
		tables := Compile(FromState(r.State, enginetest.Node(1).ID, r.Content))
		var want []Door
		for _, p := range tables.Ports {
			if p.Service == "pr-12/web" && p.Name == "a" {
				want = []Door{{Preview: "pr-12", NodePort: p.NodePort, Asleep: asleep, Service: tables.Doors[0].Service, Served: served}}
				if want[0].Service.Addr() != p.ClusterIP || want[0].Service.Port() != 80 {
					t.Errorf("%s: it leads to %s", when, want[0].Service)
				}
			}
		}
		if fmt.Sprint(tables.Doors) != fmt.Sprint(want) || len(want) != 1 {
			t.Errorf("%s: %v, want %v", when, tables.Doors, want)
		}
	}
	ready := func() {
		r.Settle()
		for _, p := range r.Pods() {
			if p.Deleting != 0 {
				r.Must(enginetest.Gone(p))
			} else {
				r.Must(enginetest.Report(p, corev1.PodRunning, true))
			}
		}
	}
	expect("while its pods start", false, false)
	ready()
	expect("awake", false, true)
	env.Asleep = true
	r.Must(cluster.Input{Preview: &cluster.Preview{Set: &env}})
	ready()
	expect("asleep", true, false)
	r.Must(cluster.Input{Preview: &cluster.Preview{Wake: "pr-12"}})
	ready()
	expect("woken", false, true)
	r.Must(cluster.Input{Preview: &cluster.Preview{Drop: "pr-12", Why: "closed"}})
	if got := Compile(FromState(r.State, enginetest.Node(1).ID, r.Content)).Doors; got != nil {
		t.Errorf("gone: %v", got)
	}
}
