package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// promotes is a node whose environments come after one another, on a repository of the real git.
type promotes struct {
	*signed
	ring *Promoting
	land func(ref string) error // before a commit gets onto a branch; an error keeps it off
	lost bool                   // the forge's answer does not come
}

// staged is a line of environments: name, branch, what it comes after, and more of its policy as JSON.
type staged struct{ filesOf }

func (f staged) Environments(_ context.Context, tree source.Tree) ([]render.Environment, render.Problems, error) {
	list := []render.Environment{dev}
	b, _ := tree.ReadFile("environments")
	for line := range strings.Lines(string(b)) {
		w := strings.SplitN(strings.TrimSpace(line), " ", 4)
		list = append(list, render.Environment{Name: w[0], Namespace: w[0], Ref: "refs/heads/" + w[1], Policy: render.Policy{JSON: fmt.Appendf(nil, `{"after": [%q]%s}`, w[2], w[3])}})
	}
	return list, nil, nil
}

func newPromotes(t *testing.T, environments string) *promotes {
	p := &promotes{signed: newSigned(t)}
	p.again()
	p.write("environments", environments)
	p.web("v1")
	p.commit("", "one")
	p.sees()
	return p
}

// again makes a new deployer on the same ledger and repository, as another node has it, or one that was restarted.
func (p *promotes) again() {
	p.d = NewDeployer(DeployOptions{
		Ledger: (*memLedger)(p.m), Content: memContent{Store: p.m.ring.Content}, Source: mirrorOf{p.mirror}, Renderer: staged{filesOf{p.u}}, Images: p.u, Branch: dev.Ref,
		Lander: p, Journal: NewJournal(), Log: slog.New(slog.DiscardHandler),
	})
	p.n.Deployer = p.d
	p.ring = NewPromoting(PromotingOptions{Node: p.n, Leading: func() bool { return true }, Log: slog.New(slog.DiscardHandler)})
}

func (p *promotes) Land(ctx context.Context, ref string, old source.ID, raw []byte) (source.ID, error) {
	if p.land != nil {
		if err := p.land(ref); err != nil {
			return "", err
		}
	}
	id, err := p.mirror.Land(ctx, ref, old, raw)
	if errors.Is(err, gitsync.ErrMoved) {
		_, _ = p.mirror.Fetch(ctx)
		err = ErrMoved
	}
	if p.lost && err == nil {
		err = errors.New("the answer did not come")
	}
	return id, err
}

func (p *promotes) Refresh(ctx context.Context) error {
	_, err := p.mirror.Fetch(ctx)
	return err
}

func (p *promotes) Expand(ctx context.Context, name string) (source.ID, error) {
	return p.mirror.Expand(ctx, name)
}

// ask asks for a promotion into prod or what else, and says what came of it.
func (p *promotes) ask(req api.PromoteRequest) string {
	p.t.Helper()
	req.Act, req.Environment = cmp.Or(req.Act, promote.Promotion), cmp.Or(req.Environment, "prod")
	out, err := p.n.Promote(p.t.Context(), req)
	_, _ = p.mirror.Fetch(p.t.Context())
	switch {
	case err != nil:
		return "error: " + err.Error()
	case out.Already:
		return "already"
	case out.Verdict.State != promote.Open:
		var b strings.Builder
		for _, g := range out.Verdict.Blocks() {
			b.WriteString(string(g.State) + " " + g.Why() + "\n")
		}
		return b.String()
	case out.Found:
		return "found, by " + out.By
	case out.Commit == "":
		return "nothing made"
	}
	return "made"
}

// count is how many commits a branch of the forge has by its first parents.
func (p *promotes) count(branch string) string {
	return p.git("rev-list", "--count", "--first-parent", branch)
}

const intoProd = `prod env/prod dev ,"gates":{"health":false}` + "\n"

