package nodeagent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// TestFault_P3_WhatComesBack: what was promoted and taken back comes in again with the next promotion, though the branch has it behind its tip. It is
// listed, how far the environment is behind counts it, and who wrote it cannot approve it.
func TestFault_P3_WhatComesBack(t *testing.T) {
	t.Setenv("GIT_COMMITTER_DATE", "2025-12-31T12:00:00Z") // before the test's clock begins
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, intoProd)
		p.expect("one", p.ask(api.PromoteRequest{}), "made")
		p.look()
		p.web("v2")
		p.git("add", "-A")
		p.git("-c", "user.name=Eve", "-c", "user.email=eve@example.org", "commit", "-q", "--author", "Eve <eve@example.org>", "-m", "two")
		p.sees()
		p.expect("two", p.ask(api.PromoteRequest{}), "made")
		p.look()
		p.expect("two is taken back", p.ask(api.PromoteRequest{Act: promote.Rollback}), "made")
		p.look()
		p.expect("and it stays so", p.ask(api.PromoteRequest{Act: promote.Pin, PinFor: 1000, Reason: "a second"}), "made")
		p.look()
		time.Sleep(time.Minute)
		p.web("v3")
		three := p.commit("", "three")
		p.sees()

		m, err := p.d.motion(t.Context(), api.PromoteRequest{Act: promote.Promotion, Environment: "prod"})
		if err != nil {
			t.Fatal(err)
		}
		comesIn := func() string {
			var coming []string
			for _, c := range m.answer.Coming {
				coming = append(coming, c.Subject+" by "+c.Author)
			}
			slices.Sort(coming)
			return strings.Join(coming, ", ")
		}
		p.expect("comes in", comesIn(), "three by Ada, two by Eve")
		a := m.asked
		a.rules.Gates.Approvals = []promote.Approvers{{Count: 1}}
		facts, err := p.d.factsOf(t.Context(), a)
		if err != nil || !slices.Contains(facts.Authors, "eve@example.org") {
			t.Errorf("authors %q, %v", facts.Authors, err)
		}
		envs, err := p.n.Envs(t.Context(), "prod")
		if err != nil {
			t.Fatal(err)
		}
		if e := envs.Environments[0]; e.Behind[0].Commits != 2 || e.Next != string(three) {
			t.Errorf("%+v", e)
		}

		p.git("checkout", "-q", "-b", "fix", "env/prod")
		p.web("v1, in haste")
		haste := p.commit("", "haste")
		p.git("checkout", "-q", "main")
		p.git("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "merge", "-q", "-s", "ours", "-m", "merge", "fix") // the mirror has what main has
		p.sees()
		m, err = p.d.motion(t.Context(), api.PromoteRequest{Act: promote.Hotfix, Environment: "prod", Source: string(haste), Reason: "it burns"})
		if err != nil {
			t.Fatal(err)
		}
		p.expect("with a hotfix", comesIn(), "haste by Ada")
		a = m.asked
		a.rules.Gates.Approvals = []promote.Approvers{{Count: 1}}
		if facts, err = p.d.factsOf(t.Context(), a); err != nil || slices.Contains(facts.Authors, "eve@example.org") {
			t.Errorf("authors of a hotfix %q, %v", facts.Authors, err)
		}
		p.expect("in haste", p.ask(api.PromoteRequest{Act: promote.Hotfix, Source: string(haste), Reason: "it burns"}), "made")
		p.look()
		if m, err = p.d.motion(t.Context(), api.PromoteRequest{Act: promote.Promotion, Environment: "prod"}); err != nil {
			t.Fatal(err)
		}
		coming := comesIn()
		if !strings.Contains(coming, "two by Eve") || !strings.Contains(coming, "three by Ada") || strings.Contains(coming, "haste") {
			t.Errorf("after the hotfix comes in %s", coming)
		}
		a = m.asked
		a.rules.Gates.Approvals = []promote.Approvers{{Count: 1}}
		if facts, err = p.d.factsOf(t.Context(), a); err != nil || !slices.Contains(facts.Authors, "eve@example.org") {
			t.Errorf("authors after the hotfix %q, %v", facts.Authors, err)
		}

		p.web("v1, in haste")
		p.commit("", "as it runs")
		p.sees()
		if envs, err = p.n.Envs(t.Context(), "prod"); err != nil {
			t.Fatal(err)
		}
		if e := envs.Environments[0]; e.Behind[0].Commits != 0 || e.Behind[0].Since != 0 || e.Next != "" {
			t.Errorf("what runs the same by another way: %+v", e)
		}
	})
}

