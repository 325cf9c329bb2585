package plan

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// told writes a status in a few lines: phase and true conditions, then each container.
func told(s corev1.PodStatus) string {
	var b strings.Builder
	b.WriteString(string(s.Phase))
	if s.Reason != "" {
		b.WriteString(" " + s.Reason)
	}
	for _, c := range s.Conditions {
		if c.Status == corev1.ConditionTrue {
			b.WriteString(" +" + string(c.Type))
		} else {
			b.WriteString(" -" + string(c.Type) + "(" + c.Reason + ")")
		}
	}
	b.WriteString("\n")
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			fmt.Fprintf(&b, "%s #%d", c.Name, c.RestartCount)
			if c.Ready {
				b.WriteString(" ready")
			}
			if c.Started != nil && *c.Started {
				b.WriteString(" started")
			}
			state := func(prefix string, st corev1.ContainerState) {
				switch {
				case st.Running != nil:
					b.WriteString(prefix + "running")
				case st.Waiting != nil:
					b.WriteString(prefix + "waiting " + st.Waiting.Reason)
				case st.Terminated != nil:
					fmt.Fprintf(&b, "%sended %s %d", prefix, st.Terminated.Reason, st.Terminated.ExitCode)
				}
			}
			state(" ", c.State)
			state(", before: ", c.LastTerminationState)
			b.WriteString("\n")
		}
	}
	return b.String()
}

func over(s *Seen) *Seen {
	s.Excess = `Usage of EmptyDir volume "v" exceeds the limit "1Mi".`
	return s
}

