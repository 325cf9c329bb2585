//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The machine of a job's pod loses its power a moment before the pod is done: the job is tried again elsewhere, once, after
// the lease of the machine and the job's back-off, and `shoal why` says which attempt that is. The run is the same: it
// succeeds once.
func TestFault_J6(t *testing.T) {
	r := newRing(t, 3).start()
	first := r.nodes[0]
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/job/job.yaml": `apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  backoffLimit: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "shoal.local/probe:v1", args: [sleep, 8s]}]
`}).Push("job")
	var lost *Node
	var rest []*Node
	first.Eventually(60*time.Second, func() error {
		for _, p := range first.Status().Pods {
			if p.Status == "Running" && strings.HasPrefix(p.Name, "work-") {
				lost, rest = r.around(p.Node)
				return nil
			}
		}
		return fmt.Errorf("the job does not run: %v", first.Status().Pods)
	})
	begun := time.Now()
	n := rest[0]
	if why := n.says("attempt 1: 0 pods of its job failed before it", "why", "pod/"+jobPod(n, lost.name)); strings.Contains(why, "attempt 2") {
		t.Error(why)
	}
	// Not later: when it began is known to a second only on a busy machine, and a job that is done is not tried again.
	time.Sleep(time.Until(begun.Add(6 * time.Second)))
	lost.powerOff()
	n.Eventually(90*time.Second, func() error {
		for _, p := range n.Status().Pods {
			if strings.HasPrefix(p.Name, "work-") && p.Node != lost.name && p.Status == "Completed" {
				return nil
			}
		}
		return fmt.Errorf("not tried again: %v", n.Status().Pods)
	})
	t.Logf("done by the second attempt %s after the machine was lost", time.Since(begun).Round(time.Second))
	again := ""
	for _, p := range n.Status().Pods {
		if p.Node != lost.name {
			again = p.Name
		}
	}
	n.says("attempt 2: 1 pod of its job failed before it; now 1 has failed, 1 succeeded", "why", "pod/"+again)
	lost.powerOn()
	n.Eventually(60*time.Second, func() error { return r.whole(3) })
	time.Sleep(2 * time.Second)
	if runs := r.instances("work"); runs["work"] != 2 {
		t.Errorf("%d pods of the job ran, want 2: %v", runs["work"], runs)
	}
}

// jobPod is the job's pod on a machine.
func jobPod(n *Node, machine string) string {
	for _, p := range n.Status().Pods {
		if strings.HasPrefix(p.Name, "work-") && p.Node == machine {
			return p.Name
		}
	}
	return "none"
}
