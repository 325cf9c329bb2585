package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
)

// randomWorkload is a Deployment, or a bare Pod, with some wish for its nodes.
func randomWorkload(d *rand.Rand, n int) string {
	name := fmt.Sprintf("app%d", n)
	requests := fmt.Sprintf("resources: {requests: {cpu: %dm, memory: %dMi}}", d.IntN(6)*100, d.IntN(4)*256)
	if d.IntN(8) == 0 {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: main, image: a, %s}]}\n", name, requests)
	}
	mine := "labelSelector: {matchLabels: {app: " + name + "}}"
	other := fmt.Sprintf("labelSelector: {matchLabels: {app: app%d}}", d.IntN(6))
	wish := []string{
		"", "", "",
		"topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, " + mine + "}]",
		"topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, " + mine + "}]",
		"affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, " + mine + "}]}}",
		"affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 10, podAffinityTerm: {topologyKey: kubernetes.io/hostname, " + other + "}}]}}",
		"affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 10, podAffinityTerm: {topologyKey: kubernetes.io/hostname, " + other + "}}]}}",
		"affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 10, preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}}]}}",
		"tolerations: [{operator: Exists}]",
	}[d.IntN(10)]
	strict, strategy := "", ""
	if d.IntN(6) == 0 {
		strict, strategy = `, annotations: {shoal.dev/strict: "true"}`, "strategy: {type: Recreate}"
	}
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s%[5]s}
spec:
  replicas: %[2]d
  %[6]s
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      %[4]s
      containers: [{name: main, image: a, %[3]s}]
`, name, 1+d.IntN(6), requests, wish, strict, strategy)
}

// upsets is a ring to which all sorts of things happened, and that has come to rest.
func upsets(t *testing.T, seed uint64) *enginetest.Ring {
	d := rand.New(rand.NewPCG(seed, 3))
	r := enginetest.NewRing(t)
	nodes := 2 + d.IntN(6)
	up := func(n int) cluster.Input {
		in := enginetest.Node(n + 1)
		d := rand.New(rand.NewPCG(seed, uint64(n)))
		in.Zone = []string{"", "a", "b", "c"}[d.IntN(4)]
		in.Labels = map[string]string{"disk": []string{"ssd", "hdd"}[d.IntN(2)]}
		in.Capacity.MilliCPU = 2000 + 2000*d.Int64N(3)
		in.Capacity.Pods = 10 + 10*d.Int64N(4)
		return cluster.Input{NodeUp: in}
	}
	for n := range nodes {
		r.Must(up(n))
	}
	var docs []string
	for n := range 2 + d.IntN(6) {
		docs = append(docs, randomWorkload(d, n))
	}
	r.Commit("dev", strings.Join(docs, "\n---\n"))
	r.Settle()
	for range d.IntN(8) {
		r.Now += 1000
		n := d.IntN(nodes)
		id := enginetest.Node(n + 1).ID
		switch d.IntN(4) {
		case 0:
			r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: id, Drain: true}})
			r.Settle()
			r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: id, Off: true}})
		case 1:
			r.Must(cluster.Input{Taint: &cluster.Taint{ID: id, Taint: place.Taint{Key: "old", Effect: []corev1.TaintEffect{"NoSchedule", "PreferNoSchedule"}[d.IntN(2)]}}})
		default:
			r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: id}})
			r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Fenced: true}})
			r.Settle()
			r.Must(up(n))
			if d.IntN(3) > 0 { // steady again
				r.Advance(600)
			}
		}
		r.Settle()
	}
	return r
}

// step plays one thing that some node does; false if there is nothing to do.
func step(r *enginetest.Ring, d *rand.Rand) bool {
	var inputs []cluster.Input
	for _, p := range r.Pods() {
		switch {
		case p.Node == "":
		case p.Deleting != 0:
			inputs = append(inputs, enginetest.Gone(p))
		case p.Ready == 0 && p.Finished == 0:
			inputs = append(inputs, enginetest.Report(p, corev1.PodRunning, true))
		}
	}
	if len(inputs) == 0 {
		return false
	}
	r.Must(inputs[d.IntN(len(inputs))])
	return true
}

// TestRebalanceComesToRest asks for a rebalance of random rings to which this and that happened: it ends, no workload has
// fewer pods that are available than before while it goes on unless they may run once only, and a second one moves nothing.
func TestRebalanceComesToRest(t *testing.T) {
	moved, most := 0, 0
	for seed := range uint64(150) {
		r := upsets(t, seed)
		available := map[string]int32{}
		for rs := range r.State.ReplicaSets().Values() {
			available[rs.UID] = rs.Available
		}
		r.Must(cluster.Input{Rebalance: &cluster.Rebalance{}})
		d := rand.New(rand.NewPCG(seed, 4))
		told := 0
		for step(r, d) {
			ring, _ := r.State.Ring()
			if b := ring.Rebalance; b != nil {
				told = b.Moved
			}
			for rs := range r.State.ReplicaSets().Values() {
				fenced := false
				for p := range r.State.PodsOf(rs.UID) {
					fenced = fenced || p.Fenced
				}
				if !fenced && rs.Available < min(available[rs.UID], rs.Replicas) {
					t.Fatalf("seed %d: %s has %d available, had %d", seed, rs.Key, rs.Available, available[rs.UID])
				}
			}
			if told > 1000 {
				t.Fatalf("seed %d: it does not end: %+v", seed, ring.Rebalance)
			}
		}
		if ring, _ := r.State.Ring(); ring.Rebalance != nil {
			t.Fatalf("seed %d: it goes on: %+v", seed, ring.Rebalance)
		}
		moved, most = moved+told, max(most, told)
		before := r.State.Pods()
		r.Must(cluster.Input{Rebalance: &cluster.Rebalance{}})
		for p := range r.State.Pods().Values() {
			if p.Moving != "" {
				old, _ := before.Get(p.ID)
				t.Errorf("seed %d: %s/%s is moved a second time, from %s, %s: %s\n%s", seed, p.Namespace, p.Name, p.Node, old.Reason, p.Moving, onNodes(r))
			}
		}
		if ring, _ := r.State.Ring(); ring.Rebalance != nil {
			t.Errorf("seed %d: the second one goes on", seed)
		}
		if seed%10 == 0 {
			enginetest.Check(t, r)
		}
	}
	t.Logf("%d pods moved, at most %d in one ring", moved, most)
	if moved < 100 {
		t.Error("hardly any pod was moved")
	}
}