// report has all pods of prod be ready, or not.
func (p *promotes) report(ready bool) {
	p.t.Helper()
	p.m.ring.Now = time.Now().UnixMilli()
	for _, pod := range p.m.ring.Pods() {
		if pod.Environment == "prod" && pod.Deleting == 0 {
			p.m.ring.Must(enginetest.Report(pod, corev1.PodRunning, ready))
		}
	}
}

// settings is a commit that is healthy as soon as it is there; a Deployment never is where no node runs its pods.
func settings(text string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {text: %q}\n", text)
}

// TestFault_P8_TakenBack: what the ring has promoted and is not healthy in time is taken back to what was, by a commit that says why. It is not
// promoted again, nor what was passed over before it; the next good one is. What was healthy once is left to people.
func TestFault_P8_TakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, `prod env/prod dev ,"promote":"auto","rollbackAfter":"5m","gates":{"health":false}`+"\n")
		push := func(text string) {
			t.Helper()
			p.write("web.yaml", text)
			p.commit("", "next\n\nShoal-Allow-Delete: all")
			p.sees()
		}
		work := func(d time.Duration) {
			t.Helper()
			time.Sleep(d)
			for range 3 {
				p.ring.takeBack(t.Context())
				p.sees()
				p.ring.promote(t.Context())
				p.sees()
			}
		}
		runs := func(what, rev string) {
			t.Helper()
			active := p.d.active("prod")
			if active == nil {
				t.Fatalf("%s: nothing runs", what)
			}
			if tree := p.git("rev-parse", string(active.Commit)+"^{tree}"); tree != p.git("rev-parse", rev+"^{tree}") {
				t.Errorf("%s: %s does not run, but %s", what, rev, p.git("log", "-1", "--format=%B", string(active.Commit)))
			}
		}
		work(time.Second)
		runs("there is nothing to go back to", "main")
		work(time.Hour)
		runs("there is nothing to go back to", "main")

		push(settings("one"))
		work(time.Second)
		push(settings("one") + "---\n" + deployment("web"))
		work(time.Second)
		runs("a bad one", "main")
		work(4 * time.Minute)
		runs("a bad one has its time", "main")
		work(2 * time.Minute)
		runs("a bad one after its time", "main~1")
		if said := p.git("log", "-1", "--format=%B", "env/prod"); !strings.Contains(said, "Shoal-By: shoal\nShoal-Reason: not healthy 5m after it came in: Deployment web: ") {
			t.Errorf("the commit says\n%s", said)
		}
		before := p.count("env/prod")
		work(time.Hour)
		if after := p.count("env/prod"); after != before {
			t.Errorf("%s commits, there were %s", after, before)
		}

		push(settings("two"))
		work(time.Second)
		runs("the next good one", "main")
		p.expect("pinned", p.ask(api.PromoteRequest{Act: promote.Pin, PinFor: 3_600_000, Reason: "audit"}), "made")
		p.sees()
		push(settings("passed over"))
		push(settings("two") + "---\n" + deployment("web"))
		p.expect("pin lifted", p.ask(api.PromoteRequest{Act: promote.Unpin}), "made")
		p.sees()
		work(time.Second)
		runs("the newest", "main")
		work(6 * time.Minute)
		runs("that was taken back", "main~2")

		// What was healthy falls ill an hour later.
		push(settings("two") + "---\n" + deployment("web"))
		work(time.Second)
		p.report(true)
		p.report(false)
		work(time.Hour)
		runs("one that was healthy", "main")
	})
}
