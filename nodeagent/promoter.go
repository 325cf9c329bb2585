package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Lander puts commits that the ring makes onto branches.
type Lander interface {
	// Land moves ref from old ("" creates it) to a commit, given by its raw bytes, whose tree and parents the repository has, by
	// compare-and-swap, and returns its id.
	// An error that is ErrMoved says that ref is not at old; Head tells then where it is.
	Land(ctx context.Context, ref string, old source.ID, raw []byte) (source.ID, error)
	// Expand is the commit whose id begins with at least 4 hex digits.
	Expand(ctx context.Context, prefix string) (source.ID, error)
	// Refresh has Head tell where branches are on the forge now. It is an error where there is none, or it is not reached.
	Refresh(ctx context.Context) error
}

// ErrMoved says that a branch is not where it was thought to be.
var ErrMoved = errors.New("somebody else has moved it meanwhile")

// Person is who commits what the ring makes.
var Person = source.Person{Name: "shoal", Email: "shoal@localhost"}

// maxComing bounds how many commits that come in are listed.
const maxComing = 100

// Promote makes the commit that moves an environment, if its gates are open: a promotion, a rollback, a hotfix, a pin. It is pushed by
// compare-and-swap; what is on the branch is then judged like any commit there. What was made for the same request before, by whomever, is
// found again, and not made twice.
func (n *Node) Promote(ctx context.Context, req api.PromoteRequest) (api.Promoted, error) {
	d := n.Deployer
	m, err := d.motion(ctx, req)
	if _, astray := errors.AsType[astrayError](err); astray && d.opt.Lander.Refresh(ctx) == nil { // another node may have moved the branch
		m, err = d.motion(ctx, req)
	}
	if err != nil {
		return api.Promoted{}, err
	}
	out := m.answer
	if m.coming != nil && !out.Already {
		if m.would == nil {
			if m.would, err = d.imagine(ctx, m.env, m.of.ID, m.asked.active); err != nil {
				return out, err
			}
		}
		if out.Report, err = m.would.report(m.env, m.of.ID, m.asked.active); err != nil {
			return out, err
		}
	}
	if req.DryRun || out.Already || out.Verdict.State != promote.Open {
		return out, nil
	}
	if m.would != nil && len(m.would.built.Over) > 0 {
		return out, m.would.built.Over // it would not come in
	}
	if held, err := d.opt.Claims.Held(ctx); err != nil || held != "" {
		return out, errors.Join(err, errors.New(held))
	}
	if m.made(req) {
		return m.found(out), nil
	}
	if why := m.stale(req); why != nil {
		return out, why
	}
	if m.would != nil { // it would not come in
		if refused := desired.Guard(m.would.before, m.would.built.Set, d.allowed(m, req)); len(refused) > 0 {
			return out, fmt.Errorf("%w; --allow-delete says that it is meant", refused)
		}
	}
	id, err := d.make(ctx, m, req)
	if errors.Is(err, ErrMoved) {
		return d.overtaken(ctx, m, req, out, err)
	}
	if err != nil {
		return out, err
	}
	out.Commit = string(id)
	d.opt.Journal.Add(Event{Object: "Environment " + req.Environment, Reason: "Asked", Message: fmt.Sprintf("%s by %s: commit %s", req.Act, cmp.Or(req.By, "somebody"), id.Short())})
	return out, nil
}

// motion is what is asked of an environment, understood and judged.
type motion struct {
	env    render.Environment
	asked  asked
	of     source.Commit // that comes in
	tip    source.Commit // on which the commit is made; the zero one: there is no branch yet
	coming []source.Commit
	owed   []promote.Debt
	undone []promote.Undone
	would  *imagined // nil: it was not rendered
	answer api.Promoted
}

