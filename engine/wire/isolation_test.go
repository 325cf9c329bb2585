package wire

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
)

func TestIsolations(t *testing.T) {
	confined := []Confined{
		{"pr-7", netip.MustParseAddr("10.42.1.9"), "n2"},
		{"pr-3", netip.MustParseAddr("10.42.0.9"), "n1"},
		{"pr-3", netip.MustParseAddr("10.42.1.2"), "n2"},
		{"pr-3", netip.MustParseAddr("10.42.0.4"), "n1"},
		{"pr-1", netip.Addr{}, "n1"}, // its address is not known yet
		{"pr-1", netip.MustParseAddr("10.42.0.5"), "n1"},
	}
	want := "[{pr-1 [10.42.0.5] [10.42.0.5]} {pr-3 [10.42.0.4 10.42.0.9] [10.42.0.4 10.42.0.9 10.42.1.2]}]"
	for range confined { // in any order
		confined = append(confined[1:], confined[0])
		if got := fmt.Sprint(Compile(Input{Node: "n1", Confined: confined}).Isolated); got != want {
			t.Errorf("%s, want\n%s", got, want)
		}
	}
}

// made is a Deployment whose pods are marked as what compiles for a sandbox marks them, or not.
func made(marked bool) string {
	annotations := ""
	if marked {
		annotations = ", annotations: {shoal.dev/egress: environment}"
	}
	return `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}` + annotations + `}
    spec:
      containers: [{name: main, image: i, resources: {requests: {cpu: 100m}}}]
`
}

// TestFault_P2_SandboxTables: the pods of a preview that may not speak to everybody are isolated on each node, from when they have an address
// until nothing is left of them: while the preview is over and they end, when they have ended, and when they were given up while
// their node was lost. Others are not.
func TestFault_P2_SandboxTables(t *testing.T) {
	for _, marked := range []bool{true, false} {
		r := enginetest.NewRing(t)
		r.Up(2)
		start := func(name string, sandbox preview.Sandbox) {
			in := r.Activation(name, made(marked && sandbox.DenyEgress))
			r.Must(cluster.Input{Preview: &cluster.Preview{Set: &preview.Environment{
				Name: name, Branch: "b", Head: source.ID(strings.Repeat("a", 40)), Commit: in.Activate.Commit, Since: 1, Changed: 1, Sandbox: sandbox,
			}}})
			r.Must(in)
		}
		start("pr-12", preview.Sandbox{DenyEgress: true})
		start("pr-13", preview.Sandbox{NoSecrets: true})
		r.Commit("dev", made(false))
		isolated := func(node int) []Isolation {
			return Compile(FromState(r.State, enginetest.Node(node).ID, r.Content)).Isolated
		}
		expect := func(when string) {
			t.Helper()
			to := map[netip.Addr]bool{}
			from := map[netip.Addr]bool{}
			for p := range r.State.Pods().Values() {
				if p.Environment == "pr-12" {
					to[p.IP] = true
					from[p.IP] = p.Node == enginetest.Node(1).ID
				}
			}
			gotTo, gotFrom := map[netip.Addr]bool{}, map[netip.Addr]bool{}
			all := isolated(1)
			for _, i := range all {
				for _, a := range i.To {
					gotTo[a], gotFrom[a] = true, false
				}
				for _, a := range i.From {
					gotFrom[a] = true
				}
			}
			if len(all) != 1 || all[0].Name != "pr-12" || len(to) != 4 || !reflect.DeepEqual(to, gotTo) || !reflect.DeepEqual(from, gotFrom) || len(all[0].From) == len(all[0].To) {
				t.Errorf("%s, marked %t: %v; pods are %v", when, marked, all, from)
			}
		}
		expect("while they start")
		for _, p := range r.Pods() {
			r.Must(enginetest.Report(p, corev1.PodRunning, true))
		}
		expect("while they run")
		for _, p := range r.Pods() {
			if p.Environment == "pr-12" && p.Node == enginetest.Node(1).ID {
				r.Must(enginetest.Report(p, corev1.PodFailed, false))
			}
		}
		for _, i := range isolated(1) {
			if len(i.From) < 2 {
				t.Errorf("when some have ended: %v", i)
			}
		}

		r.Must(cluster.Input{Preview: &cluster.Preview{Drop: "pr-12", Why: "closed"}})
		if got := len(isolated(1)); got == 0 && marked {
			t.Error("when the preview is over and its pods have time to end, they may speak to everybody")
		}
		if marked { // the second node is lost with what it was to stop
			id := enginetest.Node(2).ID
			r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: id}})
			r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Fenced: true}})
			if r.State.Ended().Len() == 0 {
				t.Fatal("nothing was given up: the test is wrong")
			}
			back := isolated(2)
			if len(back) != 1 || len(back[0].From) != r.State.Ended().Len() {
				t.Errorf("what was given up: %v", back)
			}
		}
		for _, p := range r.Pods() {
			if p.Deleting != 0 {
				r.Must(enginetest.Gone(p))
			}
		}
		if got := isolated(1); got != nil {
			t.Errorf("when nothing is left: %v", got)
		}
	}
}
