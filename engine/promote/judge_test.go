package promote

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// judged is what Judge is asked in a test: a promotion that all gates let pass, until a case changes it.
type judged struct {
	policy Environment
	ask    Ask
	facts  Facts
	now    int64
}

const (
	renderText = "render of staging"
	hourMillis = int64(time.Hour / time.Millisecond)
)

// pass is on Monday, 2026-11-23 at noon in Oslo.
func pass() judged {
	const now = 1_795_431_600_000
	render := desired.DigestOf([]byte(renderText))
	tree := id("tree of the release")
	return judged{
		now: now,
		policy: Environment{
			Name: "production", Ref: "env/production", After: []string{"staging"}, Promote: Manual,
			Gates: Gates{
				Soak: Duration(24 * time.Hour), Health: true, Verify: []string{"smoke"},
				Checks:    map[string]Check{"latency": {PromQL: "p90 < 0.3", At: "http://prometheus:9090"}},
				Approvals: []Approvers{{Count: 2, Of: []string{"leads", "sre"}}},
				Windows:   []Span{{Days: []string{"Mon", "Tue", "Wed", "Thu"}, From: "09:00", To: "16:00", Zone: "Europe/Oslo"}},
				Freezes:   []Span{{Since: "2026-12-20", Until: "2027-01-02", Zone: "Europe/Oslo", Why: "holidays"}},
			},
			Hotfix: HotfixRule{Waive: []string{GateSoak, GateHealth, GateVerify, GateChecks, GateWindow, GateSame}, By: []string{"oncall"}},
			Same:   &Sameness{As: "staging", Except: []string{"Deployment/*:spec.replicas"}, Block: true},
		},
		ask: Ask{Act: Promotion, From: "staging", Source: id("release"), Render: render, By: "ada", Reason: "release 12"},
		facts: Facts{
			Candidate: Commit{ID: id("promotion"), Tree: tree, Parents: []source.ID{id("active"), id("release")}, Signer: "ada"},
			Active:    Commit{ID: id("active"), Tree: id("tree of old")},
			Of:        Commit{ID: id("release"), Tree: tree},
			Runs: []Run{
				{Environment: "staging", Commit: id("release"), Tree: tree, Render: render, Since: now - 27*hourMillis, Healthy: now - 26*hourMillis},
				{Environment: "staging", Commit: id("older"), Tree: id("older tree"), Render: desired.DigestOf([]byte("older")), Since: now - 100*hourMillis, Healthy: now - 99*hourMillis, Until: now - 27*hourMillis},
			},
			Past:    []source.ID{id("active"), id("first")},
			Authors: []string{"dora", "eve"},
			Approvals: []Approval{
				{User: "bob", Groups: []string{"leads"}, Environment: "production", Commit: id("release")},
				{User: "cid", Groups: []string{"sre"}, Environment: "production", Commit: id("release")},
			},
			Evidence: []Evidence{
				{Gate: "verify:smoke", Environment: "staging", Render: render, Since: now - 26*hourMillis, OK: true, Signer: "n1", Text: "Job smoke completed in 12s"},
				{Gate: "checks:latency", Environment: "staging", Render: render, Since: now - 30_000, OK: true, Signer: "n2", Text: "p90 is 0.21 s"},
				{Gate: "checks:latency", Environment: "staging", Render: render, Since: now - 90_000, OK: false, Signer: "n2", Text: "p90 is 0.4 s"},
			},
			Compared:    true,
			Differences: []Difference{{Object: "Deployment web", Path: "spec.replicas", A: "1", B: "3", Allowed: "Deployment/*:spec.replicas"}},
		},
	}
}