// TestFault_P6_MadeOnce: a commit that was made and has not come in yet is found by who asks again, by the node that made it after a restart,
// by another, by somebody else; and one that the ring does not take is not made again every second.
func TestFault_P6_MadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, intoProd)
		p.land = func(string) error { return errors.New("the agent dies here") }
		p.expect("died before", p.ask(api.PromoteRequest{By: "rita"}), "error: push to env/prod: the agent dies here")
		p.land, p.lost = nil, true
		p.expect("died after", p.ask(api.PromoteRequest{By: "rita"}), "error: push to env/prod: the answer did not come")
		p.lost = false
		p.expect("asked again", p.ask(api.PromoteRequest{By: "bob"}), "found, by rita")
		p.again()
		p.look()
		p.expect("asked of a new leader once it runs", p.ask(api.PromoteRequest{By: "rita"}), "already")
		if got := p.count("env/prod"); got != "2" { // the commit of dev below it
			t.Errorf("%s commits", got)
		}

		// What is asked otherwise is another commit.
		p.web("v2")
		p.commit("", "two")
		p.sees()
		p.expect("made", p.ask(api.PromoteRequest{By: "rita"}), "made")
		p.expect("with a pin", p.ask(api.PromoteRequest{By: "rita", PinFor: 3_600_000, Reason: "it is watched"}), "made")
		p.expect("with a pin, again", p.ask(api.PromoteRequest{By: "rita", PinFor: 3_600_000, Reason: "it is watched"}), "found, by rita")
		p.look()
		if got := p.count("env/prod"); got != "4" {
			t.Errorf("%s commits", got)
		}
		p.expect("undone", p.ask(api.PromoteRequest{Act: promote.Rollback, By: "bob"}), "made")
		p.expect("undone again before it runs", p.ask(api.PromoteRequest{Act: promote.Rollback, By: "rita"}), "found, by bob")
	})
}

// TestFault_P6_RefusedIsNotRepeated: the ring promotes by itself; what the ring does not take then, because another environment has the same
// port, stands on the branch once. What cannot be rendered there, or deletes too much, does not get onto it.
func TestFault_P6_RefusedIsNotRepeated(t *testing.T) {
	port := func(n int) string {
		return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: %d}]}\n", n)
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, `prod env/prod dev ,"promote":"auto","gates":{"health":false}`+"\n")
		step := func(what, commits string) {
			t.Helper()
			for range 3 {
				time.Sleep(15 * time.Second)
				p.ring.promote(t.Context())
				p.sees()
			}
			if got := p.count("env/prod"); got != commits {
				t.Errorf("%s: %s commits, want %s", what, got, commits)
			}
		}
		step("the first", "2")
		p.write("web.yaml", deployment("web")+port(30080))
		p.commit("", "two")
		p.sees()
		step("a port that dev has", "3")
		if got := p.status(); !strings.Contains(got, "both have nodePort 30080") {
			t.Errorf("status: %s", got)
		}
		p.again()
		p.look()
		step("the same, to a new leader", "3")

		p.web("v3")
		p.commit("", "three")
		p.sees()
		p.u.err = render.Problems{{File: "apps/web/web.cue", Line: 3, Text: "wrong here"}}
		step("what cannot be rendered", "3")
		p.u.err = nil
		step("what can", "4")
		if active := p.d.active("prod"); active == nil || string(active.Commit) != p.git("rev-parse", "env/prod") {
			t.Errorf("%+v runs", active)
		}
	})
}

// TestFault_P6_TwoAtOnce: of two who promote at the same time one wins, and the other is told what is there now.
func TestFault_P6_TwoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, intoProd)
		quicker := func(req api.PromoteRequest) {
			p.land = func(string) error {
				p.land = nil
				p.expect("who was quicker", p.ask(req), "made")
				return nil
			}
		}
		quicker(api.PromoteRequest{By: "bob"})
		p.expect("the same", p.ask(api.PromoteRequest{By: "rita"}), "found, by bob")
		p.look()
		p.web("v2")
		p.commit("", "two")
		p.sees()
		p.expect("promoted", p.ask(api.PromoteRequest{By: "rita"}), "made")
		p.look()
		quicker(api.PromoteRequest{Act: promote.Rollback, By: "bob"})
		got := p.ask(api.PromoteRequest{Act: promote.Pin, PinFor: 3_600_000, Reason: "audit", By: "rita"})
		at := source.ID(p.git("rev-parse", "env/prod")).Short()
		p.expect("another act", got, "error: push to env/prod: somebody else has moved it meanwhile: env/prod stands at "+at+" now, a rollback by bob; look again")
		if got := p.count("env/prod"); got != "4" {
			t.Errorf("%s commits", got)
		}
	})
}

