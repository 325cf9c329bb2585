//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// Of a ring that follows a forge two machines of three are lost for good: the third goes on alone, the repository is its ring's
// still, and what is pushed there runs. Nobody claims anything anew, for the ring is the one that it was.
func TestFeature_R3_GoOnAloneWithAForge(t *testing.T) {
	r, f := onForge(t)
	first, rest := r.nodes[0], r.nodes[1:]
	ring := first.Status().Ring
	claims := f.git("ls-remote", "origin", "refs/shoal/ring")
	if f.claim() != ring {
		t.Fatalf("the forge names ring %q, not %s", f.claim(), ring)
	}
	r.off(rest...)
	f.greet("two") // while nobody can decide
	first.Kill()
	out, errs, code := first.Shoal("recover", "--data-dir", first.Data, "--alone")
	if code != 0 {
		t.Fatalf("recover: exit %d\n%s%s", code, out, errs)
	}
	first.Start()
	first.greets("two")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	f.greet("three")
	first.greets("three")
	first.says("is claimed for this ring, "+ring[:8], "ring", "status")
	if now := f.git("ls-remote", "origin", "refs/shoal/ring"); now != claims || first.Status().Ring != ring {
		t.Errorf("the claim is %s, was %s", now, claims)
	}
}