// hotfix is one that passes.
func hotfix(j *judged) {
	j.ask = Ask{Act: Hotfix, Waived: []string{"checks:latency", "health", "soak", "verify:smoke", "window"}, Reason: "payments are down", By: "ada"}
	j.facts.Candidate = Commit{ID: id("hotfix"), Tree: id("hot tree"), Parents: []source.ID{id("active")}, Signer: "ada"}
	j.facts.Of, j.facts.ByGroups = Commit{}, []string{"oncall"}
	j.facts.Authors = []string{"ada"}
	for i := range j.facts.Approvals {
		j.facts.Approvals[i].Commit = id("hotfix")
	}
}

// rollback is one that passes.
func rollback(j *judged) {
	j.ask = Ask{Act: Rollback, Source: id("first"), Reason: "payments are down", By: "ada"}
	j.facts.Of = Commit{ID: id("first"), Tree: id("first tree")}
	j.facts.Candidate = Commit{ID: id("rollback"), Tree: id("first tree"), Parents: []source.ID{id("active")}}
}

// cases are what Judge is asked, by group.
var cases = []struct {
	name   string
	change func(j *judged)
}{
	{"P3 all gates are open", func(*judged) {}},
	{"P3 only thought of", func(j *judged) { j.facts.Candidate = Commit{} }},
	{"P3 soak: not long enough", func(j *judged) { j.facts.Runs[0].Healthy = j.now - 23*hourMillis }},
	{"P3 soak: not healthy", func(j *judged) { j.facts.Runs[0].Healthy, j.facts.Runs[0].Ill = 0, "Deployment web: 1 of 2 pods ready" }},
	{"P3 soak: staging went on too soon", func(j *judged) {
		j.facts.Runs[0].Healthy, j.facts.Runs[0].Until = j.now-26*hourMillis, j.now-20*hourMillis
	}},
	{"P3 soak: staging went on after it", func(j *judged) { j.facts.Runs[0].Until = j.now - hourMillis }},
	{"P3 soak: staging was ill when it went on", func(j *judged) { j.facts.Runs[0].Healthy, j.facts.Runs[0].Until = 0, j.now-hourMillis }},
	{"P3 verify: no answer", func(j *judged) { j.facts.Evidence = j.facts.Evidence[1:] }},
	{"P3 verify: on another render", func(j *judged) { j.facts.Evidence[0].Render = desired.DigestOf([]byte("x")) }},
	{"P3 verify: failed", func(j *judged) {
		j.facts.Evidence[0].OK, j.facts.Evidence[0].Text = false, "Job smoke\nfailed: \x1b[31mexit 1"
	}},
	{"P3 check: failed", func(j *judged) { j.facts.Evidence[1].OK, j.facts.Evidence[1].Text = false, "" }},
	{"P3 check: too old", func(j *judged) { j.facts.Evidence[1].Since = j.now - 4*60_000; j.facts.Evidence = j.facts.Evidence[:2] }},
	{"P3 approvals: one short", func(j *judged) { j.facts.Approvals = j.facts.Approvals[:1] }},
	{"P3 approvals: for another commit", func(j *judged) { j.facts.Approvals[0].Commit = id("newer") }},
	{"P3 approvals: for another environment", func(j *judged) { j.facts.Approvals[0].Environment = "staging" }},
	{"P3 approvals: an author's and the promoter's own", func(j *judged) { j.facts.Approvals[0].User, j.facts.Approvals[1].User = "eve", "ada" }},
	{"P3 approvals: the same person twice", func(j *judged) { j.facts.Approvals[1].User = "bob" }},
	{"P3 approvals: two rules, and one who could fill both", func(j *judged) {
		j.policy.Gates.Approvals = []Approvers{{1, []string{"leads"}}, {1, []string{"security"}}}
		j.facts.Approvals[0].Groups, j.facts.Approvals[1].Groups = []string{"leads", "security"}, []string{"leads"}
	}},
	{"P3 approvals: two rules, one person", func(j *judged) {
		j.policy.Gates.Approvals = []Approvers{{1, []string{"leads"}}, {1, nil}}
		j.facts.Approvals = j.facts.Approvals[:1]
	}},
	{"P3 outside of the windows", func(j *judged) { j.now += 5 * hourMillis }},
	{"P3 frozen", func(j *judged) { j.now += 35 * 24 * hourMillis }},
	{"P6 same: a new difference", func(j *judged) {
		for i := range 7 {
			j.facts.Differences = append(j.facts.Differences, Difference{Object: "Deployment web", Path: fmt.Sprintf("spec.template.spec.containers[web].env[V%d].value", i), A: "1", B: "2"})
		}
	}},
	{"P6 same: a new difference that is only told", func(j *judged) {
		j.policy.Same.Block = false
		j.facts.Differences = append(j.facts.Differences, Difference{Object: "Service web", Path: "spec.type"})
	}},
	{"P6 same: not compared", func(j *judged) { j.facts.Compared = false }},
	{"P5 pinned", func(j *judged) {
		j.facts.Pin = &Pinned{Until: j.now + 48*hourMillis, By: "eve", Reason: "payments are down", Commit: id("rollback")}
	}},
	{"P5 a pin whose time is over", func(j *judged) { j.facts.Pin = &Pinned{Until: j.now, By: "eve", Reason: "x"} }},
	{"P5 the ring does not repeat what was rolled back", func(j *judged) {
		j.ask.By, j.policy.Promote = Automatic, Auto
		j.facts.Undone = []Undone{{Source: id("release"), By: "eve", Reason: "payments are down"}}
	}},
	{"P5 a person may", func(j *judged) {
		j.facts.Undone = []Undone{{Source: id("release"), By: "eve", Reason: "payments are down"}}
	}},
	{"P5 debt", func(j *judged) {
		j.facts.Owed = []Debt{{Commit: id("hotfix"), By: "ada", Reason: "payments are down", Waived: []string{"soak"}}}
	}},
	{"P5 hotfix", hotfix},
	{"P5 hotfix by `shoal hotfix`, approved before it was made", func(j *judged) {
		hotfix(j)
		j.facts.Of = Commit{ID: id("change"), Tree: id("hot tree")}
		j.facts.Candidate.Parents = []source.ID{id("active"), id("change")}
		for i := range j.facts.Approvals {
			j.facts.Approvals[i].Commit = id("change")
		}
	}},
	{"P5 hotfix with other contents than its change", func(j *judged) {
		hotfix(j)
		j.facts.Of = Commit{ID: id("change"), Tree: id("other tree")}
		j.facts.Candidate.Parents = []source.ID{id("active"), id("change")}
	}},
	{"P5 hotfix that waives too little", func(j *judged) { hotfix(j); j.ask.Waived = []string{"soak", "window"} }},
	{"P5 hotfix that waives too much", func(j *judged) { hotfix(j); j.ask.Waived = []string{"approvals", "soak"} }},
	{"P5 hotfix by who may not", func(j *judged) { hotfix(j); j.facts.ByGroups = []string{"leads"} }},
	{"P5 hotfix on what has not come in", func(j *judged) { hotfix(j); j.facts.Between = []Ask{{Act: Plain}} }},
	{"P5 hotfix on a rollback", func(j *judged) { hotfix(j); j.facts.Between = []Ask{{Act: Rollback}, {Act: Pin}} }},
	{"P5 rollback, at night, while pinned", func(j *judged) {
		rollback(j)
		j.now += 12 * hourMillis
		j.facts.Pin = &Pinned{Until: j.now + hourMillis, Reason: "x"}
	}},
	{"P5 rollback to what never ran here", func(j *judged) { rollback(j); j.facts.Past = j.facts.Past[:1] }},
	{"P5 rollback with a change by hand", func(j *judged) { rollback(j); j.facts.Candidate.Tree = id("x") }},
	{"P5 rollback to what is not in the repository", func(j *judged) { rollback(j); j.facts.Of = Commit{} }},
	{"P5 pin", func(j *judged) {
		j.ask = Ask{Act: Pin, PinUntil: j.now + hourMillis, Reason: "audit"}
		j.facts.Candidate = Commit{ID: id("pin"), Tree: j.facts.Active.Tree, Parents: []source.ID{id("active")}}
	}},
	{"P5 pin with a change", func(j *judged) {
		j.ask = Ask{Act: Pin, PinUntil: j.now + hourMillis, Reason: "audit"}
		j.facts.Candidate = Commit{ID: id("pin"), Tree: id("x"), Parents: []source.ID{id("active")}}
	}},
	{"P5 unpin", func(j *judged) {
		j.ask = Ask{Act: Unpin}
		j.facts.Candidate = Commit{ID: id("pin"), Tree: j.facts.Active.Tree}
	}},
	{"F-P3 a plain commit", func(j *judged) { j.ask = Ask{Act: Plain} }},
	{"F-P3 a plain commit that means more", func(j *judged) { j.ask = Ask{Act: Plain, Hint: "line 7 does not count"} }},
	{"F-P3 a promotion from elsewhere", func(j *judged) { j.ask.From = "dev" }},
	{"F-P3 a promotion with a change by hand", func(j *judged) { j.facts.Candidate.Tree = id("x") }},
	{"F-P3 a promotion with other parents", func(j *judged) { j.facts.Candidate.Parents[1] = id("x") }},
	{"F-P3 a promotion without the second parent", func(j *judged) { j.facts.Candidate.Parents = j.facts.Candidate.Parents[:1] }},
	{"F-P3 the first promotion of all", func(j *judged) {
		j.facts.Active, j.facts.Candidate.Parents = Commit{}, []source.ID{id("release")}
	}},
	{"F-P3 what nobody knows", func(j *judged) { j.ask.Act = "x\x1b" }},
	{"F-P7 staging never ran it", func(j *judged) { j.facts.Runs = j.facts.Runs[1:] }},
	{"F-P7 another render than was looked at", func(j *judged) { j.ask.Render = desired.DigestOf([]byte("what was shown")) }},
	{"F-P7 staging ran another tree", func(j *judged) { j.facts.Runs[0].Tree = id("x") }},
	{"F-P7 staging went back from it", func(j *judged) {
		j.facts.Runs[0].Until, j.facts.Runs[0].Undone = j.now-hourMillis, "rolled back by eve: it leaks"
	}},
	{"F-P7 the commit is not there", func(j *judged) { j.facts.Of = Commit{} }},
	{"F-P7 nothing to promote", func(j *judged) { j.facts.Candidate = Commit{}; j.facts.Active.Tree = j.facts.Of.Tree }},
	{"P1 two environments before, one is behind", func(j *judged) {
		j.policy.After, j.policy.Gates.Verify, j.policy.Gates.Checks = []string{"staging", "us"}, nil, nil
		j.facts.Runs = append(j.facts.Runs, Run{Environment: "us", Commit: id("us release"), Tree: j.facts.Of.Tree, Render: desired.DigestOf([]byte("us")), Since: j.now - 3*hourMillis, Healthy: j.now - 2*hourMillis})
	}},
	{"P1 two environments before, one has not run it", func(j *judged) {
		j.policy.After = []string{"staging", "us"}
		j.policy.Gates = Gates{}
	}},
	{"P1 a push to where people push", func(j *judged) {
		j.policy.After, j.policy.Gates = nil, Gates{Windows: j.policy.Gates.Windows, Approvals: []Approvers{{Count: 1}}}
		j.facts.Approvals[0].Commit = id("promotion")
	}},
	{"F-P3 windows that cannot be read hold", func(j *judged) { j.policy.Gates.Windows[0].Zone = "Europe/Nowhere" }},
}

