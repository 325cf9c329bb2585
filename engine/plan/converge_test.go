package plan

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
)

// FuzzConverge carries the steps out on a small model of a node whose containers end as the input says, and asks
// that it comes to rest: nothing left to do, in the state that the pod's words ask for, without a step that the node
// would refuse on the way.
func FuzzConverge(f *testing.F) {
	for i := range byte(24) {
		f.Add(i, []byte{i, 3, 0, 1, i * 7, 2, 0})
	}
	f.Fuzz(func(t *testing.T, kind byte, ends []byte) {
		if len(ends) > 64 {
			return
		}
		specs := []string{
			one, oneNever, oneFail, inits, sidecars,
			`{restartPolicy: Never, initContainers: [{name: i1, image: a}], containers: [{name: app, image: a}, {name: b, image: c}]}`,
		}
		p := podOf(t, "p", specs[int(kind)%len(specs)])
		m := model{t: t, pod: p, seen: &Seen{Containers: map[string]*Container{}}, images: map[string]bool{}, now: begin, ends: ends}
		if kind&0x80 != 0 {
			p.Spec.ActiveDeadlineSeconds = new(int64)
			*p.Spec.ActiveDeadlineSeconds = 100
			p.Pod.Status.StartTime = at(begin)
		}
		for range 2000 {
			if !m.turn() {
				break
			}
		}
		if m.turn() {
			t.Fatalf("%d: no rest", kind)
		}
		if m.gone {
			t.Fatal("taken down without having been told to")
		}
		p.Deleting, p.Grace = m.now, 30
		for range 50 {
			m.turn()
			if m.gone {
				break
			}
		}
		if !m.gone {
			t.Fatal("told to stop, and did not go")
		}
		for name, c := range m.seen.Containers {
			if c.State == Running {
				t.Errorf("%s was torn down while it ran", name)
			}
		}
	})
}

type model struct {
	t      *testing.T
	pod    *Pod
	seen   *Seen
	images map[string]bool
	now    int64
	ends   []byte // how the next container ends: even with 0, odd with 1; none left: containers run on, inits succeed
	gone   bool
}

// turn is one round of the loop. It reports whether anything moved.
func (m *model) turn() bool {
	steps, wake := Steps(Want{m.pod.ID: m.pod}, Have{m.pod.ID: m.seen}, Facts{Images: maps.Clone(m.images), Now: m.now})
	for _, s := range steps {
		m.do(s)
	}
	moved := len(steps) > 0
	phase := m.pod.Status.Phase
	m.pod.Pod.Status = Status(m.pod, m.seen, nil, nil, m.now)
	moved = moved || phase != m.pod.Status.Phase
	if m.pod.Deleting == 0 && m.finish() {
		moved = true
	}
	if !moved && wake != 0 {
		if wake <= m.now {
			m.t.Fatalf("to look again at %d, which is not after %d", wake, m.now)
		}
		m.now, moved = wake, true
	}
	return moved
}

// finish lets one running container end, if it is one that does.
func (m *model) finish() bool {
	for c := range m.pod.Containers() {
		got := m.seen.Containers[c.Name]
		if got == nil || got.State != Running {
			continue
		}
		init := m.pod.Spec.Containers[0].Name != c.Name && len(m.pod.Spec.InitContainers) > 0 && !Sidecar(c)
		switch {
		case len(m.ends) > 0:
			got.ExitCode = int32(m.ends[0] & 1)
			m.ends = m.ends[1:]
		case !init:
			continue
		}
		got.State, got.Finished = Exited, m.now
		return true
	}
	return false
}

func (m *model) do(s Action) {
	t, c := m.t, m.seen.Containers[s.Container]
	switch s.Op {
	case Sandbox:
		if m.seen.Namespaces {
			t.Fatal("a second sandbox")
		}
		m.seen.Namespaces, m.seen.Linked = true, true
	case Pull:
		m.images[s.Image] = true
	case Start:
		switch {
		case !m.seen.Namespaces || !m.images[s.Image]:
			t.Fatalf("%s without namespaces or image", s)
		case c != nil && c.State == Running:
			t.Fatalf("%s, which runs", s)
		case c != nil && s.Attempt != c.Attempt+1, c == nil && s.Attempt != 0:
			t.Fatalf("%s after %+v", s, c)
		case m.pod.Deleting != 0 || m.pod.Pod.Status.Phase == corev1.PodFailed:
			t.Fatalf("%s of a pod that has ended", s)
		}
		m.seen.Containers[s.Container] = &Container{ID: string(control.PodID(s.Container)), Attempt: s.Attempt, Streak: s.Streak, State: Running, Started: m.now}
	case Stop:
		if c == nil || c.State == Exited {
			t.Fatalf("%s, which does not run", s)
		}
		c.State, c.Finished, c.ExitCode, c.Signal = Exited, m.now, 143, 15
	case Remove:
		if c == nil || s.Attempt != c.Attempt-1 {
			t.Fatalf("%s beside %+v", s, c)
		}
	case Release:
		if !m.seen.Namespaces || m.seen.alive() || !m.pod.hasEnded() {
			t.Fatalf("%s of %+v", s, m.seen)
		}
		m.seen.Namespaces = false
	case Teardown:
		m.gone = true
	default:
		t.Fatalf("%s was not called for", s)
	}
}
