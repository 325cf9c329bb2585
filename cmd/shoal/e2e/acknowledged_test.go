//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a node has acknowledged outlives it: an image and a commit that were pushed to it run on the others, though it
// lost its power with the last word of its answer.
func TestFeature_R2_AcknowledgedOutlivesItsNode(t *testing.T) {
	r := newRing(t, 3).start()
	for i, n := range r.nodes[:rounds(1, 2)] {
		n.Image("probe:v1")
		repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", fmt.Sprintf("push%d", i))})
		if i > 0 {
			repo.git("fetch", "-q", "origin", "main")
			repo.git("reset", "-q", "FETCH_HEAD")
		}
		repo.git("add", "-A")
		repo.git("commit", "-q", "-m", "the last words")
		repo.git("push", "-q", "origin", "HEAD:main")
		head := repo.Head()
		n.powerOff()
		_, rest := r.around(n.name)
		for _, other := range rest {
			other.Eventually(30*time.Second, func() error {
				return other.answers("http://"+other.address+":30080/env", fmt.Sprintf("GREETING=push%d", i))
			})
			if s := other.Status(); s.Environments[0].Commit != head {
				t.Errorf("%s runs commit %s, not %s", other.name, s.Environments[0].Commit, head)
			}
		}
		n.powerOn()
		r.settled(1)
	}
}

// A forge that one node has fetched from and that is gone then: the commit reaches all nodes, all of them may restart, and
// nothing is taken away.
func TestFeature_G2_ForgeIsGone(t *testing.T) {
	forge := filepath.Join(t.TempDir(), "forge.git")
	r := newRing(t, 3, "--repository", "file://"+forge, "--poll", "300ms")
	first := r.nodes[0]
	first.must("git", "init", "-q", "--bare", "-b", "main", forge)
	r.start()
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{"apps/web/web.cue": replicated("one")})
	repo.git("remote", "set-url", "origin", forge)
	repo.Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	// Only one node can still read it: each machine has mounts of its own.
	for _, n := range r.nodes[1:] {
		n.must("mount", "-t", "tmpfs", "none", forge)
	}
	repo.Write("apps/web/web.cue", replicated("two"))
	repo.Push("second")
	for _, n := range r.nodes {
		n.Eventually(60*time.Second, func() error { return n.answers(page+"/env", "GREETING=two") })
	}
	first.must("mount", "-t", "tmpfs", "none", forge)
	first.Eventually(60*time.Second, func() error {
		if got := r.pods(); len(got) != 3 {
			return fmt.Errorf("%d pods: %v", len(got), got)
		}
		return ready(first.Status(), 3)
	})
	before := strings.Join(r.pods(), "\n")
	for _, n := range r.nodes {
		n.Stop()
		n.Start()
		first.Eventually(60*time.Second, func() error { return r.whole(3) })
	}
	time.Sleep(2 * time.Second) // several polls
	if after := strings.Join(r.pods(), "\n"); after != before {
		t.Errorf("pods before the restarts:\n%s\nafter:\n%s", before, after)
	}
	for _, n := range r.nodes {
		if err := n.answers(page+"/env", "GREETING=two"); err != nil {
			t.Error(err)
		}
	}
	if out, _, _ := first.Shoal("status"); !strings.Contains(out, "forge.git") {
		t.Errorf("status does not name the forge:\n%s", out)
	}
}

// pods says where each pod is and which pod it is.
func (r *ring) pods() []string { return strings.Split(places(r.nodes[0]), "\n") }