// TestFeature_P3_Judge prints every verdict.
func TestFeature_P3_Judge(t *testing.T) {
	golden(t, "judge", func(t *testing.T, _ map[string]string) string {
		var b strings.Builder
		for _, c := range cases {
			j := pass()
			c.change(&j)
			v := Judge(j.policy, j.ask, j.facts, j.now)
			fmt.Fprintf(&b, "## %s\n%s", c.name, v)
			for _, p := range v.Evidence {
				if !isLine(p.Text, maxProof) || !isGate(p.Gate) {
					t.Errorf("%s: evidence %+v cannot be written", c.name, p)
				}
			}
		}
		return b.String()
	})
}

// TestNextTellsWhenVerdictsChange: between now and Next a verdict's states stay, whatever the case.
func TestNextTellsWhenVerdictsChange(t *testing.T) {
	states := func(v Verdict) (out []State) {
		for _, g := range v.Gates {
			out = append(out, g.State)
		}
		return out
	}
	for _, c := range cases {
		j := pass()
		c.change(&j)
		for now, steps := j.now, 0; now != 0 && steps < 20; steps++ {
			v := Judge(j.policy, j.ask, j.facts, now)
			end := now + 40*24*hourMillis
			if v.Next != 0 {
				end = v.Next - 1
			}
			for _, at := range []int64{now + (end-now)/3, end} {
				if later := Judge(j.policy, j.ask, j.facts, at); !slices.Equal(states(v), states(later)) {
					t.Errorf("%s: from %s to %s, before %d:\n%s%s", c.name, stamp(now), stamp(at), v.Next, v, later)
				}
			}
			now = v.Next
		}
	}
}

