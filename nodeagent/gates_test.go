package nodeagent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// byHand puts a commit onto prod's branch, as somebody does who may push there. TREE, of a revision, is its tree.
func (p *promotes) byHand(tree, message string, parents ...string) source.ID {
	p.t.Helper()
	args := []string{"commit-tree", "-m", message, tree + "^{tree}"}
	for _, parent := range parents {
		args = append(args, "-p", parent)
	}
	id := p.git(args...)
	p.git("update-ref", "refs/heads/env/prod", id)
	return source.ID(id)
}

// TestFault_P3_ByHand: what is pushed by hand to a branch that is promoted into comes in if it is what it says it is and the gates are open, and is
// held with the reason otherwise, whatever its message claims. What ran goes on, and the next good commit supersedes it.
func TestFault_P3_ByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, `prod env/prod dev ,"gates":{"health":false,"soak":"1h"},"hotfix":{"waive":["soak"]}`+"\n")
		time.Sleep(2 * time.Hour)
		one := p.git("rev-parse", "main")
		p.expect("soak of what is never healthy", p.ask(api.PromoteRequest{}), "waiting soak in dev: not healthy: Deployment web: 0 of 1 pods are available; 1h are wanted on "+
			p.render("dev")[:12]+" [dev]\n")
		p.web("v2")
		two := string(p.commit("", "two"))
		p.sees()
		for _, tt := range []struct {
			what, tree, message string
			parents             []string
			want                string // "" comes in
		}{
			{"plain", two, "by hand", []string{two}, "neither a promotion, a rollback nor a hotfix, and prod is promoted into from dev"},
			{"a promotion that has not soaked", two, "x\n\nShoal-Promoted-From: dev " + two, []string{two}, "soak in dev: not healthy"},
			{"a promotion of what dev never ran", two, "x\n\nShoal-Promoted-From: dev " + strings.Repeat("a", 40), []string{two}, "commit aaaaaaaaaaaa is not in the repository"},
			{"a promotion from nowhere", two, "x\n\nShoal-Promoted-From: elsewhere " + two, []string{two}, "it comes from elsewhere, and prod is promoted into from dev only"},
			{"a promotion of another tree", one, "x\n\nShoal-Promoted-From: dev " + two, []string{two}, "something was changed by hand"},
			{"a rollback to what never ran here", one, "x\n\nShoal-Rolled-Back-To: " + one, []string{two}, "never ran in prod"},
			{"a hotfix that waives too much", two, "x\n\nShoal-Hotfix: health,soak down", []string{two}, "it waives health, and prod allows hotfixes to waive soak"},
			{"a hotfix that waives too little", two, "x\n\nShoal-Hotfix: none down", []string{two}, "a hotfix has not run there; expected soak among the gates it waives"},
			{"trailers that contradict", two, "x\n\nShoal-Hotfix: soak down\nShoal-Rolled-Back-To: " + one, []string{two}, "says already that it is a hotfix"},
			{"a claim where Git reads no trailers", two, "Shoal-Hotfix: soak down\n\nand more words", []string{two}, "does not count: trailers stand in the last paragraph"},
			{"a hotfix", two, "x\n\nShoal-Hotfix: soak down", []string{two}, ""},
		} {
			before := p.d.active("prod")
			id := p.byHand(tt.tree, tt.message, tt.parents...)
			p.sees()
			active, said := p.d.active("prod"), p.status()
			switch {
			case tt.want == "" && (active == nil || active.Commit != id):
				t.Errorf("%s has not come in:\n%s", tt.what, said)
			case tt.want != "" && !strings.Contains(said, tt.want):
				t.Errorf("%s: status says\n%s\nwant %s", tt.what, said, tt.want)
			case tt.want != "" && active != before && (active == nil || before == nil || active.Commit != before.Commit):
				t.Errorf("%s came in", tt.what)
			}
			if wait := p.d.Again(); (wait > 0) != strings.Contains(said, "held: ") || wait > againWithin {
				t.Errorf("%s: judged again after %s:\n%s", tt.what, wait, said)
			}
		}

		// On top of what runs.
		hot := p.git("rev-parse", "env/prod")
		p.web("v3")
		three := string(p.commit("", "three"))
		p.sees()
		p.byHand(three, "a merge by hand", hot, three)
		p.sees()
		if said := p.status(); !strings.Contains(said, "neither a promotion") {
			t.Errorf("a merge by hand: %s", said)
		}
		if got := p.ask(api.PromoteRequest{}); !strings.Contains(got, "does not have the hotfix") && !strings.Contains(got, "soak") {
			t.Errorf("a promotion over it: %s", got)
		}
		p.expect("gone back over it", p.ask(api.PromoteRequest{Act: promote.Rollback, Source: hot, By: "rita"}), "already")
		p.byHand(two, "astray, with the hotfix behind another", three, hot)
		p.sees()
		if said := p.status(); !strings.Contains(said, "the first parents of its branch do not lead to "+source.ID(hot).Short()) {
			t.Errorf("a branch astray: %s", said)
		}
		if active := p.d.active("prod"); string(active.Commit) != hot {
			t.Errorf("%s runs", active.Commit)
		}
	})
}

// render is what an environment runs now.
func (p *promotes) render(environment string) string {
	run, _ := runOf(p.m.ring.State, environment, "")
	return string(run.Render)
}
