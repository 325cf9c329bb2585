//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// weekly is the pipeline of a team: what is merged runs in dev, what has soaked goes to staging, and to production with a signature.
const weekly = `package shoal

import "shoal.dev/schema"

schema.#Repository

environments: {
	dev: ref: "main"
	staging: {ref: "env/staging", after: ["dev"], gates: {soak: "2s", verify: ["smoke"]}}
	production: {
		ref: "env/production", after: ["staging"]
		gates: {
			soak: "2s"
			verify: ["smoke"]
			approvals: [{of: ["leads"]}]
			windows: [{from: "00:00", to: "24:00", zone: "Europe/Oslo"}]
		}
		hotfix: waive: ["soak", "health", "verify", "same"]
		same: {as: "staging", except: ["Service/web:spec.ports[*].nodePort"], block: true}
	}
}
previews: from: "preview/*"
`

// The week of a team on a ring of three: a change is looked at in its preview, merged, soaks, is promoted to staging and, signed for by somebody
// else, to production; a bad one is stopped; one that slips through is rolled back and stays so; a hotfix goes in and is merged back; and
// all of it is read from Git alone. Every step is asked of another machine.
func TestFeature_P7_StoryOfAWeek(t *testing.T) {
	r := newRing(t, 3).start()
	first := r.nodes[0]
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{
		"shoal.cue": weekly, "apps/web/web.cue": weekApp("monday"), "apps/smoke/smoke.cue": smoke(`"get", "http://web:8080/readyz"`),
		"keys/trust.yaml": "groups:\n  leads: {environments: [production]}\nprincipals:\n  ann@shop.example: {approve: [leads]}\n  bob: {approve: [leads]}\n  ring: {}\n",
	})
	p := &people{&forge{t: t, Repository: repo}, t.TempDir()}
	p.key("ann@shop.example")
	p.key("bob")
	p.signers("ann@shop.example", "bob")
	repo.git("config", "gpg.format", "ssh")
	var story strings.Builder
	turn := 0
	tell := func(want int, args ...string) string {
		t.Helper()
		n := r.nodes[turn%3]
		turn++
		said := n.shoal(want, args...)
		fmt.Fprintf(&story, "$ shoal %s\n%s\n", strings.Join(args, " "), said)
		return said
	}
	everywhere := func(environment, greeting string) {
		t.Helper()
		for _, n := range r.nodes {
			n.Eventually(60*time.Second, n.greetsIn(environment, greeting))
		}
	}
	repo.Push("the shop opens")
	everywhere("dev", "monday")

	// Tuesday: a change is looked at before it is merged.
	repo.git("checkout", "-q", "-b", "preview/checkout")
	repo.Write("apps/web/web.cue", weekApp("tuesday"))
	repo.git("commit", "-q", "-a", "-m", "a shorter checkout")
	repo.git("push", "-q", "origin", "HEAD:preview/checkout")
	first.Eventually(60*time.Second, func() error {
		if s := first.shoal(0, "previews"); !strings.Contains(s, "ready") {
			return fmt.Errorf("previews:\n%s", s)
		}
		return nil
	})
	tell(0, "previews")
	repo.git("checkout", "-q", "main")
	repo.git("merge", "-q", "--no-ff", "-m", "Merge the shorter checkout", "preview/checkout")
	repo.git("push", "-q", "origin", "main", ":preview/checkout")
	everywhere("dev", "tuesday")
	first.Eventually(60*time.Second, func() error {
		for _, pod := range first.Status().Pods {
			if strings.HasPrefix(pod.Environment, "br-") {
				return fmt.Errorf("pod %s of a preview that is gone", pod.Name)
			}
		}
		return nil
	})

	// Wednesday: to staging, and with a signature to production.
	tell(0, "promote", "staging", "--wait", "--by", "rita")
	everywhere("staging", "tuesday")
	tell(1, "promote", "production", "--by", "rita")
	repo.git("fetch", "-q", "origin")
	approve := func() {
		t.Helper()
		p.as("bob")
		if out, stderr, code := first.ShoalIn(repo.Dir, "", "approve", "production", "origin/env/staging", "--as", "bob"); code != 0 {
			t.Fatalf("approve: %d %s%s", code, out, stderr)
		}
		p.as("")
	}
	approve()
	tell(0, "promote", "production", "--wait", "--by", "rita")
	everywhere("production", "tuesday")

	// Thursday: a bad one is stopped by its gate; one that is only slow slips through, and is taken back.
	repo.Write("apps/smoke/smoke.cue", smoke(`"exit", "1"`))
	repo.Push("a bad idea")
	r.nodes[1].Eventually(60*time.Second, func() error {
		if s := r.nodes[1].shoal(1, "promote", "staging"); !strings.Contains(s, "verify:smoke in dev: the Job failed") {
			return fmt.Errorf("promote:\n%s", s)
		}
		return nil
	})
	tell(1, "promote", "staging", "--by", "rita")
	repo.Write("apps/smoke/smoke.cue", smoke(`"get", "http://web:8080/readyz"`))
	repo.Write("apps/web/web.cue", weekApp("slow"))
	repo.Push("a better idea")
	everywhere("dev", "slow")
	tell(0, "promote", "staging", "--wait", "--by", "rita")
	everywhere("staging", "slow")
	repo.git("fetch", "-q", "origin")
	approve()
	tell(0, "promote", "production", "--wait", "--by", "rita")
	everywhere("production", "slow")
	begun := time.Now()
	tell(0, "rollback", "production", "--reason", "the checkout is slow", "--pin", "2h", "--by", "rita")
	everywhere("production", "tuesday")
	t.Logf("rolled back on all machines after %s", time.Since(begun).Round(time.Millisecond))
	if said := tell(1, "promote", "production", "--by", "rita"); !strings.Contains(said, "rita has pinned production: the checkout is slow") {
		t.Errorf("a promotion over a pin: %s", said)
	}

	// Friday: a hotfix, a machine less, and the hotfix on its way back.
	repo.git("fetch", "-q", "origin")
	repo.git("checkout", "-q", "-B", "fix", "origin/env/production")
	repo.Write("apps/web/web.cue", weekApp("friday"))
	repo.git("commit", "-q", "-a", "-m", "take coupons")
	repo.git("push", "-q", "origin", "HEAD:fix")
	if said := tell(1, "hotfix", "production", "fix", "--reason", "coupons do not work", "--waive", "soak,verify,health,same", "--by", "rita"); !strings.Contains(said, "approvals") {
		t.Errorf("a hotfix that nobody signed for: %s", said)
	}
	p.as("bob")
	if out, stderr, code := first.ShoalIn(repo.Dir, "", "approve", "production", "fix", "--as", "bob"); code != 0 {
		t.Fatalf("approve the hotfix: %d %s%s", code, out, stderr)
	}
	p.as("")
	tell(0, "hotfix", "production", "fix", "--reason", "coupons do not work", "--waive", "soak,verify,health,same", "--by", "rita")
	everywhere("production", "friday")
	repo.git("checkout", "-q", "main")
	repo.git("merge", "-q", "-X", "theirs", "-m", "Merge the hotfix", "fix")
	repo.git("push", "-q", "origin", "main")
	everywhere("dev", "friday")
	tell(0, "promote", "staging", "--wait", "--by", "rita")
	everywhere("staging", "friday")
	tell(0, "pin", "production", "--lift", "--by", "rita")
	repo.git("fetch", "-q", "origin")
	approve()
	tell(0, "promote", "production", "--wait", "--by", "rita")
	everywhere("production", "friday")
	tell(0, "envs")
	tell(0, "envs", "-e", "production")

	repo.git("fetch", "-q", "origin")
	audit, stderr, code := first.ShoalIn(repo.Dir, "", "audit", "origin/env/production")
	for _, want := range []string{"rita promoted staging", "approvals: 1 of 1: bob", "rita made a hotfix that waived health, same, soak, verify: coupons do not work", "rita rolled back to", "the checkout is slow", "rita lifted the pin"} {
		if code != 0 || !strings.Contains(audit, want) {
			t.Errorf("the audit says nothing of %q: %d %s\n%s", want, code, stderr, audit)
		}
	}
	t.Logf("\n%s$ shoal audit origin/env/production\n%s", story.String(), audit)
}

// weekApp runs on a port of each environment, and on none in a preview.
func weekApp(greeting string) string {
	return strings.Replace(stagedApp(greeting), "nodePorts: http: _ports[_environment]", "if _ports[_environment] != _|_ {nodePorts: http: _ports[_environment]}", 1)
}
