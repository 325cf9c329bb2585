package nodeagent

import (
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// A status is made again exactly when something that it is made from is another one.
func TestBasis(t *testing.T) {
	pod := func() *plan.Pod {
		return &plan.Pod{
			Pod:  control.Pod{ID: "p", Namespace: "dev", Name: "web"},
			Spec: &corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}, {Name: "side"}}, RestartPolicy: corev1.RestartPolicyAlways},
		}
	}
	seen := func() *plan.Seen {
		return &plan.Seen{Epoch: 1, Namespaces: true, Containers: map[string]*plan.Container{
			"app":  {ID: "a0", State: plan.Running, Started: 1000},
			"side": {ID: "s0", State: plan.Running, Started: 1000},
		}}
	}
	type look struct {
		p       *plan.Pod
		seen    *plan.Seen
		health  map[string]plan.Health
		trouble bool
	}
	for _, tt := range []struct {
		name   string
		change func(l *look)
		again  bool
	}{
		{"nothing", func(*look) {}, false},
		{"the same things, seen anew", func(l *look) { l.seen = seen() }, false},
		{"a link, which no status shows", func(l *look) { l.seen.Linked = true }, false},
		{"the health of another pod", func(l *look) { l.health["x0"] = plan.Health{NotReady: true} }, false},
		{"another pod of the name", func(l *look) { l.p = pod() }, true},
		{"an exit", func(l *look) { l.seen.Containers["side"].State, l.seen.Containers["side"].Finished = plan.Exited, 2000 }, true},
		{"a restart", func(l *look) { l.seen.Containers["app"].ID, l.seen.Containers["app"].Attempt = "a1", 1 }, true},
		{"a container less", func(l *look) { delete(l.seen.Containers, "app") }, true},
		{"a container more", func(l *look) { l.seen.Containers["init"] = &plan.Container{ID: "i0"} }, true},
		{"one instead of another", func(l *look) {
			l.seen.Containers["init"] = l.seen.Containers["app"]
			delete(l.seen.Containers, "app")
		}, true},
		{"its namespaces are gone", func(l *look) { l.seen.Namespaces = false }, true},
		{"a volume outgrew its limit", func(l *look) { l.seen.Excess = "volume data has 2 MiB" }, true},
		{"all is gone", func(l *look) { l.seen = nil }, true},
		{"not ready any more", func(l *look) { l.health["a0"] = plan.Health{NotReady: true} }, true},
		{"trouble", func(l *look) { l.trouble = true }, true},
		{"a deadline, which passes by itself", func(l *look) { l.p.Spec.ActiveDeadlineSeconds = new(int64) }, true},
		{"a deadline of a pod that has ended", func(l *look) {
			l.p.Spec.ActiveDeadlineSeconds, l.p.Status.Phase = new(int64), corev1.PodSucceeded
		}, false},
	} {
		l := look{p: pod(), seen: seen(), health: map[string]plan.Health{"a0": {}}}
		b := newBasis(l.p, l.seen, l.health, l.trouble)
		tt.change(&l)
		if got := b.holds(l.p, l.seen, l.health, l.trouble); got == tt.again {
			t.Errorf("%s: made again %t, want %t", tt.name, !got, tt.again)
		}
	}
	var none *basis
	p := pod()
	if none.holds(p, nil, nil, false) {
		t.Error("the first status is not made")
	}
	if b := newBasis(p, nil, nil, false); !b.holds(p, nil, nil, false) || b.holds(p, seen(), nil, false) {
		t.Error("a pod of which nothing is there yet")
	}
	if b := newBasis(p, nil, nil, true); b.holds(p, nil, nil, true) || b.holds(p, nil, nil, false) {
		t.Error("troubles come and go with other words")
	}
}

// A look at pods of which nothing is new costs little: it makes and compares no status.
func TestQuietLookIsCheap(t *testing.T) {
	m := newMachine(t)
	a := m.agent()
	m.images["web:v1"] = true
	m.ring.Now = time.Now().UnixMilli()
	m.ring.Commit("dev", deployment("web"))
	settle := func() {
		for range 5 {
			if _, err := a.reconcile(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			for len(a.busy) > 0 {
				a.finish(t.Context(), <-a.done)
			}
			phases, _ := a.reports.due(time.Now())
			for _, phase := range phases {
				a.reports.append(t.Context(), phase)
			}
		}
	}
	settle()
	made := maps.Clone(a.bases)
	settle()
	if len(made) != 1 {
		t.Fatalf("%d bases", len(made))
	}
	for id, b := range a.bases {
		if b != made[id] {
			t.Errorf("the status of %s was made again although nothing is new", id)
		}
	}
	m.ring.Commit("dev", service("web"))
	settle()
	if len(a.bases) != 0 {
		t.Errorf("%d bases of pods that are gone", len(a.bases))
	}
}
