//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// With the forge away an environment is rolled back at once, and keeps to it over a restart; the forge gets the commit when it is back.
func TestFeature_G9_RollbackWithoutTheForge(t *testing.T) {
	n := NewNode(t)
	forge := filepath.Join(t.TempDir(), "forge.git")
	n.must("git", "init", "-q", "--bare", "-b", "main", forge)
	n.Args = append(n.Args, "--repository", "file://"+forge, "--poll", "300ms")
	n.Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"shoal.cue": strings.Replace(pipeline, `gates: soak: "2s"`, `gates: health: false`, 1), "apps/web/web.cue": stagedApp("one")})
	repo.git("remote", "set-url", "origin", forge)
	for _, greeting := range []string{"one", "two"} {
		repo.Write("apps/web/web.cue", stagedApp(greeting))
		repo.Push(greeting)
		n.Eventually(soon, n.greetsIn("dev", greeting))
		n.shoal(0, "promote", "staging", "--by", "rita")
		n.Eventually(soon, n.greetsIn("staging", greeting))
	}
	if err := os.Rename(forge, forge+".away"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	n.shoal(0, "rollback", "staging", "--reason", "two is slow", "--by", "rita")
	n.Eventually(soon, n.greetsIn("staging", "one"))
	t.Logf("rolled back after %s", time.Since(begun).Round(time.Millisecond))
	n.Kill()
	n.Start()
	time.Sleep(2 * time.Second)
	if err := n.greetsIn("staging", "one")(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	n.shoal(0, "pin", "staging", "--for", "1h", "--reason", "until it is found out", "--by", "rita")
	if err := os.Rename(forge+".away", forge); err != nil {
		t.Fatal(err)
	}
	n.Eventually(soon, func() error {
		repo.git("fetch", "-q", "origin")
		audit, _, _ := n.ShoalIn(repo.Dir, "", "audit", "origin/env/staging")
		if !strings.Contains(audit, "rita pinned it") || !strings.Contains(audit, "rita rolled back to") {
			return fmt.Errorf("the forge has:\n%s", audit)
		}
		return nil
	})
	if err := n.greetsIn("staging", "one")(); err != nil {
		t.Errorf("with the forge back: %v", err)
	}
	repo.Write("apps/web/web.cue", stagedApp("three"))
	repo.Push("three")
	n.Eventually(soon, n.greetsIn("dev", "three"))
	n.shoal(0, "pin", "staging", "--lift")
	n.shoal(0, "promote", "staging", "--wait")
	n.Eventually(soon, n.greetsIn("staging", "three"))
}
