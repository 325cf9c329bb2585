package cluster_test

import (
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// What a leader decided on nodes is void once another has begun to lead: its words may come late, and the leases that
// they speak of have been granted anew.
func TestFault_N2_LastWordsOfALeader(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(2)
	r.Commit("dev", "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec: {containers: [{name: main, image: a}]}\n")
	r.Settle()
	node := r.Pods()[0].Node
	says := func(in cluster.Input, want string) {
		t.Helper()
		before := r.State.Rejected().Len()
		if out := r.Step(in); out.Rejected != want {
			t.Errorf("%s: rejected: %q, want %q", in, out.Rejected, want)
		}
		if r.State.Rejected().Len() != before {
			t.Error("it is recorded, and it is ordinary")
		}
	}
	lost := func(term uint64, fenced bool) cluster.Input {
		return cluster.Input{NodeDown: &cluster.NodeDown{ID: node, Fenced: fenced, Term: term}}
	}
	says(cluster.Input{Lead: &cluster.Lead{Term: 3}}, "")
	says(lost(3, false), "")
	says(cluster.Input{Lead: &cluster.Lead{Term: 5}}, "")
	says(lost(3, true), "node n1: a leader of term 3 has decided so, and there was another since, in term 5")
	if p := r.Pods()[0]; p.Node != node {
		t.Errorf("the pod runs on %s, and its node has its lease again", p.Node)
	}
	says(cluster.Input{Lead: &cluster.Lead{Term: 4}}, "there was a leader in term 5, term 4 is over")
	says(cluster.Input{Lead: &cluster.Lead{Term: 5}}, "there was a leader in term 5, term 5 is over")
	says(lost(5, true), "")
	if p := r.Pods()[0]; p.Node == node {
		t.Error("its node's lease is over, and the pod waits")
	}
	enginetest.Check(t, r)
}

// The address of a pod that was given up is not given out again before its node has taken the pod down, however long the
// node was away.
func TestFault_N4_AddressOfAPodThatWasGivenUp(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	pod := func(name string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec: {containers: [{name: main, image: a}]}\n"
	}
	r.Commit("dev", pod("old"))
	r.Settle()
	old := r.Pods()[0]
	r.Commit("dev", pod("next")) // "old" is to stop
	r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: old.Node}})
	r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: old.Node, Fenced: true}})
	r.Advance(3600)
	r.Must(cluster.Input{NodeUp: enginetest.Node(1)})
	next := r.Pods()[0]
	if next.IP == old.IP || !next.IP.IsValid() {
		t.Errorf("it has %s, which pod %q may still use", next.IP, old.Name)
	}
	enginetest.Check(t, r)
	if a, _ := r.State.Addresses().Get(old.IP); a == nil || a.Pod != old.ID {
		t.Errorf("%s: %+v", old.IP, a)
	}
	r.Must(enginetest.Gone(old))
	if a, _ := r.State.Addresses().Get(old.IP); a == nil || a.Released == 0 {
		t.Errorf("%s is not given back: %+v", old.IP, a)
	}
	enginetest.Check(t, r)
}
