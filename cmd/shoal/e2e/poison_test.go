//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// An entry on which a rule of ours panics is refused on all machines alike, the one who pushed it is told, and the ring goes
// on; it is the same when they read it again from their disks.
func TestFeature_R3_PoisonedInput(t *testing.T) {
	r := newRing(t, 3)
	binary := tagged(t, "shoal_poison")
	for _, n := range r.nodes {
		n.binary = binary
	}
	r.start()
	first := r.nodes[0]
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{
		"shoal.cue":        strings.ReplaceAll(strings.ReplaceAll(twoEnvironments, "prod: ref", "poison: ref"), "env/prod", "env/poison"),
		"apps/web/web.cue": replicated("one"),
	})
	repo.Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	before := r.processes("serve")
	repo.Write("apps/web/web.cue", strings.Replace(replicated("one"), "30080", "30081", 1))
	repo.git("commit", "-q", "-a", "-m", "it is poison")
	if said := repo.git("push", "origin", "HEAD:env/poison"); !strings.Contains(said, "panic: a planted bug") {
		t.Errorf("the push says:\n%s", said)
	}
	refused := func() {
		t.Helper()
		for _, n := range r.nodes {
			n.Eventually(30*time.Second, func() error {
				if out, _, _ := n.Shoal("status"); !strings.Contains(out, "panic: a planted bug") {
					return fmt.Errorf("%s does not say why it is held:\n%s", n.name, out)
				}
				return nil
			})
		}
		r.settled(3)
	}
	refused()
	index := first.Status().Index
	time.Sleep(5 * time.Second)
	if now := first.Status().Index; now > index+20 {
		t.Errorf("%d entries in 5 s: it is tried again and again", now-index)
	}
	for _, n := range r.nodes { // each steps the entry again
		n.Kill()
		n.Start()
		n.Eventually(30*time.Second, func() error { return r.whole(3) })
	}
	refused()
	if after := r.processes("serve"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("processes before: %v, after: %v", before, after)
	}
	repo.git("checkout", "-q", "main", "--", ".")
	repo.git("checkout", "-q", "main")
	repo.Write("apps/web/web.cue", replicated("two"))
	repo.Push("the ring goes on")
	for _, n := range r.nodes {
		n.Eventually(30*time.Second, func() error { return n.answers("http://"+n.address+":30080/env", "GREETING=two") })
	}
}
