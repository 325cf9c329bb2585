package main

import (
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// TestFeature_P4_WhyAnEnvironment: what `shoal why ENVIRONMENT` says of each way to stand, and whose turn it is.
func TestFeature_P4_WhyAnEnvironment(t *testing.T) {
	const until = 1_800_000_000_000
	gate := func(name string, state promote.State, turn string, until int64) promote.Gate {
		return promote.Gate{Name: name, State: state, Text: "so it is", Turn: turn, Until: until}
	}
	waits := func(gates ...promote.Gate) promote.Verdict {
		return promote.Verdict{State: promote.Waiting, Gates: gates}
	}
	commit, other := strings.Repeat("a", 40), strings.Repeat("b", 40)
	env := func(change func(e *whyEnv)) whyEnv {
		e := whyEnv{EnvOf: api.EnvOf{Name: "production", Ref: "refs/heads/env/production", After: []string{"staging"}, Commit: commit, Subject: "one", Act: promote.Promotion, Since: 1, Healthy: 1}}
		change(&e)
		return e
	}
	for what, tt := range map[string]struct {
		env  whyEnv
		want []string
	}{
		"nothing is next":  {env(func(*whyEnv) {}), []string{"promoted into from staging by people", `runs aaaaaaaaaaaa "one" by promotion`, "nothing is next: it runs what staging does"}},
		"people push":      {env(func(e *whyEnv) { e.After = nil }), []string{"which people push to", "next: what is pushed to env/production"}},
		"nothing runs yet": {env(func(e *whyEnv) { e.Commit, e.Next = "", other }), []string{"runs nothing yet", "next: bbbbbbbbbbbb, by a promotion", "all gates are open: shoal promote production"}},
		"the ring's turn":  {env(func(e *whyEnv) { e.Next, e.Auto = other, true }), []string{"by the ring", "all gates are open: it comes in now"}},
		"time alone": {env(func(e *whyEnv) {
			e.Next, e.Verdict = other, waits(gate("claim", promote.Open, "", 0), gate("soak", promote.Waiting, "time", until-1000), gate("window", promote.Waiting, "time", until))
		}), []string{"open     claim: so it is", "waiting  soak: so it is; until 2027-01-15T07:59:59Z [time]", "turn: time, until 2027-01-15T08:00:00Z"}},
		"people and time": {env(func(e *whyEnv) {
			e.Held, e.Verdict = other, waits(gate("soak", promote.Waiting, "time", until), gate("approvals", promote.Waiting, "1 more of leads", 0))
		}), []string{"next: bbbbbbbbbbbb of env/production is held", "turn: time; 1 more of leads\n"}},
		"refused": {env(func(e *whyEnv) {
			e.Next, e.Verdict = other, waits(gate("verify:smoke", promote.Refused, "author", 0))
		}), []string{"refused  verify:smoke: so it is [author]", "turn: author\n"}},
		"not accepted": {env(func(e *whyEnv) { e.Candidate, e.Problems = other, []string{"apps/web/web.cue:3: wrong"} }), []string{"next: bbbbbbbbbbbb of env/production is not accepted:\n  apps/web/web.cue:3: wrong"}},
		"ill, pinned and owing": {env(func(e *whyEnv) {
			e.Healthy, e.Ill, e.Pods = 0, "Deployment web: 0 of 1 pods are available", []string{"web-1: container web ended with 3 (Error)"}
			e.Pin, e.Owed = &promote.Pinned{Until: until, By: "rita", Reason: "audit"}, []promote.Debt{{Commit: "cccccccccccccccc", By: "bob", Reason: "coupons"}}
			e.Behind, e.Notes = []api.Behind{{Environment: "staging", Commits: 2, Since: 1}}, []string{"env/production: was moved"}
		}), []string{"not healthy: Deployment web: 0 of 1", "    web-1: container web ended with 3", "pinned by rita until 2027-01-15T08:00:00Z: audit", "hotfix cccccccccccc is not merged back: coupons (bob)", "behind staging by 2 commits", "env/production: was moved"}},
	} {
		var b strings.Builder
		printWhyEnv(&b, tt.env)
		for _, want := range tt.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q in\n%s", what, want, b.String())
			}
		}
	}
	for args, want := range map[string]string{"production": "production", "env/production": "production!", "environment production": "production!", "deploy/web": "", "deploy web": "", "web": "web"} {
		name, sure := environmentAsked(strings.Fields(args))
		if sure {
			name += "!"
		}
		if name != want {
			t.Errorf("why %s asks for environment %q, want %q", args, name, want)
		}
	}
}
