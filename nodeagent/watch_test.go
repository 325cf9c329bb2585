package nodeagent

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// How far a pod has come is said in words, and whether to wait on.
func TestStageOf(t *testing.T) {
	ready := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	container := func(s corev1.ContainerState) []corev1.ContainerStatus { return []corev1.ContainerStatus{{State: s}} }
	for _, tt := range []struct {
		name   string
		node   bool
		status corev1.PodStatus
		stage  string
		done   bool
	}{
		{"placed nowhere", false, corev1.PodStatus{}, "waits for a node: no room", false},
		{"placed", true, corev1.PodStatus{}, "created", false},
		{"pulling", true, corev1.PodStatus{ContainerStatuses: container(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}})}, "created", false},
		{"a pull that fails", true, corev1.PodStatus{ContainerStatuses: container(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such host"}})}, "waits: ErrImagePull: no such host", false},
		{"runs", true, corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: container(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})}, "process started", false},
		{"is ready", true, corev1.PodStatus{Phase: corev1.PodRunning, Conditions: ready}, "ready", true},
		{"has done its work", true, corev1.PodStatus{Phase: corev1.PodSucceeded}, "ready", true},
		{"failed", true, corev1.PodStatus{Phase: corev1.PodFailed, Message: "out of memory"}, "failed: out of memory", true},
	} {
		p := &control.Pod{Status: tt.status, Reason: "no room"}
		if tt.node {
			p.Node = enginetest.Node(1).ID
		}
		if stage, done := stageOf(p); stage != tt.stage || done != tt.done {
			t.Errorf("%s: %q %t, want %q %t", tt.name, stage, done, tt.stage, tt.done)
		}
	}
}

// The pusher sees the way of his pods, and of no others, until they are ready.
func TestWatch(t *testing.T) {
	run := func(name string, do func(t *testing.T, m *machine, watch func(context.Context) string)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				a := m.run()
				m.images["old:v1"] = true
				m.commit(deployment("old"))
				time.Sleep(time.Minute)
				do(t, m, func(ctx context.Context) string {
					var b bytes.Buffer
					begun := time.Now().Add(-100 * time.Millisecond)
					a.Watch(ctx, Verdict{Environment: "dev", Begun: begun, Activated: time.Now()}, begun, &b)
					return names(b.String())
				})
			})
		})
	}
	run("a new pod", func(t *testing.T, m *machine, watch func(context.Context) string) {
		m.pullTime = 202 * time.Millisecond
		m.commit(deployment("old") + "---\n" + deployment("web"))
		expect(t, "progress", watch(t.Context()), `dev: activated after 100 ms
dev: dev/web created after 100 ms
dev: dev/web process started after 302 ms
dev: dev/web ready after 305 ms
dev: all ready after 305 ms`)
	})
	run("nothing starts", func(t *testing.T, m *machine, watch func(context.Context) string) {
		m.commit(deployment("old") + "---\n" + service("old"))
		expect(t, "progress", watch(t.Context()), "dev: activated after 100 ms")
	})
	run("a pull that fails", func(t *testing.T, m *machine, watch func(context.Context) string) {
		m.pullErr["bad:v1"] = errors.New("no such host")
		m.commit(deployment("old") + "---\n" + deployment("bad"))
		got := watch(t.Context())
		if !strings.Contains(got, "dev: dev/bad waits: ErrImagePull: pull bad:v1: no such host after 100 ms\n") || !strings.HasSuffix(got, "dev: still rolling out; see: shoal status\n") {
			t.Error(got)
		}
	})
	run("the client goes away", func(t *testing.T, m *machine, watch func(context.Context) string) {
		m.pullErr["bad:v1"] = errors.New("no such host")
		m.commit(deployment("old") + "---\n" + deployment("bad"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		watch(ctx)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("it watched for %s", took)
		}
	})
}

// names takes the letters that are drawn for each pod off the names of pods of Deployments.
func names(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		words := strings.SplitAfter(line, " ")
		for i, w := range words {
			if base, _, ok := strings.Cut(w, "-"); ok && strings.HasPrefix(w, "dev/") {
				words[i] = base + " "
			}
		}
		out = append(out, strings.Join(words, ""))
	}
	return strings.Join(out, "")
}
