//go:build e2e

package e2e

import (
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
)

const secretCanary = "canary-5f0c2d9e"

const configured = `package web

import "shoal.dev/schema"

schema.#Package

configMap: texts: data: "greeting.txt": "hello from a file"
secret: keys: stringData: password: "` + secretCanary + `"

app: web: {
	image: "shoal.local/probe:v1"
	args: ["serve"]
	ports: http: 8080
	nodePorts: http: 30080
	envFromSecret: PASSWORD: {name: "keys", key: "password"}
	envFromField: POD: "metadata.name"
	health: "/healthz"
	objects: "deployment/web": spec: template: spec: {
		containers: [{volumeMounts: [{name: "texts", mountPath: "/texts"}]}]
		volumes: [{name: "texts", configMap: name: "texts"}]
	}
}
`

// The commands people use, on a running node.
func TestCommands(t *testing.T) {
	n := NewNode(t, "--log-level", "debug").Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": configured})
	said := repo.Push("configured")
	n.Eventually(soon, func() error { return n.podsReady(1) })

	want := func(code int, wants string, dir string, args ...string) string {
		t.Helper()
		stdout, stderr, got := n.ShoalIn(dir, "", args...)
		if got != code || !strings.Contains(stdout+stderr, wants) {
			t.Errorf("shoal %s: exit %d, want %d with %q:\n%s%s", strings.Join(args, " "), got, code, wants, stdout, stderr)
		}
		said += stdout + stderr
		return stdout
	}
	want(0, "web-", "", "status")
	want(0, `"commit"`, "", "status", "-o", "json")
	want(0, "listening", "", "logs", "web")
	want(0, "hello from a file", "", "exec", "web", "--", "/probe", "cat", "/texts/greeting.txt")
	want(9, "", "", "exec", "web", "--", "/probe", "exit", "9")
	want(0, "apps/web/web.cue", "", "why", "deploy", "web")
	want(0, "Ann Author", "", "why", "deploy", "web")
	want(1, "does not exist", "", "why", "deploy", "nothing")
	want(1, "no pod", "", "logs", "nothing")
	want(2, "unknown command", "", "nonsense")
	want(2, "expected", "", "exec", "web")
	want(0, "no problems", repo.Dir, "check")
	want(0, "kind: Deployment", repo.Dir, "render")
	want(0, "(redacted)", repo.Dir, "render")
	want(0, "(redacted)", repo.Dir, "render", "-o", "json")
	want(0, "(redacted)", repo.Dir, "render", "--raw")
	want(0, "Secret dev/keys", "", "why", "secret", "keys")
	want(0, "", "", "why", "secret", "keys", "-o", "json")
	if stdout, _, _ := n.ShoalIn(repo.Dir, "", "render", "--show-secrets", "--raw"); !strings.Contains(stdout, secretCanary) {
		t.Errorf("--show-secrets shows none:\n%s", stdout)
	}
	want(0, "nothing changes", repo.Dir, "plan")

	// A field of the pod template: the plan names it and says that the pod is replaced; a text in a file does not.
	repo.Write("apps/web/web.cue", strings.Replace(configured, `args: ["serve"]`, `args: ["serve", "-linger", "0s"]`, 1))
	want(0, "1 pod is replaced: its pod template changed", repo.Dir, "plan")
	want(1, "", repo.Dir, "plan", "--exit-code")
	repo.Write("apps/web/web.cue", strings.Replace(configured, "hello from a file", "another text", 1))
	if out := want(0, "greeting.txt", repo.Dir, "plan"); strings.Contains(out, "replaced") {
		t.Errorf("a changed text restarts something:\n%s", out)
	}
	repo.Write("apps/web/web.cue", strings.Replace(configured, secretCanary, secretCanary+"-2", 1))
	want(0, "Secret dev/keys", repo.Dir, "plan")
	want(0, "dev/keys", repo.Dir, "plan", "-o", "json")
	said += repo.Push("another secret")
	want(0, "Secret dev/keys", "", "why", "secret", "keys")

	// A file of a ConfigMap changes in place.
	repo.Write("apps/web/web.cue", strings.Replace(configured, "hello from a file", "another text", 1))
	said += repo.Push("another text")
	n.Eventually(soon, func() error { return n.answers(page+"/file?path=/texts/greeting.txt", "another text") })
	if s := n.Status(); s.Pods[0].Restarts != 0 || len(s.Pods) != 1 {
		t.Errorf("the pod was touched: %+v", s.Pods)
	}
	if err := n.answers(page+"/env", "PASSWORD="+secretCanary); err != nil {
		t.Error(err)
	}
	repo.Write("apps/web/web.cue", strings.Replace(configured, `"`+secretCanary+`"`, `"`+secretCanary+`" & int`, 1))
	want(1, "is not shown", repo.Dir, "check")
	want(1, "is not shown", repo.Dir, "plan")
	said += repo.Push("a secret that is none")
	want(0, "is not shown", "", "status")
	want(0, "", "", "status", "-o", "yaml")
	for _, form := range []string{secretCanary, base64.StdEncoding.EncodeToString([]byte(secretCanary)), base64.StdEncoding.EncodeToString([]byte(secretCanary + "-2"))} {
		for line := range strings.Lines(said + n.output.String()) {
			if strings.Contains(line, form) {
				t.Errorf("a secret's value was printed: %s", line)
			}
		}
	}
	// Names are answered inside pods.
	if err := n.answers(page+"/dns?name=web.dev.svc.cluster.local", "10.43."); err != nil {
		t.Error(err)
	}
	if err := n.answers(page+"/get?url=http://web:8080/", "probe"); err != nil {
		t.Error(err)
	}
	n.Stop()
	want(3, "does not answer", "", "status")
}

// A second agent on the same data exits at once and names the first.
func TestFault_U10_TwoAgents(t *testing.T) {
	n := NewNode(t).Start()
	_, stderr, code := n.Shoal("agent", "--data-dir", n.Data, "--run-dir", n.Run+"/2")
	if code != 1 || !strings.Contains(stderr, "pid") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// reset leaves nothing on the machine, and foreign things alone.
func TestFault_U9_ResetLeavesNothing(t *testing.T) {
	n := NewNode(t)
	n.must("nft", "add", "table", "inet", "foreign")
	before := n.look(n.Run, filepath.Dir(n.Data))
	n.Start()
	instance := n.instance()
	n.Image("probe:v1")
	n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")}).Push("one")
	n.Eventually(soon, func() error { return n.podsReady(1) })
	n.Stop()
	for range 2 {
		if _, stderr, code := n.Shoal("reset", "--yes", "--data-dir", n.Data, "--run-dir", n.Run, "--log-dir", n.Logs); code != 0 {
			t.Fatalf("reset: %s", stderr)
		}
	}
	if after := n.look(n.Run, filepath.Dir(n.Data)); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if left := n.left(instance); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
