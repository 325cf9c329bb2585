package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// deployment is a Deployment of some replicas with an image.
func deployment(name string, replicas int, image string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers: [{name: main, image: %[3]s, resources: {requests: {cpu: 100m}}}]
`, name, replicas, image)
}

func deploymentKey(ns, name string) desired.Key {
	return desired.Key{Group: "apps", Kind: "Deployment", Namespace: ns, Name: name}
}

// show is every pod of an environment with its revision by number, where it is and what it does.
func show(r *enginetest.Ring) string {
	revisions := map[string]int64{}
	for rs := range r.State.ReplicaSets().Values() {
		revisions[rs.Hash] = rs.Revision
	}
	count := map[string]int{}
	var lines []string
	for _, p := range r.Pods() {
		line := fmt.Sprintf("%s r%d", p.Owner.Key.Kind, revisions[p.Revision])
		switch {
		case p.Deleting != 0:
			line += " stopping: " + p.Why
		case p.Node == "":
			line += " pending: " + p.Reason
		case p.Ready != 0:
			line += " ready"
		default:
			line += " starting"
		}
		if count[line]++; count[line] == 1 {
			lines = append(lines, line)
		}
	}
	slices.SortFunc(lines, func(a, b string) int {
		_, ra, _ := strings.Cut(a, " ")
		_, rb, _ := strings.Cut(b, " ")
		return strings.Compare(ra, rb)
	})
	for i, l := range lines {
		lines[i] = fmt.Sprintf("%d %s", count[l], l)
	}
	return strings.Join(lines, "\n")
}

func TestRollout(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	r.Commit("dev", deployment("web", 3, "web:1"))
	r.Settle()
	if got := show(r); got != "3 ReplicaSet r1 ready" {
		t.Fatal(got)
	}
	r.Commit("dev", deployment("web", 3, "web:2"))
	t.Log(show(r))
	r.Settle()
	if got := show(r); got != "3 ReplicaSet r2 ready" {
		t.Fatal(got)
	}
	d, _ := r.State.Deployments().Get(deploymentKey("dev", "web"))
	if d.State != control.Complete || d.Revision != 2 {
		t.Fatalf("%+v", d)
	}
}