// TestFault_R7_Order: the order of facts does not matter, and facts are not changed.
func TestFault_R7_Order(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range cases {
		j := pass()
		c.change(&j)
		want := Judge(j.policy, j.ask, j.facts, j.now).String()
		for range 5 {
			f := &j.facts
			rng.Shuffle(len(f.Runs), reflect.Swapper(f.Runs))
			rng.Shuffle(len(f.Evidence), reflect.Swapper(f.Evidence))
			rng.Shuffle(len(f.Approvals), reflect.Swapper(f.Approvals))
			rng.Shuffle(len(f.Differences), reflect.Swapper(f.Differences))
			rng.Shuffle(len(f.Past), reflect.Swapper(f.Past))
			if got := Judge(j.policy, j.ask, j.facts, j.now).String(); got != want {
				t.Errorf("%s: in another order\n%swant\n%s", c.name, got, want)
			}
		}
	}
}

// TestFault_P3_NoClaimOpensAlone: a commit that somebody pushed comes in by no claim of its own, whatever it writes.
func TestFault_P3_NoClaimOpensAlone(t *testing.T) {
	for _, trailers := range []string{
		"", "Shoal-Promoted-From: staging " + string(id("release")), "Shoal-Rolled-Back-To: " + string(id("first")),
		"Shoal-Rolled-Back-To: " + string(id("evil")), "Shoal-Hotfix: soak,health,verify,checks,window,same,approvals,freeze let me in",
		"Shoal-Pin-Until: 2027-01-01T00:00:00Z\nShoal-Reason: x", "Shoal-Pin-Until: lifted",
	} {
		ask, err := Read("subject\n\n" + trailers)
		if err != nil {
			t.Fatal(err)
		}
		j := pass()
		j.facts.Candidate = Commit{ID: id("evil"), Tree: id("evil tree"), Parents: []source.ID{id("active")}}
		j.facts.Of = map[source.ID]Commit{id("release"): j.facts.Of, id("first"): {ID: id("first"), Tree: id("first tree")}, id("evil"): {ID: id("evil"), Tree: id("evil tree")}}[ask.Source]
		if v := Judge(j.policy, ask, j.facts, j.now); v.State != Refused || v.Gates[0].State != Refused {
			t.Errorf("%s:\n%s", trailers, v)
		}
	}
}
