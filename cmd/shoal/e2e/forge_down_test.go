//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestFeature_G14_ForgeDown: on a ring of three the forge goes away with a commit that one machine alone has heard of. It is deployed on all;
// production is rolled back and pinned; every machine is restarted, one of them loses its power, and nothing is deleted. When the forge is back, what
// the ring has made is on it. The second time somebody has moved the branch there meanwhile: the ring keeps to what it has, says what
// stands against what and what to do, puts its commit onto the forge beside the branch, and goes on once somebody has decided.
func TestFeature_G14_ForgeDown(t *testing.T) {
	r := newRing(t, 3, "--repository", forgeURL, "--poll", "500ms")
	forge, doors := r.doors()
	r.nodes[0].must("git", "--git-dir", forge, "config", "http.receivepack", "true")
	r.start()
	first := r.nodes[0]
	first.Image("probe:v1")
	app := func(greeting string) string {
		return strings.Replace(stagedApp(greeting), "image:", "replicas: 3\n\timage:", 1)
	}
	repo := first.Repository(map[string]string{"shoal.cue": strings.Replace(pipeline, `gates: soak: "2s"`, `gates: health: false`, 1), "apps/web/web.cue": app("one")})
	repo.git("remote", "set-url", "origin", forge)
	everywhere := func(environment, greeting string) {
		t.Helper()
		for _, n := range r.nodes {
			n.Eventually(90*time.Second, n.greetsIn(environment, greeting))
		}
	}
	all := func(gone bool) {
		for _, d := range doors {
			d.gone.Store(gone)
		}
	}
	promote := func(n *Node, into string) {
		t.Helper()
		n.Eventually(60*time.Second, func() error {
			if out, errs, code := n.Shoal("promote", into, "--by", "rita"); code != 0 {
				return fmt.Errorf("promote: %s%s", out, errs)
			}
			return nil
		})
	}
	for _, greeting := range []string{"one", "two"} {
		repo.Write("apps/web/web.cue", app(greeting))
		repo.Push(greeting)
		everywhere("dev", greeting)
		promote(r.nodes[1], "staging")
		everywhere("staging", greeting)
		promote(r.nodes[2], "production")
		everywhere("production", greeting)
	}

	// One machine hears of a commit, and then the forge is gone for all.
	doors[1].gone.Store(true)
	doors[2].gone.Store(true)
	repo.Write("apps/web/web.cue", app("known"))
	repo.Push("known")
	everywhere("dev", "known")
	all(true)
	begun := time.Now()
	r.nodes[2].shoal(0, "rollback", "production", "--reason", "two is slow", "--by", "rita")
	everywhere("production", "one")
	t.Logf("rolled back on all machines after %s, without the forge", time.Since(begun).Round(time.Millisecond))
	r.nodes[1].shoal(0, "pin", "production", "--for", "1h", "--reason", "until it is found out", "--by", "rita")
	promote(r.nodes[0], "staging") // of what is known
	everywhere("staging", "known")

	pods := func() string { return strings.Join(r.pods(), "\n") }
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 9) })
	before := pods()
	for _, n := range r.nodes {
		n.Kill()
		n.Start()
		first.Eventually(60*time.Second, func() error { return r.whole(3) })
	}
	time.Sleep(2 * time.Second) // several polls
	if after := pods(); after != before {
		t.Errorf("pods before the restarts:\n%s\nafter:\n%s", before, after)
	}
	stands := func(when string) {
		t.Helper()
		for environment, greeting := range map[string]string{"dev": "known", "staging": "known", "production": "one"} {
			for _, n := range r.nodes {
				n.Eventually(soon, n.greetsIn(environment, greeting))
			}
		}
		if s := first.Status(); len(s.Environments) != 3 || len(s.Pods) < 9 {
			t.Errorf("%s: %+v", when, s)
		}
	}
	stands("after restarts")
	r.nodes[2].powerOff()
	r.nodes[2].powerOn()
	r.settled(9)
	stands("after a power cut")
	first.says("cannot be read", "status")
	first.says("which the ring has made: it counts, and is pushed when the forge is back", "status")

	all(false)
	first.Eventually(60*time.Second, func() error {
		repo.git("fetch", "-q", "origin")
		audit, _, _ := first.ShoalIn(repo.Dir, "", "audit", "origin/env/production")
		if !strings.Contains(audit, "rita pinned it") || !strings.Contains(audit, "rita rolled back to") {
			return fmt.Errorf("the forge has:\n%s", audit)
		}
		return nil
	})
	stands("with the forge back")

	// The forge goes away again, and this time somebody moves the branch there.
	first.shoal(0, "pin", "production", "--lift", "--by", "rita") // it may not have heard of what was pushed yet
	promote(r.nodes[1], "production")
	everywhere("production", "known")
	all(true)
	r.nodes[1].shoal(0, "rollback", "production", "--reason", "known is slow", "--by", "rita")
	everywhere("production", "one")
	repo.git("fetch", "-q", "origin")
	repo.git("checkout", "-q", "-B", "production", "origin/env/production")
	repo.Write("apps/web/web.cue", app("by hand"))
	repo.git("commit", "-q", "-a", "-m", "quick, by hand")
	repo.git("push", "-q", "origin", "HEAD:env/production")
	theirs := repo.Head()
	all(false)
	said := first.says("the forge's branch was moved to "+theirs[:12]+" meanwhile", "status")
	t.Logf("status:\n%s", said)
	beside := regexp.MustCompile(`shoal/unpushed/env/production-[0-9a-f]{12}`).FindString(said)
	first.Eventually(soon, func() error {
		if out := repo.git("ls-remote", "origin", beside); beside == "" || out == "" {
			return fmt.Errorf("what the ring has made is not on the forge as %q", beside)
		}
		return nil
	})
	for _, n := range r.nodes {
		if err := n.greetsIn("production", "one")(); err != nil {
			t.Errorf("with a branch that was moved: %v", err)
		}
		if out, errs, code := n.Shoal("promote", "production"); code == 0 || !strings.Contains(out+errs, theirs[:12]) {
			t.Errorf("promotion meanwhile: %d\n%s%s", code, out, errs)
		}
	}
	for _, n := range r.nodes {
		n.Kill()
		n.Start()
	}
	first.Eventually(60*time.Second, func() error { return r.whole(3) })
	// Dev goes on all the while.
	repo.git("checkout", "-q", "main")
	repo.Write("apps/web/web.cue", app("three"))
	repo.Push("three")
	everywhere("dev", "three")
	everywhere("production", "one")

	// Somebody decides for what the ring has, as status says.
	command := regexp.MustCompile("`(git fetch && .*?)`").FindStringSubmatch(said)
	if command == nil {
		t.Fatalf("status does not say what to do:\n%s", said)
	}
	if out, err := exec.Command("sh", "-c", "cd "+repo.Dir+" && "+command[1]).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command[1], err, out)
	}
	first.Eventually(60*time.Second, func() error {
		if out := first.shoal(0, "status"); strings.Contains(out, "meanwhile") {
			return fmt.Errorf("status:\n%s", out)
		}
		return nil
	})
	everywhere("production", "one")
	promote(first, "staging")
	everywhere("staging", "three")
	promote(first, "production")
	everywhere("production", "three")
}
