package control

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestPlanSet gives what is done for a set of a size, and what it counts afterwards.
func TestPlanSet(t *testing.T) {
	ready := func(id PodID, since int64) *Pod {
		return &Pod{ID: id, Name: string(id), Node: "n", Ready: since, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	}
	pending := func(id PodID) *Pod { return &Pod{ID: id, Name: string(id), Node: "n"} }
	named := func(p *Pod) *Pod { p.Source.Kind = "Pod"; return p }
	stopping := func(p *Pod) *Pod { p.Deleting, p.Ready = 1, 0; return p }
	finished := func(p *Pod) *Pod { p.Finished, p.Ready = 1, 0; return p }
	for _, c := range []struct {
		name     string
		replicas int32
		owned    []*Pod
		free     []*Pod
		want     string
	}{
		{"from nothing", 2, nil, nil, "create 2, stop [], 0 pods, 0 ready, 0 available, wake 0"},
		{"at rest", 1, []*Pod{ready("a", 1)}, nil, "create 0, stop [], 1 pods, 1 ready, 1 available, wake 0"},
		{"pods that are to stop count no more", 1, []*Pod{ready("a", 1), ready("b", 2)}, nil, "create 0, stop [b], 1 pods, 1 ready, 1 available, wake 0"},
		{"the pending go first", 1, []*Pod{ready("a", 1), pending("b")}, nil, "create 0, stop [b], 1 pods, 1 ready, 1 available, wake 0"},
		{"ready, not yet available", 1, []*Pod{ready("a", 900)}, nil, "create 0, stop [], 1 pods, 1 ready, 0 available, wake 1400"},
		{"already stopping", 1, []*Pod{ready("a", 1), stopping(ready("b", 1))}, nil, "create 0, stop [], 1 pods, 1 ready, 1 available, wake 0"},
		{"what Git names stays", 0, []*Pod{named(ready("a", 1)), ready("b", 1)}, nil, "create 0, stop [b], 1 pods, 1 ready, 1 available, wake 0"},
		{"adopted", 1, nil, []*Pod{named(ready("a", 1))}, "create 0, stop [], 1 pods, 1 ready, 1 available, wake 0"},
		{"a finished pod is replaced after a while", 1, []*Pod{finished(ready("a", 1))}, nil, "create 0, stop [a], 0 pods, 0 ready, 0 available, wake 11000"},
	} {
		p := PlanSet(ReplicaSet{Replicas: c.replicas}, 500, 1000, func(map[string]string) bool { return true }, c.owned, c.free)
		stop := []PodID{}
		for _, s := range p.Delete {
			stop = append(stop, s.Pod)
		}
		got := fmt.Sprintf("create %d, stop %v, %d pods, %d ready, %d available, wake %d",
			p.Create, stop, p.Set.Pods, p.Set.Ready, p.Set.Available, p.Wake)
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}
