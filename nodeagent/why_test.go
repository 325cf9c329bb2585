package nodeagent

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestLastWordsAreShown(t *testing.T) {
	ended := func(text string) *corev1.ContainerStateTerminated {
		return &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error", Message: text}
	}
	waits := corev1.ContainerStatus{
		Name:                 "app",
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: ended("no table\naccounts\x1b[2J")},
	}
	ends := corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Terminated: ended(strings.Repeat("ä", 201))}}
	for name, tt := range map[string]struct {
		status       corev1.ContainerStatus
		reason, line string
		why          string
	}{
		"of one that is started again": {
			waits, "CrashLoopBackOff", "container app ended with 3 (Error): no table accounts [2J",
			"container app left the message:|  no table|  accounts[2J",
		},
		"of one that ended": {ends, "Error", strings.Repeat("ä", 200) + "...", "container app left the message:|  " + strings.Repeat("ä", 201)},
		"none":              {corev1.ContainerStatus{State: corev1.ContainerState{Terminated: ended("")}}, "Error", "", ""},
	} {
		reason, line := reasonOf(tt.status)
		why := strings.Join(lastWords(&corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{tt.status}}), "|")
		if reason != tt.reason || line != tt.line || why != tt.why {
			t.Errorf("%s: %q %q\n%s", name, reason, line, why)
		}
	}
}
