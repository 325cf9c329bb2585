package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
)

// aheads says which workloads' images each node is to have ahead of need: "n1: web, api; n3: one".
func aheads(r *enginetest.Ring) string {
	r.T.Helper()
	var lines []string
	for n := range r.State.Nodes().Values() {
		pods, err := r.State.Snapshot().Ahead(n.ID, r.Content)
		if err != nil {
			r.T.Fatal(err)
		}
		var names []string
		for _, p := range pods {
			names = append(names, p.Source.Name)
		}
		if len(names) > 0 {
			lines = append(lines, n.Name+": "+strings.TrimSpace(strings.Join(names, ", ")))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func TestAhead(t *testing.T) {
	big := func(name, replicas string) string {
		return strings.Replace(workload(name, replicas), "image: a", "image: a, resources: {requests: {cpu: 2500m}}", 1)
	}
	for _, c := range []struct {
		name  string
		nodes int
		steps []string // a manifest's name commits it; "settle", "down n3", "cordon n3"; or what is to be seen
	}{
		{"a ring of one is ready for nothing", 1, []string{"web1", "settle", ""}},
		{"one node more than needed", 3, []string{"web1", "settle", "n2: web", "web2", "settle", "n3: web"}},
		{"all have it", 3, []string{"web3", "settle", ""}},
		{"two nodes that have it", 2, []string{"web2", "settle", ""}},
		{"who is lost is no candidate, and its pods' substitutes are where they were expected", 4, []string{
			"web2", "settle", "n3: web", "down n1", "settle", "n4: web",
		}},
		{"who is cordoned is none", 3, []string{"web2", "settle", "n3: web", "cordon n3", ""}},
		{"what goes is forgotten", 3, []string{"web2", "settle", "n3: web", "none", "settle", ""}},
		{"the newest revision counts", 3, []string{"web2", "settle", "n3: web", "newer", "n2: web", "settle", "n3: web"}},
		{"one that has no room is no candidate", 3, []string{"full", "settle", "big2", "settle", ""}},
		{"a bare pod", 2, []string{"pod", "settle", "n2: bare"}},
		{"what waits for its own node has no substitute", 2, []string{"kept", "settle", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := enginetest.NewRing(t)
			r.Up(c.nodes)
			manifests := map[string]string{
				"web1": workload("web", "1"), "web2": workload("web", "2"), "web3": workload("web", "3"), "none": "",
				"newer": strings.Replace(workload("web", "2"), "image: a", "image: b", 1),
				"pod":   "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec: {containers: [{name: main, image: a}]}\n",
				"kept":  "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: one" + strings.Replace(strictly, `"true"`, `"true", shoal.dev/isolation: keep`, 1),
				"full":  big("other", "3"), "big2": big("other", "3") + "\n---\n" + big("web", "2"),
			}
			all := ""
			for i := range c.nodes {
				all += fmt.Sprintf("n%d ", i+1)
			}
			for i, step := range c.steps {
				word, rest, _ := strings.Cut(step, " ")
				manifest, commits := manifests[step]
				switch {
				case commits:
					r.Commit("dev", manifest)
				case word == "settle":
					settleOn(r, all)
				case word == "down":
					r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: nodeID(r, rest)}})
					all = strings.Replace(all, rest, "", 1)
				case word == "cordon":
					r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: nodeID(r, rest)}})
				default:
					if got := strings.TrimSpace(aheads(r)); got != step {
						t.Fatalf("step %d: %q, want %q\n%s", i, got, step, onNodes(r))
					}
				}
			}
		})
	}
}

func nodeID(r *enginetest.Ring, name string) place.NodeID {
	r.T.Helper()
	for n := range r.State.Nodes().Values() {
		if n.Name == name {
			return n.ID
		}
	}
	r.T.Fatalf("no node %s", name)
	return ""
}

// BenchmarkAhead asks it of a State with 1,000 workloads on 50 nodes, as each node does beside the ledger, now and then.
func BenchmarkAhead(b *testing.B) {
	r, _ := apps(b, 1000, 50)
	id := nodeID(r, "n7")
	for b.Loop() {
		if _, err := r.State.Snapshot().Ahead(id, r.Content); err != nil {
			b.Fatal(err)
		}
	}
}
