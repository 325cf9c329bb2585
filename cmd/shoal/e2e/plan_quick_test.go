//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// quickPlan is within what people wait for without a thought.
const quickPlan = time.Second

// A plan of a change of one line in a repository with 20 apps answers in well under a second: only the app that differs
// is rendered, and only what the node lacks is sent.
func TestFeature_G3_PlanOfTwentyApps(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(nil)
	app := func(i int, greeting string) {
		name := fmt.Sprintf("app%02d", i)
		repo.Write("apps/"+name+"/"+name+".cue", fmt.Sprintf("package %s\n\nimport \"shoal.dev/schema\"\n\nschema.#Package\n\napp: %[1]s: {\n\timage: \"shoal.local/probe:v1\"\n\targs: [\"serve\"]\n\tports: http: 8080\n\tenv: GREETING: %q\n}\n", name, greeting))
	}
	for i := range 20 {
		app(i, "hello")
	}
	repo.Push("twenty")
	n.Eventually(2*soon, func() error { return n.podsReady(20) })
	repo.git("checkout", "-q", "-b", "branch")
	took := map[string]times{}
	for i := range rounds(10, 50) {
		app(i%20, fmt.Sprintf("hello %d", i))
		repo.git("commit", "-q", "-a", "-m", "another greeting")
		for _, args := range []string{"main..branch", "branch", "main.."} {
			begun := time.Now()
			stdout, stderr, code := n.ShoalIn(repo.Dir, "", "plan", args)
			took[args] = append(took[args], time.Since(begun))
			if code != 0 || !strings.Contains(stdout, fmt.Sprintf(`"hello" -> "hello %d"`, i)) || strings.Count(stdout, "1 pod is replaced") != i%20+1 && i < 20 {
				t.Fatalf("plan %s: %d\n%s%s", args, code, stdout, stderr)
			}
		}
	}
	for args, all := range took {
		t.Logf("shoal plan %s: %s", args, all)
		if all.middle() > quickPlan {
			t.Errorf("shoal plan %s takes %s", args, all.middle())
		}
	}
}
