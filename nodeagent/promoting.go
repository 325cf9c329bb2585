package nodeagent

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// PromotingOptions are what a Promoting is made of; all are required.
type PromotingOptions struct {
	Node    *Node
	Leading func() bool
	Ask     func(ctx context.Context, c promote.Check) (ok bool, text string)
	Log     *slog.Logger
}

// Promoting is what the leader does for environments by itself: it asks the questions of their gates and writes down what it finds,
// and promotes where shoal.cue says so, as soon as all gates are open.
type Promoting struct {
	opt PromotingOptions

	said   map[string]source.ID // by environment: what was last promoted in vain, so that the log says so once
	closed map[string]seen      // by environment
}

// NewPromoting makes one; Run starts it.
func NewPromoting(opt PromotingOptions) *Promoting {
	return &Promoting{opt: opt, said: map[string]source.ID{}, closed: map[string]seen{}}
}

const (
	promoteEvery = time.Second
	atOnce       = 8 // questions
)

// Run works until ctx ends.
func (p *Promoting) Run(ctx context.Context) error {
	tick := time.NewTicker(promoteEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if !p.opt.Leading() {
			continue
		}
		p.check(ctx)
		p.takeBack(ctx)
		p.promote(ctx)
	}
}

// rules are the environments with what rules in each, as far as they are known.
func (p *Promoting) rules() (out []promote.Environment, s *cluster.State) {
	d := p.opt.Node.Deployer
	l := d.lastList.Load()
	if l == nil || len(l.problems) > 0 {
		return nil, nil
	}
	order, problems := promote.Repository(l.environments)
	if len(problems) > 0 || !slices.ContainsFunc(order, func(e promote.Environment) bool { return len(e.After) > 0 }) {
		return nil, nil
	}
	d.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	if ring, ok := s.Ring(); !ok || ring.Engine < cluster.PromotionSince {
		return nil, nil
	}
	for _, e := range order {
		out = append(out, s.Rules(e.Name, e))
	}
	return out, s
}

// question is one that is due.
type question struct {
	environment, gate string
	render            desired.Digest
	check             promote.Check
}

// check asks what is due, and writes down the answers.
func (p *Promoting) check(ctx context.Context) {
	rules, s := p.rules()
	if s == nil {
		return
	}
	now := p.opt.Node.Deployer.ringTime()
	var due []question
	for _, e := range rules {
		for _, name := range sortedNames(e.Gates.Checks) {
			c := e.Gates.Checks[name]
			for _, from := range e.After {
				if len(c.On) > 0 && !slices.Contains(c.On, from) {
					continue
				}
				run, ok := runOf(s, from, "")
				q := question{from, promote.GateChecks + ":" + name, run.Render, c}
				if ok && !answered(s, q, now) && !slices.ContainsFunc(due, func(o question) bool { return o.environment == q.environment && o.gate == q.gate }) {
					due = append(due, q)
				}
			}
		}
	}
	var group sync.WaitGroup
	limit := make(chan struct{}, atOnce)
	for _, q := range due {
		limit <- struct{}{}
		group.Go(func() {
			defer func() { <-limit }()
			ok, text := p.opt.Ask(ctx, q.check)
			if ctx.Err() != nil {
				return
			}
			e := &cluster.Evidence{Environment: q.environment, Gate: q.gate, Render: q.render, OK: ok, Text: text, Expires: p.opt.Node.Deployer.ringTime() + q.check.Counts()}
			if _, err := p.opt.Node.Deployer.opt.Ledger.Append(ctx, cluster.Input{Evidence: e}); err != nil {
				p.opt.Log.WarnContext(ctx, "evidence not written down, will be asked again", "gate", q.gate, "environment", q.environment, "err", err)
			}
		})
	}
	group.Wait()
}

// answered tells whether there is an answer that need not be asked for again yet.
func answered(s *cluster.State, q question, now int64) bool {
	for e := range s.EvidenceOn(q.environment, q.render) {
		if e.Gate == q.gate {
			return now < e.Since+q.check.Every()
		}
	}
	return false
}

// promote takes into each environment that shoal.cue says so of the newest run whose gates are all open.
func (p *Promoting) promote(ctx context.Context) {
	rules, s := p.rules()
	d := p.opt.Node.Deployer
	for _, e := range rules {
		if e.Promote != promote.Auto {
			continue
		}
		now := d.see(ctx, e.Name, e.Ref)
		if p.closed[e.Name].still(now) {
			continue
		}
		for _, from := range e.After {
			promoted, next := p.from(ctx, s, e, from)
			if next > now.at && (now.next == 0 || next < now.next) {
				now.next = next
			}
			if promoted {
				break
			}
		}
		p.closed[e.Name] = now
	}
}

// maxTries bounds how many runs are tried, the newest first.
const maxTries = 8

// from promotes what an environment runs or ran lately. It tells whether there was anything to promote, and when a gate opens by
// itself (ms; 0: none does).
func (p *Promoting) from(ctx context.Context, s *cluster.State, e promote.Environment, from string) (promoted bool, next int64) {
	runs := slices.Collect(s.History(from))
	slices.Reverse(runs)
	current, _ := runOf(s, e.Name, "")
	var last source.ID
	for _, r := range runs[:min(len(runs), maxTries)] {
		if r.Tree == current.Tree {
			return false, next // what is before it is older than what runs
		}
		if r.Undone != "" || r.Commit == last {
			continue
		}
		last = r.Commit
		req := api.PromoteRequest{Act: promote.Promotion, Environment: e.Name, From: from, Source: string(r.Commit), By: promote.Automatic, DryRun: true}
		m, err := p.opt.Node.Deployer.motion(ctx, req)
		switch {
		case err != nil:
			p.tell(ctx, e.Name, r.Commit, err)
			return false, next
		case m.answer.Already:
			return false, next
		case slices.ContainsFunc(m.undone, func(u promote.Undone) bool { return u.Source == r.Commit }):
			return false, next // somebody went back from it, and not to one that was passed over before it
		case m.answer.Verdict.State != promote.Open:
			if at := m.answer.Verdict.Next; at > 0 && (next == 0 || at < next) {
				next = at
			}
			continue
		}
		req.DryRun, req.Render, req.Over = false, m.answer.Render, m.answer.Over
		if _, err := p.opt.Node.Promote(ctx, req); err != nil {
			p.tell(ctx, e.Name, r.Commit, err)
		}
		return true, 0
	}
	return false, next
}

// tell says once why a commit is not promoted.
func (p *Promoting) tell(ctx context.Context, environment string, commit source.ID, err error) {
	if p.said[environment] == commit {
		return
	}
	p.said[environment] = commit
	p.opt.Log.WarnContext(ctx, "not promoted, will be tried again", "environment", environment, "commit", commit.Short(), "err", err)
	p.opt.Node.Deployer.opt.Journal.Add(Event{Object: "Environment " + environment, Reason: "NotPromoted", Message: "commit " + commit.Short() + ": " + err.Error()})
}
