//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// pipeline declares three environments, each on the branch of its name.
const pipeline = `package shoal

import "shoal.dev/schema"

schema.#Repository

environments: {
	dev: ref: "main"
	staging: {ref: "env/staging", after: ["dev"], gates: soak: "2s"}
	production: {
		ref: "env/production", after: ["staging"]
		hotfix: waive: ["soak", "health"]
		same: {as: "staging", except: ["Service/web:spec.ports[*].nodePort"]}
	}
}
`

// stagedApp answers on a node port of each environment.
func stagedApp(greeting string) string {
	return strings.NewReplacer("app: web: {", `_environment: string @tag(environment)
_ports: {dev: 30080, staging: 30081, production: 30082}

app: web: {`, "nodePorts: http: 30080", "nodePorts: http: _ports[_environment]").Replace(webApp("probe:v1", greeting))
}

var ports = map[string]int{"dev": 30080, "staging": 30081, "production": 30082}

func (n *Node) greetsIn(environment, greeting string) func() error {
	return func() error {
		return n.answers(fmt.Sprintf("http://%s:%d/env", n.address, ports[environment]), "GREETING="+greeting)
	}
}

// shoal runs a command that must work, or must not, and returns what it says.
func (n *Node) shoal(want int, args ...string) string {
	n.t.Helper()
	stdout, stderr, code := n.Shoal(args...)
	if code != want {
		n.t.Fatalf("shoal %s: exit %d, want %d\n%s%s\n%s", strings.Join(args, " "), code, want, stdout, stderr, n.describe())
	}
	return stdout + stderr
}

// Commits go from environment to environment by commits of the ring, through gates; what did not pass them is held; undo is quick.
func TestFeature_P2_Promotion(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"shoal.cue": pipeline, "apps/web/web.cue": stagedApp("one")})
	repo.Push("one")
	n.Eventually(soon, n.greetsIn("dev", "one"))

	if said := n.shoal(1, "promote", "production"); !strings.Contains(said, "staging runs nothing yet") {
		t.Errorf("promote over an environment: %s", said)
	}
	said := n.shoal(0, "promote", "staging", "--wait", "--by", "rita")
	for _, want := range []string{"one (Ann Author)", "soak in dev", "create Deployment staging/web", "staging runs it after"} {
		if !strings.Contains(said, want) {
			t.Errorf("promote says nothing of %q:\n%s", want, said)
		}
	}
	n.Eventually(soon, n.greetsIn("staging", "one"))
	repo.git("fetch", "-q", "origin")
	if a, b := repo.git("rev-parse", "origin/main^{tree}"), repo.git("rev-parse", "origin/env/staging^{tree}"); a != b {
		t.Errorf("the tree that was promoted is %s, not %s", b, a)
	}

	// Somebody pushes to a branch that is promoted into.
	repo.git("checkout", "-q", "-B", "env/staging", "origin/env/staging")
	repo.Write("apps/web/web.cue", stagedApp("by hand"))
	repo.git("commit", "-q", "-a", "-m", "by hand")
	repo.git("push", "-q", "origin", "HEAD:env/staging")
	n.Eventually(soon, func() error {
		if s := n.shoal(0, "status"); !strings.Contains(s, "held: claim: it is neither a promotion") {
			return fmt.Errorf("status:\n%s", s)
		}
		return nil
	})
	if err := n.greetsIn("staging", "one")(); err != nil {
		t.Errorf("after a push by hand: %v", err)
	}

	repo.git("checkout", "-q", "main")
	repo.Write("apps/web/web.cue", stagedApp("two"))
	repo.Push("two")
	n.Eventually(soon, n.greetsIn("dev", "two"))
	n.shoal(0, "promote", "dev", "staging", "--wait")
	n.Eventually(soon, n.greetsIn("staging", "two"))
	n.Eventually(soon, func() error {
		_, stderr, code := n.Shoal("promote", "production", "--to", strings.TrimSpace(repo.git("ls-remote", "origin", "env/staging"))[:12])
		if code != 0 {
			return fmt.Errorf("promote to production: %s", stderr)
		}
		return nil
	})
	n.Eventually(soon, n.greetsIn("production", "two"))
	if s := n.shoal(0, "envs", "-e", "production"); !strings.Contains(s, "the same as staging but for") || strings.Contains(s, "that is not") {
		t.Errorf("sameness:\n%s", s)
	}

	repo.Write("apps/web/web.cue", stagedApp("three"))
	repo.Push("three")
	n.Eventually(soon, n.greetsIn("dev", "three"))
	n.shoal(0, "promote", "staging", "--wait")
	n.shoal(0, "promote", "production", "--wait")
	n.Eventually(soon, n.greetsIn("production", "three"))
	begun := time.Now()
	n.shoal(0, "rollback", "production", "--reason", "three is slow", "--pin", "1h", "--by", "rita")
	n.Eventually(soon, n.greetsIn("production", "two"))
	if took := time.Since(begun); took > 10*time.Second { // the goal is 1 s
		t.Errorf("rolled back after %s", took)
	} else {
		t.Logf("rolled back after %s", took.Round(time.Millisecond))
	}
	if said := n.shoal(1, "promote", "production"); !strings.Contains(said, "rita has pinned production: three is slow") {
		t.Errorf("promotion into a pinned environment: %s", said)
	}

	// A hotfix on top of what runs in production.
	repo.git("fetch", "-q", "origin")
	repo.git("checkout", "-q", "-B", "fix", "origin/env/production")
	repo.Write("apps/web/web.cue", stagedApp("fixed"))
	repo.git("commit", "-q", "-a", "-m", "fix it")
	repo.git("push", "-q", "origin", "HEAD:fix")
	if said := n.shoal(1, "hotfix", "production", "fix", "--reason", "down"); !strings.Contains(said, "expected health among the gates it waives") {
		t.Errorf("hotfix without a word: %s", said)
	}
	n.shoal(0, "hotfix", "production", "fix", "--reason", "down", "--waive", "health", "--by", "rita")
	n.Eventually(soon, n.greetsIn("production", "fixed"))
	n.shoal(0, "pin", "production", "--lift")
	repo.git("checkout", "-q", "main")
	repo.Write("apps/web/web.cue", stagedApp("four"))
	repo.Push("four")
	n.Eventually(soon, n.greetsIn("dev", "four"))
	n.shoal(0, "promote", "staging", "--wait")
	if said := n.shoal(1, "promote", "production"); !strings.Contains(said, "does not have the hotfix") {
		t.Errorf("a promotion that takes a hotfix back: %s", said)
	}

	// All of it is in Git.
	repo.git("fetch", "-q", "origin")
	audit, stderr, code := n.ShoalIn(repo.Dir, "", "audit", "origin/env/production")
	for _, want := range []string{"root lifted the pin", "rita made a hotfix that waived health: down", "rita rolled back to", "three is slow", "promoted staging"} {
		if code != 0 || !strings.Contains(audit, want) {
			t.Errorf("the audit says nothing of %q: %d\n%s%s", want, code, audit, stderr)
		}
	}
	t.Log("\n" + audit + n.shoal(0, "envs") + n.shoal(0, "envs", "-e", "production"))
}