func (d *Deployer) motion(ctx context.Context, req api.PromoteRequest) (*motion, error) {
	l, err := d.list(ctx)
	switch {
	case err != nil:
		return nil, err
	case l == nil:
		return nil, fmt.Errorf("%s does not exist yet: no environment is declared", d.opt.Branch)
	case len(l.problems) > 0:
		return nil, fmt.Errorf("shoal.cue of %s cannot be read: %w", branch(d.opt.Branch), l.problems)
	}
	at := slices.IndexFunc(l.environments, func(e render.Environment) bool { return e.Name == req.Environment })
	if at < 0 {
		return nil, fmt.Errorf("environment %q: there is none of that name; shoal.cue of %s has %s", req.Environment, branch(d.opt.Branch), environmentNames(l.environments))
	}
	m := &motion{env: l.environments[at]}
	declared, err := promote.Declared(m.env)
	if err != nil {
		return nil, err
	}
	var s *cluster.State
	d.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	if ring, ok := s.Ring(); !ok || ring.Engine < cluster.PromotionSince {
		return nil, fmt.Errorf("promotions want engine version %d, and the ring runs an older one: every node must be upgraded first", cluster.PromotionSince)
	}
	m.asked.rules = s.Rules(req.Environment, declared)
	m.asked.active = d.active(req.Environment)
	tip, exists, err := d.opt.Source.Head(ctx, m.env.Ref)
	if err != nil {
		return nil, err
	}
	if exists {
		m.asked.tip = tip
		if m.tip, err = d.opt.Source.Commit(ctx, tip); err != nil {
			return nil, fmt.Errorf("read the tip of %s: %w", branch(m.env.Ref), err)
		}
	}
	if err := d.understand(ctx, s, m, req); err != nil {
		return nil, err
	}
	a := &m.asked.ask
	if m.of.ID != "" && a.Act != promote.Pin && a.Act != promote.Unpin {
		active := source.ID("")
		if m.asked.active != nil {
			active = m.asked.active.Commit
		}
		if m.coming, err = d.comesIn(ctx, a.Act, active, m.of.ID); err != nil {
			return nil, err
		}
	}
	if a.Act == promote.Hotfix {
		m.asked.of = m.of.ID
	}
	if m.made(req) && (m.asked.active == nil || m.asked.active.Commit != m.tip.ID) {
		m.asked.tip = "" // as it was judged when it was made: its own pin does not hold it
		if first := m.tip.Parents[0]; first != m.of.ID {
			m.asked.tip = first
		}
	}
	facts, err := d.factsOf(ctx, m.asked)
	if err != nil {
		return nil, err
	}
	m.owed, m.undone = facts.Owed, facts.Undone
	claim := cluster.Claim{Declared: declared, Ask: *a, Facts: facts}
	if err := d.foresee(ctx, s, m, &claim.Facts); err != nil {
		return nil, err
	}
	m.answer = api.Promoted{
		Act: a.Act, Environment: req.Environment, From: a.From, Ref: m.env.Ref, Source: string(m.of.ID),
		Render: string(a.Render), Over: cmp.Or(string(m.tip.ID), api.OverNothing), Verdict: s.Judge(req.Environment, claim, d.ringTime()),
	}
	if active := m.asked.active; active != nil {
		m.answer.Active = string(active.Commit)
		m.answer.Already = facts.Active.Tree == m.of.Tree && (a.Act == promote.Promotion || a.Act == promote.Rollback)
	}
	for i, c := range m.coming {
		if i == maxComing {
			m.answer.More = len(m.coming) - maxComing
			break
		}
		m.answer.Coming = append(m.answer.Coming, api.ComingCommit{Commit: string(c.ID), Subject: promote.Line(c.Subject(), 200), Author: promote.Line(c.Author.Name, 100)})
	}
	return m, nil
}

