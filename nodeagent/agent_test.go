package nodeagent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// deployment is one of one pod, whose image has its name.
func deployment(name string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: app, image: "%[1]s:v1", imagePullPolicy: IfNotPresent}]}
`, name)
}

func service(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %[1]s}\nspec: {selector: {app: %[1]s}, ports: [{port: 80}]}\n", name)
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	var trimmed []string
	for line := range strings.Lines(got) {
		trimmed = append(trimmed, strings.Join(strings.Fields(line), " "))
	}
	if s := strings.Join(trimmed, "\n"); s != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, s, want)
	}
}

// A pull that fails is tried again, ever later, and holds no other pod back; the loop sleeps meanwhile.
func TestFailingPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.pullErr["bad:v1"] = errors.New("no such host")
		m.pullTime = 40 * time.Millisecond
		m.images["good:v1"] = true
		a := m.run()
		m.commit(deployment("bad") + "---\n" + deployment("good"))
		expect(t, "at once", m.did(), "0s start good:v1 #0")
		time.Sleep(2 * time.Second)
		expect(t, "within 2 s", m.did(), "40ms pull bad:v1\n330ms pull bad:v1\n870ms pull bad:v1\n1.91s pull bad:v1")
		m.mu.Lock()
		looks := m.looks
		m.mu.Unlock()
		if looks > 40 {
			t.Errorf("the loop looked %d times in 2 s", looks)
		}
		for id, troubles := range a.Last().Trouble {
			if troubles["app"].Reason != "ImagePullBackOff" || !strings.Contains(troubles["app"].Message, "no such host") {
				t.Errorf("pod %s: %+v", id, troubles)
			}
		}
		m.mu.Lock()
		delete(m.pullErr, "bad:v1")
		m.mu.Unlock()
		time.Sleep(5 * time.Second)
		expect(t, "when the registry is back", m.did(), "3.95s pull bad:v1\n3.95s start bad:v1 #0")
		if n := len(a.Last().Trouble); n != 0 {
			t.Errorf("%d pods are still in trouble", n)
		}
	})
}

// However much stirs, the loop looks for a fifth of the time only, and is never away for longer than 100 ms.
func TestLooksLeaveTheMachineAlone(t *testing.T) {
	for _, c := range []struct {
		took        time.Duration
		least, most int // looks in a second
	}{{5 * time.Millisecond, 35, 41}, {50 * time.Millisecond, 6, 8}} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t)
			m.took = c.took
			m.run()
			synctest.Wait()
			for range 1000 {
				time.Sleep(time.Millisecond)
				nudge(m.events)
			}
			m.mu.Lock()
			looks := m.looks
			m.mu.Unlock()
			if looks < c.least || looks > c.most {
				t.Errorf("looks that take %s: %d in a second", c.took, looks)
			}
		})
	}
}

// What exits is started again: at once, then after 10 s, then 20 s.
func TestExitLeadsToRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.images["web:v1"] = true
		m.run()
		m.commit(deployment("web"))
		for range 3 {
			m.exit("web:v1", 1)
			time.Sleep(30 * time.Second)
		}
		expect(t, "diary", m.did(), "0s start web:v1 #0\n0s start web:v1 #1\n40s start web:v1 #2\n1m20s start web:v1 #3")
	})
}

// TestFault_C17 has 50 pods that crash whenever they are started: they are started ever more seldom, and a pod that
// works is started at once among them.
func TestFault_C17(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.images["bad:v1"], m.images["good:v1"] = true, true
		m.run()
		bad := strings.Replace(deployment("bad"), "spec:\n", "spec:\n  replicas: 50\n", 1)
		m.commit(bad)
		starts := func(image string) int { return strings.Count(m.did(), "start "+image) }
		if n := starts("bad:v1"); n != 50 {
			t.Fatalf("%d starts, want 50", n)
		}
		var got []int
		for range 6 { // five minutes each
			for range 60 {
				m.exit("bad:v1", 1)
				time.Sleep(5 * time.Second)
			}
			got = append(got, starts("bad:v1")/50)
		}
		// Of each pod: at once, after 10, 20, 40, 80 and 160 s, then every 5 minutes.
		if s := fmt.Sprint(got); s != "[5 1 1 1 1 1]" {
			t.Errorf("starts of each pod in five minutes: %s", s)
		}
		m.commit(bad + "---\n" + deployment("good"))
		time.Sleep(time.Second)
		if n := starts("good:v1"); n != 1 {
			t.Errorf("the pod that works was started %d times", n)
		}
	})
}

// A pod that is told to stop leaves the tables first; it is reported as gone once.
func TestRemovedPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.images["web:v1"] = true
		m.run()
		two := strings.Replace(deployment("web"), "spec:\n", "spec:\n  replicas: 2\n", 1)
		m.commit(two + "---\n" + service("web"))
		time.Sleep(time.Minute)
		m.did()
		m.commit(deployment("web") + "---\n" + service("web"))
		time.Sleep(time.Minute)
		expect(t, "diary", m.did(), "1m0s 1 endpoints\n1m0.2s stop web:v1, 30 s\n1m0.2s gone")
		removed := 0
		for _, r := range m.reports {
			if r.Removed {
				removed++
			}
		}
		if removed != 1 {
			t.Errorf("%d reports that the pod is gone, want 1", removed)
		}
	})
}

// A Job's pod gives back what it holds when it has ended, and is still told of.
func TestEndedPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.images["job:v1"] = true
		a := m.run()
		m.commit("apiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: \"job:v1\", imagePullPolicy: IfNotPresent}]}}}\n")
		m.exit("job:v1", 0)
		time.Sleep(5 * time.Minute)
		expect(t, "diary", m.did(), "0s start job:v1 #0\n0s release")
		for id, p := range a.Last().Want {
			status := p.Status
			if status.Phase != corev1.PodSucceeded || status.PodIP == "" || status.ContainerStatuses[0].State.Terminated == nil {
				t.Errorf("pod %s is told of as %+v", id, status)
			}
		}
		m.mu.Lock()
		looks := m.looks
		m.mu.Unlock()
		if n := len(a.Last().Want); n != 1 || looks > 60 {
			t.Errorf("%d pods, %d looks", n, looks)
		}
	})
}

// A pod whose volume outgrew its limit is stopped, reported as evicted with its containers' exit codes, and removed
// by what made it.
func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.images["web:v1"] = true
		a := m.run()
		m.commit(deployment("web"))
		m.did()
		m.mu.Lock()
		for id := range a.Last().Want {
			m.excess[id] = "too much"
		}
		m.mu.Unlock()
		nudge(m.events)
		time.Sleep(time.Minute)
		expect(t, "diary", m.did(), "0s stop web:v1, 1 s\n0s gone")
		evicted := 0
		for _, r := range m.reports {
			if r.Status.Phase == corev1.PodFailed && !r.Removed {
				evicted++
				if got := r.Status; got.Reason != "Evicted" || got.Message != "too much" || got.ContainerStatuses[0].State.Terminated == nil {
					t.Errorf("reported as %+v", got)
				}
			}
		}
		if evicted != 1 {
			t.Errorf("%d reports of the eviction, want 1", evicted)
		}
	})
}

// A stop that failed and is of no more interest does not keep the loop awake.
func TestTroubleIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.images["web:v1"] = true
		m.stopErr = errors.New("busy")
		a := m.run()
		m.commit(deployment("web"))
		time.Sleep(time.Second)
		for id := range a.Last().Want {
			a.done <- result{pod: id, failed: plan.Action{Op: plan.Stop, Container: "app"}, err: m.stopErr}
		}
		time.Sleep(time.Minute)
		m.mu.Lock()
		looks := m.looks
		m.mu.Unlock()
		if n := len(a.Last().Trouble); n != 0 || looks > 60 {
			t.Errorf("%d pods in trouble, %d looks", n, looks)
		}
	})
}

// A pod that flaps sends a burst and then one report a second, and always its newest status.
func TestReportsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		r := newReporter((*memLedger)(m), nil)
		p := &plan.Pod{Pod: control.Pod{ID: "p", Epoch: 7}}
		status := func(i int) { r.set(p, corev1.PodStatus{Message: fmt.Sprint(i)}) }
		taken := func() (messages []string) {
			out, _ := r.due(time.Now())
			for _, phase := range out {
				messages = append(messages, phase.Status.Message)
			}
			return messages
		}
		var got []string
		for i := range 20 {
			status(i)
			got = append(got, taken()...)
		}
		for range 3 {
			time.Sleep(time.Second)
			got = append(got, taken()...)
		}
		if s := strings.Join(got, " "); s != "0 1 2 3 4 5 19" {
			t.Errorf("reports %s", s)
		}
		status(19)
		if n := len(taken()); n != 0 {
			t.Error("an unchanged status was reported")
		}
		for i := range 10 {
			status(100 + i)
			taken()
		}
		r.removed(p)
		out, _ := r.due(time.Now())
		if len(out) != 1 || !out[0].Removed || out[0].Epoch != 7 {
			t.Errorf("that a pod is gone does not wait: %+v", out)
		}
	})
}