// TestFault_P7_WhatWasShown: what is done is the commit, its render and the place on the branch that were shown, whatever goes by the names
// meanwhile.
func TestFault_P7_WhatWasShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, intoProd)
		show := func(req api.PromoteRequest) api.PromoteRequest {
			req.DryRun = true
			req.Act, req.Environment = cmp.Or(req.Act, promote.Promotion), "prod"
			out, err := p.n.Promote(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			req.DryRun, req.Source, req.Render, req.Over = false, out.Source, out.Render, out.Over
			return req
		}
		one := show(api.PromoteRequest{By: "rita"})
		p.web("v2")
		two := p.commit("", "two")
		p.sees()
		p.expect("dev has gone on", p.ask(one), "made")
		p.look()
		if tree := p.git("rev-parse", "env/prod^{tree}"); tree != p.git("rev-parse", "main~1^{tree}") {
			t.Errorf("not what was shown was promoted, but %s", tree)
		}

		// Somebody else promotes and undoes while she reads.
		hers := show(api.PromoteRequest{By: "rita"})
		p.expect("bob promotes", p.ask(api.PromoteRequest{By: "bob"}), "made")
		p.look()
		undo := show(api.PromoteRequest{Act: promote.Rollback, By: "rita"})
		p.expect("bob undoes it", p.ask(api.PromoteRequest{Act: promote.Rollback, By: "bob"}), "made")
		p.look()
		at := func() string { return source.ID(p.git("rev-parse", "env/prod")).Short() }
		p.expect("she promotes", p.ask(hers), "error: env/prod stood at "+source.ID(hers.Over).Short()+" when this was shown, and stands at "+at()+" now, a rollback by bob; look again")
		p.expect("she undoes it too", p.ask(undo), "already")

		// The same commit, of another render: a tag that moved, say.
		other := show(api.PromoteRequest{Source: string(two), By: "rita"})
		other.Render = strings.Repeat("a", 64)
		if got := p.ask(other); !strings.HasPrefix(got, "refused claim: it is of render aaaaaaaaaaaa, and dev ran ") {
			t.Error(got)
		}
	})
}

// TestFault_P7_TheImagesThatRan: a promotion is of the very images that ran, though a tag has moved since, and so is what is gone back to; a
// registry need not answer for either.
func TestFault_P7_TheImagesThatRan(t *testing.T) {
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, intoProd)
		images := func(environment, ref, want string) {
			t.Helper()
			if active := p.d.active(environment); active == nil || active.Images[ref] != want {
				t.Errorf("%s runs %+v, want %s as %s", environment, active, ref, want)
			}
		}
		p.u.images = map[string]string{"web:v2": digest("a")}
		p.web("v2")
		p.commit("", "two")
		p.sees()
		images("dev", "web:v2", digest("a"))
		p.u.images["web:v2"] = digest("b") // somebody pushes to the tag
		p.expect("promoted", p.ask(api.PromoteRequest{}), "made")
		p.look()
		images("prod", "web:v2", digest("a"))

		p.u.images["web:v3"] = digest("c")
		p.web("v3")
		p.commit("", "three")
		p.sees()
		p.u.images = nil // the registry is away
		p.expect("promoted", p.ask(api.PromoteRequest{}), "made")
		p.look()
		images("prod", "web:v3", digest("c"))
		p.expect("undone", p.ask(api.PromoteRequest{Act: promote.Rollback}), "made")
		p.look()
		images("prod", "web:v2", digest("a"))
	})
}