// foresee compares what would run with another environment, where a difference would stop it.
func (d *Deployer) foresee(ctx context.Context, s *cluster.State, m *motion, f *promote.Facts) (err error) {
	same := m.asked.rules.Same
	if same == nil || m.of.ID == "" || m.asked.ask.Act != promote.Promotion && m.asked.ask.Act != promote.Hotfix {
		return nil
	}
	other, ok := s.Environments().Get(same.As)
	if !ok {
		return nil
	}
	if m.would, err = d.imagine(ctx, m.env, m.of.ID, m.asked.active); err != nil {
		return err
	}
	differences, err := d.differences(m.env, m.would.built.Set, m.would.content, other, same.Except)
	if err == nil {
		compared(f, differences)
	}
	return err
}

func environmentNames(environments []render.Environment) string {
	var out []string
	for _, e := range environments {
		out = append(out, e.Name)
	}
	return strings.Join(out, ", ")
}

// understand turns a request into an ask, and finds the commit that comes in.
func (d *Deployer) understand(ctx context.Context, s *cluster.State, m *motion, req api.PromoteRequest) error {
	a := promote.Ask{Act: req.Act, By: promote.Line(req.By, 200), Reason: promote.Line(req.Reason, promote.MaxReason)}
	if req.PinFor < 0 || req.PinFor > (366*24*time.Hour).Milliseconds() {
		return fmt.Errorf("a pin of %s: expected at most 366 days", time.Duration(req.PinFor)*time.Millisecond)
	}
	if req.PinFor > 0 {
		a.PinUntil = (d.ringTime() + req.PinFor + 999) / 1000 * 1000
	}
	var of source.ID
	var err error
	if req.Source != "" {
		if of, err = d.opt.Lander.Expand(ctx, req.Source); err != nil {
			return err
		}
	}
	switch req.Act {
	case promote.Promotion:
		if a.From, err = from(m.asked.rules, req.From); err != nil {
			return err
		}
		run, ok := runOf(s, a.From, of)
		if !ok && of == "" {
			return fmt.Errorf("%s runs nothing yet", a.From)
		}
		if of == "" {
			of = run.Commit
		}
		a.Source, a.Render = of, cmp.Or(desired.Digest(req.Render), run.Render)
	case promote.Rollback:
		if of == "" {
			if of, err = before(s, req.Environment); err != nil {
				return err
			}
		}
		a.Source = of
	case promote.Hotfix:
		if of == "" {
			return errors.New("a hotfix: which commit? expected the one that has the change")
		}
		a.Waived = slices.Compact(slices.Sorted(slices.Values(req.Waive)))
		if brings := m.tip.Parents; len(brings) == 2 && brings[1] == of {
			break // it was made before
		}
		if relation, err := d.opt.Source.Relate(ctx, m.tip.ID, of); err != nil || relation != source.Forward {
			return errors.Join(fmt.Errorf("commit %s does not stand on top of %s of %s: it would take back what it does not have", of.Short(), m.tip.ID.Short(), branch(m.env.Ref)), err)
		}
	case promote.Pin:
		if a.PinUntil == 0 || a.Reason == "" {
			return errors.New("a pin: expected for how long, and a reason")
		}
		of = m.tip.ID
	case promote.Unpin:
		of = m.tip.ID
	default:
		return fmt.Errorf("%q is nothing that can be asked of an environment", req.Act)
	}
	if of == "" {
		return fmt.Errorf("%s has no commit yet", branch(m.env.Ref))
	}
	if m.of, err = d.opt.Source.Commit(ctx, of); err != nil {
		return fmt.Errorf("read commit %s: %w", of.Short(), err)
	}
	a.Request = promote.Request(req.Environment, m.tip.ID, a)
	m.asked.ask = a
	return nil
}

// from is the environment that a promotion comes from.
func from(rules promote.Environment, asked string) (string, error) {
	switch {
	case asked != "":
		return asked, nil
	case len(rules.After) == 1:
		return rules.After[0], nil
	case len(rules.After) == 0:
		return "", fmt.Errorf("nothing is promoted into %s: shoal.cue says nothing of `after` there; people push to %s", rules.Name, rules.Ref)
	}
	return "", fmt.Errorf("%s is promoted into from %s: name one", rules.Name, strings.Join(rules.After, " and "))
}

