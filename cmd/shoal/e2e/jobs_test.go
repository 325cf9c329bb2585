//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const cronYAML = `apiVersion: batch/v1
kind: CronJob
metadata: {name: %s}
spec:
  schedule: "* * * * *"
  concurrencyPolicy: %s
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - {name: run, image: shoal.local/probe:v1, args: [%s]}
`

// A CronJob fires once per schedule, also over restarts of the agent and pushes that leave it as it is; Forbid lets no
// second run begin, Replace ends the first.
func TestFeature_K7_CronJobsFireOnce(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{
		"apps/cron/short.yaml":   fmt.Sprintf(cronYAML, "short", "Allow", `exit, "0"`),
		"apps/cron/forbid.yaml":  fmt.Sprintf(cronYAML, "forbid", "Forbid", "sleep, 150s"),
		"apps/cron/replace.yaml": fmt.Sprintf(cronYAML, "replace", "Replace", "sleep, 150s"),
	})
	repo.Push("cron")
	start := time.Now()
	runs := map[string]map[string]bool{} // of each CronJob, by pod
	minute := start.Truncate(time.Minute)
	killed := false
	for time.Since(minute) < 2*time.Minute+25*time.Second {
		if !killed && time.Since(minute) > 61*time.Second {
			repo.Push("nothing new") // a moment after the first firing
			n.Kill()
			n.Start()
			repo.Write("apps/texts/texts.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: texts}\ndata: {a: b}\n")
			repo.Push("something else")
			n.Stop()
			n.Start()
			killed = true
		}
		if s, err := n.Client().Status(t.Context()); err == nil {
			for _, p := range s.Pods {
				cron, _, _ := strings.Cut(p.Name, "-")
				if runs[cron] == nil {
					runs[cron] = map[string]bool{}
				}
				runs[cron][p.Name] = true
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	for cron, want := range map[string]int{"short": 2, "forbid": 1, "replace": 2} {
		if got := len(runs[cron]); got != want {
			t.Errorf("%s ran %d times in two minutes, want %d: %v", cron, got, want, runs[cron])
		}
	}
	active := 0
	for _, p := range n.Status().Pods {
		if strings.HasPrefix(p.Name, "replace-") && p.Status == "Running" {
			active++
		}
	}
	if active != 1 {
		t.Errorf("%d runs of replace are under way, want 1", active)
	}
}

// A Job that fails is tried again with back-off and stops at its limit.
func TestFeature_K6_JobStopsAtItsLimit(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	n.Repository(map[string]string{"apps/job/job.yaml": `apiVersion: batch/v1
kind: Job
metadata: {name: fails}
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: run, image: shoal.local/probe:v1, args: [cat, /absent], terminationMessagePolicy: FallbackToLogsOnError}
---
apiVersion: batch/v1
kind: Job
metadata: {name: works}
spec:
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: run, image: shoal.local/probe:v1, args: [cat, /etc/hostname]}
`}).Push("jobs")
	count := func(prefix, status string) int {
		got := 0
		for _, p := range n.Status().Pods {
			if strings.HasPrefix(p.Name, prefix) && p.Status == status {
				got++
			}
		}
		return got
	}
	n.Eventually(60*time.Second, func() error {
		if failed, done := count("fails-", "Error"), count("works-", "Completed"); failed != 2 || done != 3 {
			return fmt.Errorf("%d failed, %d completed", failed, done)
		}
		return nil
	})
	// What has ended holds nothing but its records: no interface, no shim. Its logs are there, also after a restart.
	n.Eventually(20*time.Second, func() error {
		var links string
		for line := range strings.Lines(n.must("ip", "-o", "link", "show", "type", "veth")) {
			if !strings.Contains(line, "lan") && !strings.Contains(line, "-node") && !strings.Contains(line, "-peer") {
				links += line
			}
		}
		shims, _ := filepath.Glob(filepath.Join(n.Run, "c/pods/*/c/*/config.json"))
		if links != "" || len(shims) > 0 {
			return fmt.Errorf("finished pods hold:\n%s%s", links, strings.Join(shims, "\n"))
		}
		return nil
	})
	n.Kill()
	n.Start()
	for _, p := range n.Status().Pods {
		want := p.Name + "\n"
		if strings.HasPrefix(p.Name, "fails-") {
			want = ""
		}
		if stdout, stderr, code := n.Shoal("logs", "-n", p.Namespace, p.Name); code != 0 || stdout != want || want == "" && !strings.Contains(stderr, "open /absent") {
			t.Errorf("log of %s: %q %s", p.Name, stdout, stderr)
		}
		if strings.HasPrefix(p.Name, "fails-") && !strings.Contains(p.Message, "open /absent: no such file") {
			t.Errorf("%s has the message %q", p.Name, p.Message)
		}
	}
	if failed := count("fails-", "Error"); failed != 2 {
		t.Errorf("%d tries, want 2: the first and one more", failed)
	}
}

// A pod that writes more into its emptyDir than it may is evicted; the containers of a pod see each other's
// processes where it says so.
func TestFeature_K1_EvictionAndSharedProcesses(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	n.Repository(map[string]string{"apps/pods/pods.yaml": `apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  volumes: [{name: v, emptyDir: {sizeLimit: 1Ki}}]
  containers:
  - {name: run, image: shoal.local/probe:v1, args: [sleep, forever], volumeMounts: [{name: v, mountPath: /v}]}
---
apiVersion: v1
kind: Pod
metadata: {name: sharing}
spec:
  shareProcessNamespace: true
  containers:
  - {name: a, image: shoal.local/probe:v1, args: [sleep, forever]}
  - {name: b, image: shoal.local/probe:v1, args: [sleep, forever]}
`}).Push("pods")
	pod := func(name string) (status, message, namespace string) {
		for _, p := range n.Status().Pods {
			if p.Name == name {
				return p.Status, p.Message, p.Namespace
			}
		}
		return "absent", "", ""
	}
	n.Eventually(30*time.Second, func() error {
		greedy, _, _ := pod("greedy")
		sharing, why, _ := pod("sharing")
		if greedy != "Running" || sharing != "Running" {
			return fmt.Errorf("greedy %s, sharing %s: %s", greedy, sharing, why)
		}
		return nil
	})
	_, _, namespace := pod("sharing")
	processes := func(container string) string {
		stdout, stderr, _ := n.Shoal("exec", "-n", namespace, "sharing", "-c", container, "--", "/probe", "cat", "/proc/1/comm")
		return stdout + stderr
	}
	if a, b := processes("a"), processes("b"); a != "pause\n" || b != "pause\n" {
		t.Errorf("process 1 is %q and %q", a, b)
	}
	if _, stderr, code := n.Shoal("exec", "-n", namespace, "greedy", "--", "/probe", "write", "/v/file", strings.Repeat("x", 20_000)); code != 0 {
		t.Fatal(stderr)
	}
	n.Eventually(40*time.Second, func() error {
		status, message, _ := pod("greedy")
		if status != "Evicted" || !strings.Contains(message, `"v" exceeds the limit "1Ki"`) {
			return fmt.Errorf("greedy is %s: %s", status, message)
		}
		return nil
	})
}
