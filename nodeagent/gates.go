package nodeagent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/wallclock"
)

// passage is what is known of a commit that asks to come into an environment, beside its render.
type passage struct {
	tree    source.ID
	policy  *promote.Environment // what its own tree says of the environment; nil: nothing
	verify  []string             // Jobs that its own tree wants to have succeeded here before it is promoted further
	claim   *cluster.Claim       // nil: no gate has a say
	verdict promote.Verdict      // the zero one: no gate has a say

	byLeader bool // the verdict is the leader's
	seen     seen // before it was judged
}

// open says whether all gates are but the one that compares renders, which there is none of yet.
func (p *passage) open(unless ...string) bool {
	return !slices.ContainsFunc(p.verdict.Blocks(), func(g promote.Gate) bool { return !slices.Contains(unless, g.Name) })
}

// digest names what nodes must be of one mind on: what the commit claims, and what Git says of it. Approvals come to nodes at
// different times, and differences are compared with what runs now: each node judges these by itself before it votes.
func (p *passage) digest() (string, error) {
	if p.claim == nil && p.policy == nil && len(p.verify) == 0 {
		return "", nil
	}
	said := struct {
		Policy *promote.Environment
		Verify []string
		Claim  *cluster.Claim
	}{p.policy, p.verify, nil}
	if p.claim != nil {
		c := *p.claim
		c.Facts.Approvals, c.Facts.Compared, c.Facts.Differences = nil, false, nil
		said.Claim = &c
	}
	b, err := json.Marshal(said)
	if err != nil {
		return "", fmt.Errorf("gates: %w", err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}

// ringTime is now, ms, as entries will have it.
func (d *Deployer) ringTime() (now int64) {
	d.opt.Ledger.View(func(s *cluster.State) { now = s.Time() })
	return max(now, wallclock.Now().UnixMilli())
}

// judgeGates finds what a commit claims and what the gates of its environment make of it, as far as that can be told before it is
// rendered. Problems are what is wrong with the commit itself.
func (d *Deployer) judgeGates(ctx context.Context, env render.Environment, meta source.Commit, active *cluster.Environment) (*passage, render.Problems, error) {
	p := &passage{tree: meta.Tree, seen: d.see(ctx, env.Name, env.Ref)}
	declared, err := promote.Declared(env)
	if err != nil {
		return nil, render.Problems{{File: "shoal.cue", Text: err.Error()}}, nil
	}
	own, verify, problems, err := d.ownPolicy(ctx, env.Name, meta.ID)
	if err != nil || len(problems) > 0 {
		return nil, problems, err
	}
	var rules promote.Environment
	engine := 0
	d.opt.Ledger.View(func(s *cluster.State) {
		rules = s.Rules(env.Name, declared)
		if ring, ok := s.Ring(); ok {
			engine = ring.Engine
		}
	})
	if engine < cluster.PromotionSince {
		if rules.Gated() {
			return nil, render.Problems{{File: "shoal.cue", Line: env.Policy.Line("environments." + env.Name), Text: fmt.Sprintf(
				"environments.%s: its gates want engine version %d, the ring runs %d: every node must be upgraded first", env.Name, cluster.PromotionSince, engine)}}, nil
		}
		return &passage{}, nil, nil
	}
	if p.verify = verify; own != nil && !bare(*own) {
		p.policy = own
	}
	if !rules.Gated() {
		return p, nil, nil
	}
	ask, err := promote.Read(meta.Message)
	if err != nil {
		return nil, render.Problems{{File: env.Ref, Text: fmt.Sprintf("commit %s: %v", meta.ID.Short(), err)}}, nil
	}
	a := asked{rules: rules, ask: ask, candidate: &meta, active: active}
	if len(meta.Parents) > 0 {
		a.tip = meta.Parents[0]
	}
	facts, err := d.factsOf(ctx, a)
	if astray, ok := errors.AsType[astrayError](err); ok {
		return nil, render.Problems{{File: env.Ref, Text: fmt.Sprintf("commit %s is held: %v", meta.ID.Short(), astray)}}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("what its gates are to know: %w", err)
	}
	p.claim = &cluster.Claim{Declared: declared, Ask: ask, Facts: facts}
	d.judge(env.Name, p)
	return p, nil, nil
}

// bare says that nothing is said of an environment that would rule anything.
func bare(e promote.Environment) bool {
	return !e.Gated() && e.Promote == "" && e.RollbackAfter == 0 && e.Same == nil && len(e.Hotfix.By)+len(e.Hotfix.Waive) == 0
}

// judge asks the gates.
func (d *Deployer) judge(environment string, p *passage) {
	if p.claim == nil {
		return
	}
	now := d.ringTime()
	d.opt.Ledger.View(func(s *cluster.State) { p.verdict = s.Judge(environment, *p.claim, now) })
}

// ownPolicy is what a commit's own tree says of an environment, nil if it does not name it, and which Jobs environments that come after
// it want to have succeeded in it.
func (d *Deployer) ownPolicy(ctx context.Context, environment string, commit source.ID) (own *promote.Environment, verify []string, problems render.Problems, err error) {
	l := d.lastList.Load()
	if l == nil || l.commit != commit {
		if l, err = d.listOf(ctx, commit); err != nil {
			return nil, nil, nil, err
		}
	}
	if len(l.problems) > 0 {
		return nil, nil, l.problems, nil
	}
	for _, e := range l.environments {
		declared, err := promote.Declared(e)
		if err != nil {
			return nil, nil, render.Problems{{File: "shoal.cue", Text: err.Error()}}, nil
		}
		if e.Name == environment {
			own = &declared
		}
		if slices.Contains(declared.After, environment) {
			verify = append(verify, declared.Gates.Verify...)
		}
	}
	slices.Sort(verify)
	return own, slices.Compact(verify), nil, nil
}

// compare holds a render to that of another environment, where the rules ask for it, and asks the gates again.
func (d *Deployer) compare(env render.Environment, p *passage, next *desired.Set) error {
	if p.claim == nil {
		return nil
	}
	var rules promote.Environment
	var other *cluster.Environment
	d.opt.Ledger.View(func(s *cluster.State) {
		rules = s.Rules(env.Name, p.claim.Declared)
		if rules.Same != nil {
			other, _ = s.Environments().Get(rules.Same.As)
		}
	})
	if rules.Same == nil || other == nil {
		return nil
	}
	differences, err := d.differences(env, next, d.opt.Content, other, rules.Same.Except)
	if err != nil {
		return err
	}
	compared(&p.claim.Facts, differences)
	d.judge(env.Name, p)
	return nil
}

// compared notes which differences are not listed. No value goes into the ledger.
func compared(f *promote.Facts, differences []promote.Difference) {
	f.Compared, f.Differences = true, nil
	for _, x := range differences {
		if x.Allowed == "" && len(f.Differences) < maxDifferences {
			f.Differences = append(f.Differences, promote.Difference{Object: x.Object, Path: x.Path})
		}
	}
}

// maxDifferences bounds how many new differences a claim names: one is enough to be held.
const maxDifferences = 50

// differences is in what a render differs from what another environment runs.
func (d *Deployer) differences(env render.Environment, set *desired.Set, content desired.Content, other *cluster.Environment, except []string) ([]promote.Difference, error) {
	mine, err := sideOf(set, content, env.Namespace, env.Namespaces)
	if err != nil {
		return nil, err
	}
	b, err := d.opt.Content.Get(other.D)
	if err != nil {
		return nil, fmt.Errorf("read what %s runs: %w", other.Name, err)
	}
	theirs, err := desired.DecodeSet(b)
	if err != nil {
		return nil, err
	}
	var namespaces map[string]string
	if l := d.lastList.Load(); l != nil {
		for _, e := range l.environments {
			if e.Name == other.Name {
				namespaces = e.Namespaces
			}
		}
	}
	theirSide, err := sideOf(theirs, d.opt.Content, other.Namespace, namespaces)
	if err != nil {
		return nil, err
	}
	return promote.Same(mine, theirSide, except)
}

// sideOf is what an environment renders, to be compared.
func sideOf(set *desired.Set, content desired.Content, home string, namespaces map[string]string) (promote.Side, error) {
	out := promote.Side{Namespaces: map[string]string{home: ""}}
	for from, to := range namespaces {
		out.Namespaces[to] = from
	}
	for _, e := range set.Entries {
		b, err := content.Get(e.Digest)
		if err != nil {
			return out, fmt.Errorf("read %s: %w", e.Key, err)
		}
		out.Objects = append(out.Objects, promote.Object{Key: e.Key, JSON: b})
	}
	return out, nil
}

// holdAtGates notes what holds a commit back, for people and for the next look. Who waits for the leader's word on it is told.
func (d *Deployer) holdAtGates(ctx context.Context, v *Verdict, p *passage, progress io.Writer) {
	v.Gates = p.verdict
	if v.closed = p.seen; p.byLeader {
		v.closed = seen{} // who says nothing when that changes
	}
	v.closed.next = p.verdict.Next
	var texts []string
	for _, g := range p.verdict.Blocks() {
		texts = append(texts, g.Why())
		v.Problems = append(v.Problems, render.Problem{File: v.Ref, Text: "held: " + g.Why()})
	}
	why := strings.Join(texts, "; ")
	if d.opt.Votes != nil {
		d.opt.Votes.decide(v.Environment, v.Commit, Decision{Refused: why, Held: true})
	}
	fmt.Fprintf(progress, "%s: commit %s is held: %s\n", v.Environment, v.Commit.Short(), why)
	if before := d.Verdicts()[v.Environment]; before.Commit != v.Commit || before.Gates.State == "" {
		d.opt.Journal.Add(Event{Object: "Environment " + v.Environment, Reason: "Held", Message: fmt.Sprintf("commit %s: %s", v.Commit.Short(), why)})
		d.opt.Log.InfoContext(ctx, "commit is held at gates", "environment", v.Environment, "commit", v.Commit.Short(), "why", why)
	}
}

// againWithin is how soon a commit that is held at its gates is judged again at the latest: evidence, approvals and health come by
// themselves.
const againWithin = 2 * time.Second

// Again is in what time a held commit wants to be judged again; 0: none is held.
func (d *Deployer) Again() time.Duration {
	now := d.ringTime()
	var least time.Duration
	for _, v := range d.Verdicts() {
		if v.Gates.State == "" || v.Gates.State == promote.Open {
			continue
		}
		wait := againWithin
		if v.Gates.Next > now {
			wait = min(wait, time.Duration(v.Gates.Next-now)*time.Millisecond)
		}
		if least == 0 || wait < least {
			least = max(wait, 50*time.Millisecond)
		}
	}
	return least
}

// heldByLeader is what a node says whose own gates are open, and whose leader's are not.
func heldByLeader(why string) promote.Verdict {
	return promote.Verdict{State: promote.Waiting, Gates: []promote.Gate{{Name: promote.GateClaim, State: promote.Waiting, Turn: "leader", Text: "the leader holds it: " + why}}}
}