// runOf is the last run of a commit in an environment, or what it runs now for "".
func runOf(s *cluster.State, environment string, commit source.ID) (last cluster.Run, ok bool) {
	for r := range s.History(environment) {
		if commit == "" || r.Commit == commit {
			last, ok = *r, true
		}
	}
	return last, ok
}

// before is the commit of the last run that was another render than what runs now, and that nobody went back from.
func before(s *cluster.State, environment string) (source.ID, error) {
	runs := slices.Collect(s.History(environment))
	for i := len(runs) - 2; i >= 0; i-- {
		if runs[i].Render != runs[len(runs)-1].Render && runs[i].Undone == "" {
			return runs[i].Commit, nil
		}
	}
	return "", fmt.Errorf("%s has run nothing else, as far as is known; name a commit with --to", environment)
}

// make makes the commit and puts it onto the environment's branch.
func (d *Deployer) make(ctx context.Context, m *motion, req api.PromoteRequest) (source.ID, error) {
	a := m.asked.ask
	a.Evidence = m.answer.Verdict.Evidence
	who := Person
	who.When = time.UnixMilli(d.ringTime()).UTC().Truncate(time.Second)
	c, err := promote.Make(req.Environment, a, body(m), m.tip, m.of, who)
	if err != nil {
		return "", err
	}
	if allow := d.allowed(m, req); allow != "" {
		c.Message = strings.TrimRight(c.Message, "\n") + "\n" + source.TrailerAllowDelete + ": " + allow + "\n"
	}
	raw := source.EncodeCommit(c)
	if d.opt.Sign != nil {
		signed, err := d.opt.Sign(raw)
		if err != nil && d.mustSign(ctx, m.asked.active) {
			return "", fmt.Errorf("sign: %w", err)
		}
		if err == nil {
			raw = signed
		}
	}
	id, err := d.opt.Lander.Land(ctx, m.env.Ref, m.tip.ID, raw)
	if err != nil {
		return "", fmt.Errorf("push to %s: %w", branch(m.env.Ref), err)
	}
	return id, nil
}

// body lists what comes along.
func body(m *motion) string {
	const most = 40
	var b strings.Builder
	for i, c := range m.coming {
		if i == most {
			fmt.Fprintf(&b, "and %d more\n", len(m.coming)-most)
			break
		}
		fmt.Fprintf(&b, "%s %s\n", c.ID.Short(), promote.Line(c.Subject(), 100))
	}
	return b.String()
}

// allowed is what may be deleted: what somebody asks for now, or what was said in a commit that comes in, which has passed for it where
// it ran before.
func (d *Deployer) allowed(m *motion, req api.PromoteRequest) string {
	if req.AllowDelete != "" {
		return promote.Line(req.AllowDelete, 20)
	}
	if req.Act != promote.Promotion {
		return ""
	}
	for _, c := range m.coming {
		if allow, ok := c.Trailer(source.TrailerAllowDelete); ok {
			return promote.Line(allow, 20)
		}
	}
	return ""
}

// History is what happened to an environment, as its branch tells, newest first.
func (n *Node) History(ctx context.Context, environment string, most int) ([]promote.Event, error) {
	d := n.Deployer
	ref := ""
	if l, err := d.list(ctx); err == nil && l != nil {
		for _, e := range l.environments {
			if e.Name == environment {
				ref = e.Ref
			}
		}
	}
	if active := d.active(environment); ref == "" && active != nil {
		ref = active.Ref
	}
	if ref == "" {
		return nil, fmt.Errorf("environment %q: %w", environment, api.ErrNotFound)
	}
	tip, ok, err := d.opt.Source.Head(ctx, ref)
	if err != nil || !ok {
		return nil, err
	}
	events, err := d.events(ctx, tip)
	return events[:min(len(events), most)], err
}
