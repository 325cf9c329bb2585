//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const twoEnvironments = `package shoal

import "shoal.dev/schema"

schema.#Repository

environments: {
	dev: ref: "main"
	prod: ref: "env/prod"
}
`

// Environments on branches of a forge: each follows its own, what two of them want is refused by name, and one that
// vanishes from shoal.cue goes on until a commit retires it.
func TestFeature_G6_EnvironmentsOfAForge(t *testing.T) {
	n := NewNode(t)
	forge := filepath.Join(t.TempDir(), "forge.git")
	n.must("git", "init", "-q", "--bare", "-b", "main", forge)
	n.Args = append(n.Args, "--repository", "file://"+forge, "--poll", "300ms")
	n.Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"shoal.cue": twoEnvironments, "apps/web/web.cue": webApp("probe:v1", "one")})
	repo.git("remote", "set-url", "origin", forge)
	says := func(want string) {
		t.Helper()
		n.Eventually(soon, func() error {
			if stdout, _, _ := n.Shoal("status"); !strings.Contains(stdout, want) {
				return fmt.Errorf("status does not say %q:\n%s", want, stdout)
			}
			return nil
		})
	}
	repo.Push("dev")
	n.Eventually(soon, func() error { return n.podsReady(1) })
	says("there is no such branch yet")

	repo.git("push", "-q", "origin", "HEAD:env/prod")
	says("apps/web/web.cue:7: Service prod/web in environment prod and Service dev/web in environment dev both have nodePort 30080")
	repo.git("checkout", "-q", "-b", "env/prod")
	repo.Write("apps/web/web.cue", strings.Replace(webApp("probe:v1", "prod"), "30080", "30081", 1))
	repo.git("commit", "-q", "-a", "-m", "another port")
	if stdout, stderr, code := n.ShoalIn(repo.Dir, "", "plan", "env/prod"); code != 0 || !strings.Contains(stdout, "+ create Deployment prod/web\n    ! 1 pod starts: it is new") {
		t.Errorf("plan of the branch, before it is pushed: %d\n%s%s", code, stdout, stderr)
	}
	repo.git("push", "-q", "origin", "HEAD:env/prod")
	n.Eventually(soon, func() error { return n.answers("http://127.0.0.1:30081/env", "GREETING=prod") })

	repo.git("checkout", "-q", "main")
	repo.Write("shoal.cue", shoalFile)
	repo.Push("prod is lost in a merge")
	says(`"Shoal-Retire: prod"`)
	if err := n.answers("http://127.0.0.1:30081/env", "GREETING=prod"); err != nil {
		t.Error(err)
	}
	repo.Push("it is meant\n\nShoal-Retire: prod")
	n.Eventually(soon, func() error { return n.podsReady(1) })
	if stdout, _, _ := n.Shoal("status"); strings.Contains(stdout, "prod") {
		t.Errorf("status after it was retired:\n%s", stdout)
	}
	if err := n.answers(page+"/env", "GREETING=one"); err != nil {
		t.Error(err)
	}
}
