//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A repository that is behind the ledger, as after a crash between the two or with an old copy put back: what was
// acknowledged counts, on a ring of one too.
func TestFault_L14_RepositoryBehindTheLedger(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")})
	repo.Push("one")
	old := repo.Head()
	repo.Write("apps/web/web.cue", webApp("probe:v1", "two"))
	repo.Push("two")
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=two") })
	n.Stop()
	n.must("sed", "-i", "s/^[0-9a-f]* refs.heads.main$/"+old+" refs\\/heads\\/main/", filepath.Join(n.Data, "git", "packed-refs"))
	n.Start()
	n.Eventually(20*time.Second, func() error {
		if got := strings.Fields(repo.git("ls-remote", "origin", "refs/heads/main")); len(got) == 0 || got[0] != repo.Head() {
			return fmt.Errorf("main is at %v, not at %s", got, repo.Head())
		}
		return n.answers(page+"/env", "GREETING=two")
	})
}