// TestFeature_G15_WhereItCameFrom: `shoal why` of an object names the promotions that it has come through, who let it in and why it was gone back to,
// and the commit and author that wrote it, though other commits came in with it.
func TestFeature_G15_WhereItCameFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPromotes(t, `staging env/staging dev ,"gates":{"health":false}`+"\n"+`prod env/prod staging ,"gates":{"health":false}`+"\n")
		one := source.ID(p.git("rev-parse", "main")).Short()
		p.write("web.yaml", deployment("web")+"---\n"+settings("later")) // web is as it was
		p.commit("", "settings")
		p.sees()
		p.expect("to staging", p.ask(api.PromoteRequest{Environment: "staging", By: "rita"}), "made")
		p.look()
		p.expect("to prod", p.ask(api.PromoteRequest{By: "bob"}), "made")
		p.look()
		why := func() string {
			t.Helper()
			w, err := p.n.Why(t.Context(), "deploy", "prod", "web")
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, l := range w.Lines {
				if strings.HasPrefix(l, "promoted") || strings.HasPrefix(l, "written in") || strings.HasPrefix(l, "rolled") {
					lines = append(lines, l)
				}
			}
			return strings.Join(lines, "\n")
		}
		staging := source.ID(p.git("rev-parse", "env/staging")).Short()
		dev := source.ID(p.git("rev-parse", "main")).Short()
		head := "promoted from staging " + staging + " by bob\npromoted from dev " + dev + " by rita\nwritten in "
		if got := why(); !strings.HasPrefix(got, head+one+` "one" by Ada <ada@example.org>, `) {
			t.Errorf("why:\n%s\nwant %s%s", got, head, one)
		}

		first := source.ID(p.git("rev-parse", "env/prod")).Short()
		p.web("v2")
		p.commit("", "two\n\nShoal-Allow-Delete: all")
		p.sees()
		p.expect("to staging", p.ask(api.PromoteRequest{Environment: "staging", By: "rita"}), "made")
		p.look()
		p.expect("to prod", p.ask(api.PromoteRequest{By: "bob"}), "made")
		p.look()
		p.expect("back", p.ask(api.PromoteRequest{Act: promote.Rollback, By: "bob", Reason: "two is slow"}), "made")
		p.look()
		if got, want := why(), "rolled back to "+first+" by bob: two is slow\n"+strings.TrimSuffix(head, "written in "); !strings.HasPrefix(got, want) {
			t.Errorf("why, after a rollback:\n%s\nwant\n%s", got, want)
		}
	})
}

// TestFeature_G14_AskedOfANodeThatIsBehind: what another node has made while this one could not see the forge runs here already; a command that
// comes before the next look at the forge is carried out all the same.
func TestFeature_G14_AskedOfANodeThatIsBehind(t *testing.T) {
	p := newPromotes(t, intoProd)
	p.expect("before", p.ask(api.PromoteRequest{By: "rita"}), "made")
	p.look()
	p.open(t) // a node that sees the forge as it is now, for a while
	p.again()
	p.sees()
	p.sees() // the branches that it has learned of
	late := p.mirror
	p.web("v2")
	p.commit("", "two")

	p.open(t)
	p.again()
	p.sees()
	p.sees()
	p.expect("by another node", p.ask(api.PromoteRequest{By: "rita"}), "made")
	p.look()
	active := p.d.active("prod").Commit
	if err := late.TakeHeads(t.Context(), []source.Ref{{Name: "refs/heads/env/prod", ID: active}}); err != nil { // of its peers, in a ring
		t.Fatal(err)
	}
	p.mirror = late
	p.again()
	if tip, _, err := p.d.opt.Source.Head(t.Context(), "refs/heads/env/prod"); err != nil || tip == active {
		t.Fatalf("it is not behind: %s, %v", tip, err)
	}
	p.expect("of one that is behind", p.ask(api.PromoteRequest{Act: promote.Rollback, By: "rita", Reason: "two is slow"}), "made")
}
