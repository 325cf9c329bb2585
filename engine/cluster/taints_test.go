package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
)

// tainting is "key=value:Effect", or "key-" or "key:Effect-" to take away, of a node.
func tainting(node int, text string) cluster.Input {
	rest, off := strings.CutSuffix(text, "-")
	pair, effect, _ := strings.Cut(rest, ":")
	key, value, _ := strings.Cut(pair, "=")
	return cluster.Input{Taint: &cluster.Taint{
		ID: enginetest.Node(node).ID, Taint: place.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}, Off: off,
	}}
}

// tolerant is a Deployment whose pods tolerate what is said, and are tied to a node that it is said to prefer.
func tolerant(name, tolerations string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s}
spec:
  replicas: 1
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      tolerations: [%s]
      affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}}]}}
      containers: [{name: main, image: a}]
`, name, tolerations)
}

func TestFeature_Taints(t *testing.T) {
	const (
		forever = `{key: bad, operator: Exists}`
		soon    = `{key: bad, operator: Exists, effect: NoExecute, tolerationSeconds: 30}`
		other   = `{key: other, operator: Exists}`
	)
	bare := `
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}}]}}
  containers: [{name: main, image: a}]
`
	// Each step is a taint of n1, seconds that pass, or a commit; then what runs where, once all nodes did their part.
	type step struct{ do, want string }
	for _, c := range []struct {
		name  string
		text  string
		steps []step
	}{
		{"no new pods", "", []step{
			{"bad=yes:NoSchedule", ""},
			{tolerant("web", ""), "n2: web ready"},
		}},
		{"those that are there stay", tolerant("web", ""), []step{
			{"", "n1: web ready"},
			{"bad:NoSchedule", "n1: web ready"},
			{"600", "n1: web ready"},
		}},
		{"rather not", "", []step{
			{"bad:PreferNoSchedule", ""},
			{tolerant("web", ""), "n1: web ready"}, // it would rather be there by as much
		}},
		{"all off", tolerant("web", "") + "---" + tolerant("db", other), []step{
			{"", "n1: db ready, web ready"},
			{"bad:NoExecute", "n2: db ready, web ready"},
		}},
		{"tolerated", tolerant("web", forever), []step{
			{"bad:NoExecute", "n1: web ready"},
			{"6000", "n1: web ready"},
		}},
		{"tolerated for a while", tolerant("web", soon) + "---" + tolerant("db", forever), []step{
			{"bad:NoExecute", "n1: db ready, web ready"},
			{"29", "n1: db ready, web ready"},
			{"2", "n1: db ready, web ready; another web"}, // as in Kubernetes it may come back, for as long again
			{"27", "n1: db ready, web ready"},
			{"3", "n1: db ready, web ready; another web"},
		}},
		{"the taint goes in time", tolerant("web", soon), []step{
			{"bad:NoExecute", "n1: web ready"},
			{"20", "n1: web ready"},
			{"bad-", "n1: web ready"},
			{"60", "n1: web ready"},
		}},
		{"the taint is said twice", tolerant("web", soon), []step{
			{"bad:NoExecute", "n1: web ready"},
			{"20", "n1: web ready"},
			{"bad=more:NoExecute", "n1: web ready"},
			{"11", "n1: web ready; another web"},
		}},
		{"it came when the taint was there", "", []step{
			{"bad:NoExecute", ""},
			{"100", ""},
			{tolerant("web", soon), "n1: web ready"},
			{"29", "n1: web ready"},
			{"2", "n1: web ready; another web"},
		}},
		{"what may run once", bare, []step{
			{"", "n1: bare ready"},
			{"bad:NoExecute", "n2: bare ready"},
		}},
		{"by effect", tolerant("web", ""), []step{
			{"bad:NoSchedule", "n1: web ready"},
			{"bad:PreferNoSchedule", "n1: web ready"},
			{"bad:NoSchedule-", "n1: web ready"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := enginetest.NewRing(t)
			r.Up(2)
			if c.text != "" {
				r.Commit("dev", c.text)
				settleOn(r, "n1 n2")
			}
			web := func() (id control.PodID) {
				for _, p := range r.Pods() {
					if strings.HasPrefix(p.Name, "web-") {
						id = p.ID
					}
				}
				return id
			}
			for _, s := range c.steps {
				before := web()
				seconds := int64(0)
				switch _, err := fmt.Sscan(s.do, &seconds); {
				case strings.Contains(s.do, "kind:"):
					r.Commit("dev", s.do)
				case err == nil:
					r.Advance(seconds)
				case s.do != "":
					r.Must(tainting(1, s.do))
				}
				settleOn(r, "n1 n2")
				got := onNodes(r)
				if now := web(); before != "" && now != before && strings.Contains(got, "n1: ") {
					got += "; another web"
				}
				if got != s.want {
					t.Fatalf("after %.20q: %s, want %s", s.do, got, s.want)
				}
				enginetest.Check(t, r)
			}
		})
	}
}

// A machine has from the first what it says when it comes; from then on it is what the ring is told.
func TestFirstTaints(t *testing.T) {
	r := enginetest.NewRing(t)
	up := enginetest.Node(1)
	up.Taints = []place.Taint{{Key: "b", Effect: "NoExecute"}, {Key: "a", Value: "x", Effect: "NoSchedule"}}
	has := func(want string) {
		t.Helper()
		n, _ := r.State.Nodes().Get(up.ID)
		if got := fmt.Sprint(n.Taints); got != want {
			t.Errorf("taints %s, want %s", got, want)
		}
	}
	r.Must(cluster.Input{NodeUp: up})
	has("[a=x:NoSchedule b:NoExecute]")
	r.Must(tainting(1, "b-"))
	r.Must(cluster.Input{NodeUp: up})
	has("[a=x:NoSchedule]")

	for _, c := range []struct{ text, want string }{
		{"=x:NoSchedule", `taint: key "": name part must be non-empty`},
		{"a=x y:NoSchedule", `taint: value "x y": a valid label must be`},
		{"a:Never", `taint: effect "Never": want NoSchedule, PreferNoSchedule or NoExecute`},
		{"none-", "node n1: it has no taint none:"},
		{"-", "taint: no key says which are to go"},
	} {
		if out := r.Step(tainting(1, c.text)); !strings.HasPrefix(out.Rejected, c.want) {
			t.Errorf("%s: %q, want %q", c.text, out.Rejected, c.want)
		}
	}
	if out := r.Step(tainting(9, "a:NoSchedule")); !strings.Contains(out.Rejected, "there is no node") {
		t.Error(out.Rejected)
	}
	for i := range 31 {
		r.Must(tainting(1, fmt.Sprintf("k%d:NoSchedule", i)))
	}
	if out := r.Step(tainting(1, "more:NoSchedule")); out.Rejected != "node n1: more than 32 taints" {
		t.Error(out.Rejected)
	}
	bad := enginetest.Node(2)
	bad.Taints = []place.Taint{{Key: "a", Effect: "Never"}}
	if out := r.Step(cluster.Input{NodeUp: bad}); !strings.HasPrefix(out.Rejected, "node n2: taint: effect") {
		t.Error(out.Rejected)
	}
}

// As long as a node of the ring knows of no taints there are none.
func TestTaintsWaitForTheEngine(t *testing.T) {
	r := &enginetest.Ring{T: t, State: cluster.NewState(), Content: enginetest.Store{}, Now: enginetest.Epoch}
	genesis := enginetest.Genesis()
	genesis.Engine = 5
	r.Must(cluster.Input{Genesis: genesis})
	up := enginetest.Node(1)
	up.Taints = []place.Taint{{Key: "a", Effect: "NoSchedule"}}
	r.Must(cluster.Input{NodeUp: up})
	if n, _ := r.State.Nodes().Get(up.ID); n.Taints != nil {
		t.Errorf("taints %v", n.Taints)
	}
	if out := r.Step(tainting(1, "a:NoSchedule")); out.Rejected != "taints want engine version 6, the ring runs 5: every node must be upgraded first" {
		t.Error(out.Rejected)
	}
	r.Must(cluster.Input{SetEngine: &cluster.SetEngine{Version: 6}})
	r.Must(tainting(1, "a:NoSchedule"))
}
