//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// One commit, one container: a push is rendered, activated, started, ready and answers on its node port.
func TestPushRuns(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")})
	out := repo.Push("first")
	t.Logf("%s", out)
	n.Eventually(30*time.Second, func() error { return n.answers("http://127.0.0.1:30080/env", "GREETING=one") })
	repo.Write("apps/web/web.cue", webApp("probe:v1", "two"))
	t.Logf("%s", repo.Push("second"))
	n.Eventually(30*time.Second, func() error { return n.answers("http://127.0.0.1:30080/env", "GREETING=two") })
	stdout, stderr, code := n.Shoal("status")
	t.Logf("%d\n%s%s", code, stdout, stderr)
}

func (n *Node) answers(url, want string) error {
	got, err := n.Get(url)
	if err != nil {
		return err
	}
	if !strings.Contains(got, want) {
		return fmt.Errorf("%s answers %q, want %q", url, got, want)
	}
	return nil
}