func TestStatus(t *testing.T) {
	const (
		pending  = "Pending +PodScheduled"
		notReady = " -ContainersReady(ContainersNotReady) -Ready(ContainersNotReady)\n"
		running  = "Running +PodScheduled +Initialized"
		ready    = " +ContainersReady +Ready\n"
	)
	oom := ended("app-1", 137, 1, 1)
	oom.OOM = true
	tests := []struct {
		name     string
		spec     string
		seen     *Seen
		health   map[string]Health
		troubles map[string]Trouble
		with     func(*Pod)
		want     string
	}{
		{"new", one, nil, nil, nil, nil, pending + " +Initialized" + notReady + "app #0 waiting ContainerCreating\n"},
		{
			"image cannot be pulled", one, up(), nil,
			map[string]Trouble{"app": {Reason: "ErrImagePull", Message: "no such host"}},
			nil,
			pending + " +Initialized" + notReady + "app #0 waiting ErrImagePull\n",
		},
		{
			"first init container at work", inits, up(runs("i1-0")), nil, nil, nil,
			pending + " -Initialized(ContainersNotInitialized)" + notReady + "i1 #0 started running\ni2 #0 waiting ContainerCreating\napp #0 waiting PodInitializing\n",
		},
		{
			"second init container at work", inits, up(ended("i1-0", 0, 0, 0), runs("i2-0")), nil, nil, nil,
			pending + " -Initialized(ContainersNotInitialized)" + notReady + "i1 #0 ready ended Completed 0\ni2 #0 started running\napp #0 waiting PodInitializing\n",
		},
		{
			"init container fails", inits, up(ended("i1-1", 1, 1, 1)), nil, nil, nil,
			pending + " -Initialized(ContainersNotInitialized)" + notReady + "i1 #1 waiting CrashLoopBackOff, before: ended Error 1\ni2 #0 waiting ContainerCreating\napp #0 waiting PodInitializing\n",
		},
		{
			"init container fails for good", `{restartPolicy: Never, initContainers: [{name: i1, image: a}], containers: [{name: app, image: a}]}`, up(ended("i1-0", 1, 0, 0)), nil, nil, nil,
			"Failed +PodScheduled -Initialized(ContainersNotInitialized)" + notReady + "i1 #0 ended Error 1\napp #0 waiting PodInitializing\n",
		},
		{
			"init containers done", inits, up(ended("i1-0", 0, 0, 0), ended("i2-0", 0, 0, 0), runs("app-0")), nil, nil, nil,
			running + ready + "i1 #0 ready ended Completed 0\ni2 #0 ready ended Completed 0\napp #0 ready started running\n",
		},
		{
			"sidecar is not ready", sidecars, up(runs("side-0"), ended("i2-0", 0, 0, 0), runs("app-0")),
			map[string]Health{"side-0": {NotReady: true}},
			nil, nil,
			running + notReady + "side #0 started running\ni2 #0 ready ended Completed 0\napp #0 ready started running\n",
		},
		{"runs", one, up(runs("app-0")), nil, nil, nil, running + ready + "app #0 ready started running\n"},
		{"readiness", one, up(runs("app-0")), map[string]Health{"app-0": {NotReady: true}}, nil, nil, running + notReady + "app #0 started running\n"},
		{"startup", one, up(runs("app-0")), map[string]Health{"app-0": {NotStarted: true}}, nil, nil, running + notReady + "app #0 running\n"},
		{"crashes", one, up(ended("app-3", 1, 3, 3)), nil, nil, nil, running + notReady + "app #3 waiting CrashLoopBackOff, before: ended Error 1\n"},
		{"out of memory", one, up(oom), nil, nil, nil, running + notReady + "app #1 waiting CrashLoopBackOff, before: ended OOMKilled 137\n"},
		{
			"Never, succeeded", oneNever, up(ended("app-0", 0, 0, 0)), nil, nil, nil,
			"Succeeded +PodScheduled +Initialized -ContainersReady(PodCompleted) -Ready(PodCompleted)\napp #0 ended Completed 0\n",
		},
		{"Never, failed", oneNever, up(ended("app-0", 2, 0, 0)), nil, nil, nil, "Failed +PodScheduled +Initialized" + notReady + "app #0 ended Error 2\n"},
		{"OnFailure, failed and comes again", oneFail, up(ended("app-0", 2, 0, 0)), nil, nil, nil, running + notReady + "app #0 waiting CrashLoopBackOff, before: ended Error 2\n"},
		{
			"one of two has ended", `{restartPolicy: Never, containers: [{name: app, image: a}, {name: b, image: a}]}`, up(ended("app-0", 2, 0, 0), runs("b-0")), nil, nil, nil,
			running + notReady + "app #0 ended Error 2\nb #0 ready started running\n",
		},
		{
			"past its deadline", `{activeDeadlineSeconds: 1, containers: [{name: app, image: a}]}`, up(runs("app-0")), nil, nil, startedAt(begin - minute),
			running + ready + "app #0 ready started running\n",
		},
		{
			"past its deadline and stopped", `{activeDeadlineSeconds: 1, containers: [{name: app, image: a}]}`, up(ended("app-0", 143, 0, 0)), nil, nil, startedAt(begin - minute),
			"Failed DeadlineExceeded +PodScheduled +Initialized" + notReady + "app #0 ended Error 143\n",
		},
		{
			"the end is final, also where nothing is left of it", one, nil, nil, nil, func(p *Pod) {
				p.Pod.Status = Status(p, over(up(ended("app-0", 137, 0, 0))), nil, nil, begin)
			},
			"Failed Evicted +PodScheduled +Initialized" + notReady + "app #0 ended Error 137\n",
		},
		{
			"evicted, still stopping", one, over(up(runs("app-0"))), nil, nil, nil,
			running + ready + "app #0 ready started running\n",
		},
		{
			"evicted", one, over(up(ended("app-0", 143, 0, 0))), nil, nil, nil,
			"Failed Evicted +PodScheduled +Initialized" + notReady + "app #0 ended Error 143\n",
		},
		{
			"told to stop and stopped", one, up(ended("app-0", 143, 0, 0)), nil, nil, func(p *Pod) { p.Deleting = begin },
			running + notReady + "app #0 ended Error 143\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := podOf(t, "p", tt.spec)
			if tt.with != nil {
				tt.with(p)
			}
			if got := told(Status(p, tt.seen, tt.health, tt.troubles, begin)); got != tt.want {
				t.Errorf("got:\n%swant:\n%s", got, tt.want)
			}
		})
	}
}

// A status changes when something does, and not with the time.
func TestStatusIsStable(t *testing.T) {
	p := podOf(t, "p", one)
	seen := up(runs("app-0"))
	first := Status(p, seen, nil, nil, begin)
	p.Pod.Status = first
	if again := Status(p, seen, nil, nil, begin+minute); !equality.Semantic.DeepEqual(again, first) {
		t.Errorf("nothing changed but the time:\n%v\n%v", first, again)
	}
	later := Status(p, seen, map[string]Health{"app-0": {NotReady: true}}, nil, begin+minute)
	for i, c := range later.Conditions {
		moved := !c.LastTransitionTime.Equal(&first.Conditions[i].LastTransitionTime)
		if want := c.Type == corev1.PodReady || c.Type == corev1.ContainersReady; moved != want {
			t.Errorf("%s: transition time moved: %t, want %t", c.Type, moved, want)
		}
	}
	if Ready(&later) || !Ready(&first) {
		t.Error("Ready does not follow the condition")
	}
}
