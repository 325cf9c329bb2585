//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

const hookedYAML = `apiVersion: v1
kind: Pod
metadata: {name: hooked, labels: {app: hooked}}
spec:
  terminationGracePeriodSeconds: 10
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: exec
    image: shoal.local/probe:v1
    args: [serve]
    volumeMounts: [{name: shared, mountPath: /shared}]
    livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 1}
    lifecycle:
      postStart: {exec: {command: [/probe, write, /shared/began, "yes"]}}
      preStop: {exec: {command: [/probe, write, /shared/stopping, "yes"]}}
  - name: get
    image: shoal.local/probe:v1
    args: [serve, -addr, ":8081"]
    livenessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1, failureThreshold: 1}
    lifecycle:
      postStart: {sleep: {seconds: 2}}
      preStop: {httpGet: {path: "/exit?code=7", port: 8081}}
  - name: sleep
    image: shoal.local/probe:v1
    args: [trap]
    lifecycle: {preStop: {sleep: {seconds: 3}}}
`

const failingYAML = `apiVersion: v1
kind: Pod
metadata: {name: failing}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: shoal.local/probe:v1, args: [sleep, forever], lifecycle: {postStart: {exec: {command: [/probe, cat, /nothing]}}}}
`

// What a container wants done after its start and before its stop is done: by commands, requests and sleeps; a container is not
// ready before, and not stopped before. One whose postStart hook fails is ended, and says why.
func TestFeature_K1_Lifecycle(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/hooked/hooked.yaml": hookedYAML, "apps/failing/failing.yaml": failingYAML})
	begun := time.Now()
	repo.pushInBackground("one")
	n.mark = n.instance()
	ip := ""
	n.Eventually(soon, func() error {
		for _, p := range n.Status().Pods {
			if p.Name == "hooked" && p.Ready == 3 {
				ip = p.IP
				return nil
			}
		}
		return fmt.Errorf("not ready")
	})
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("it was ready after %s, before its hook of 2 s was over", took)
	}
	file := func(name string) (string, error) {
		said, err := n.Get("http://" + ip + ":8080/file?path=/shared/" + name)
		return strings.TrimSpace(said), err
	}
	if said, err := file("began"); said != "yes" {
		t.Errorf("postStart has written %q, %v", said, err)
	}
	for _, port := range []string{"8080", "8081"} {
		if _, err := n.Get("http://" + ip + ":" + port + "/set?healthy=false"); err != nil {
			t.Fatal(err)
		}
	}
	n.Eventually(soon, func() error {
		if said, err := file("stopping"); said != "yes" {
			return fmt.Errorf("preStop has written %q, %w", said, err)
		}
		return nil
	})
	events := func(words string) func() error {
		return func() error {
			lines, err := n.Client().Events(context.Background(), "")
			if out := strings.Join(lines, "\n"); !strings.Contains(out, words) {
				return fmt.Errorf("no event has %q, %w:\n%s", words, err, out)
			}
			return nil
		}
	}
	n.Eventually(soon, events("exited with 7"))
	n.Eventually(soon, events("FailedPostStartHook: container app is ended: exit code 1: probe: open /nothing"))

	if len(n.running("trap")) != 1 {
		t.Fatal("it does not run")
	}
	repo.git("rm", "-rq", "apps/hooked")
	begun = time.Now()
	repo.pushInBackground("less")
	n.Eventually(soon, func() error {
		if len(n.running("trap")) > 0 {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	if took := time.Since(begun); took < 2500*time.Millisecond || took > 8*time.Second {
		t.Errorf("it ran for %s more, with a preStop hook of 3 s", took)
	}
}
