package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/diff"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Plan says what would be done if an environment came to a tree of manifests. Objects are compared with what runs, or with
// what another tree renders to; pods always go from what runs, on a fork of the ring's state.
func (n *Node) Plan(ctx context.Context, req api.PlanRequest) (api.Plan, error) {
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	if req.To == nil {
		losses, err := n.losses(s, n.Agent.opt.Content, req.Without)
		return api.Plan{Unchanged: s.Pods().Len(), Losses: losses}, err
	}
	objects, err := newBrought(req.Objects, n.Mirror.Objects())
	if err != nil {
		return api.Plan{}, err
	}
	p := planning{node: n, state: s, content: newOverlay(n.Agent.opt.Content), without: req.Without}
	if p.to, err = n.open(ctx, s, objects, *req.To); err != nil {
		return api.Plan{}, err
	}
	if req.From != nil {
		from, err := n.open(ctx, s, objects, *req.From)
		if err != nil {
			return api.Plan{}, err
		}
		p.from = &from
	}
	lists, err := n.lists(ctx, s, p.to, p.from)
	if err != nil {
		return api.Plan{}, err
	}
	var out api.Plan
	if slices.Contains(lists.undeclared, req.Environment) {
		out, err = p.undeclared(req.Environment)
	} else {
		if p.env, err = environmentOf(lists.declared, req.Environment, p.to.branch); err != nil {
			return api.Plan{}, err
		}
		out, err = p.plan(ctx)
	}
	for _, e := range lists.declared {
		out.Declared = append(out.Declared, e.Name)
	}
	out.Undeclared = lists.undeclared
	return out, err
}

// renderer is the one of plans: what somebody proposes must not keep waiting what is to run.
func (n *Node) renderer() Renderer {
	if n.Renderer != nil {
		return n.Renderer
	}
	return n.Deployer.opt.Renderer
}

// planning is one plan of one environment as it is made.
type planning struct {
	node     *Node
	state    *cluster.State
	content  overlay
	env      render.Environment
	to       side
	from     *side // nil: what runs
	without  []string
	active   *cluster.Environment // nil: nothing runs
	running  *desired.Set
	warnings render.Problems
}

func (p *planning) plan(ctx context.Context) (out api.Plan, err error) {
	out = api.Plan{Environment: p.env.Name, Commit: string(p.to.commit)}
	if c := p.node.Claims.Status(); c != nil {
		out.Note = c.Held
	}
	if e, ok := p.state.Environments().Get(p.env.Name); ok {
		p.active, out.From = e, string(e.D)
		if p.running, err = readSet(p.content, e.D); err != nil {
			return out, fmt.Errorf("read what runs in %s: %w", p.env.Name, err)
		}
	}
	before, label, err := p.before(ctx)
	if err != nil {
		return out, err
	}
	if p.from != nil {
		out.FromCommit = string(p.from.commit)
	} else if p.active != nil {
		out.FromCommit = string(p.active.Commit)
	}
	in := diff.Input{Environment: p.env.Name, From: label, To: p.to.name, Before: before, After: before, Content: p.content, Note: out.Note, PodsGoOn: p.state.Pods().Len()}
	apps, problems, err := p.render(ctx, p.to, p.env)
	if err != nil {
		return out, err
	}
	if len(problems) > 0 {
		out.Problems, in.Refused = problems, "it cannot be rendered"
		return p.report(out, in)
	}
	next, err := desired.Build(p.env, apps, p.running, p.content)
	if err != nil {
		return out, err
	}
	in.After = next.Set
	if before != p.running {
		over, err := desired.Build(p.env, apps, before, p.content)
		if err != nil {
			return out, err
		}
		in.After = over.Set
		if p.active != nil {
			in.Running = p.active.Commit.Short()
		} else {
			in.Running = diff.Nothing
		}
	}
	out.To, out.Held, out.Problems, out.Warnings = string(next.Set.D), next.Held, next.Problems, append(p.warnings, next.Warnings...)
	if len(next.Over) > 0 {
		in.Refused = next.Over[0].Text
	}
	allow, _ := p.to.words.Trailer(source.TrailerAllowDelete)
	if refused := desired.Guard(p.running, next.Set, allow); len(refused) > 0 {
		if p.to.commit == "" {
			out.Warnings = append(out.Warnings, refused...) // it is no commit yet: its message may still say so
		} else {
			out.Problems = append(slices.Clone(out.Problems), refused...).Sorted()
			in.Refused = refused[0].Text
		}
	}
	did, err := p.node.carryOut(p.state, p.content, target{
		environment: p.env.Name, namespace: p.env.Namespace, next: next.Set, manifest: next.Manifest, held: next.Held, without: p.without,
	})
	if err != nil {
		return out, err
	}
	return p.carried(out, in, did)
}

// carried completes a plan with what a dry run did.
func (p *planning) carried(out api.Plan, in diff.Input, did carriedOut) (api.Plan, error) {
	if did.refused != "" {
		in.Refused = did.refused
		out.Problems = append(slices.Clone(out.Problems), render.Problem{File: p.env.Ref, Text: did.refused})
	}
	out.Pods, out.Unchanged, out.Actions, out.Losses = did.pods, did.unchanged, did.actions, did.losses
	in.PodsGoOn = did.unchanged
	for _, c := range did.pods {
		in.Pods = append(in.Pods, diff.Pod{Op: c.Op, Object: c.Name, Text: c.Why})
	}
	return p.report(out, in)
}

// before is the set that the plan is compared with, and what people call it. It is p.running if that is what From is.
func (p *planning) before(ctx context.Context) (*desired.Set, string, error) {
	switch {
	case p.from == nil && p.active == nil:
		return nil, diff.Nothing, nil
	case p.from == nil:
		return p.running, p.active.Commit.Short(), nil
	case p.active != nil && p.from.commit != "" && p.from.commit == p.active.Commit:
		return p.running, p.from.name, nil
	}
	declared, err := p.node.listOf(ctx, *p.from)
	if err != nil {
		return nil, "", err
	}
	i := slices.IndexFunc(declared, func(e render.Environment) bool { return e.Name == p.env.Name })
	if i < 0 {
		return nil, p.from.name, nil
	}
	apps, problems, err := p.render(ctx, *p.from, declared[i])
	if err != nil {
		return nil, "", err
	}
	if len(problems) > 0 {
		return nil, "", fmt.Errorf("%s cannot be rendered, so nothing can be compared with it: %w", p.from.name, problems)
	}
	built, err := desired.Build(declared[i], apps, nil, p.content)
	if err != nil {
		return nil, "", err
	}
	for _, problem := range built.Problems {
		problem.Text = "in " + p.from.name + ", whose app is left out of the comparison: " + problem.Text
		p.warnings = append(p.warnings, problem)
	}
	if p.running != nil && built.Set.D == p.running.D {
		return p.running, p.from.name, nil
	}
	return built.Set, p.from.name, nil
}

// render evaluates a side's apps; what changed since they were rendered last is evaluated alone. What the content store
// does not have of them is read from the result.
func (p *planning) render(ctx context.Context, at side, env render.Environment) ([]desired.App, render.Problems, error) {
	rendered, err := p.node.renderer().Render(ctx, at.tree, env)
	if problems, ok := errors.AsType[render.Problems](err); ok {
		return nil, problems, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("render %s: %w", at.name, err)
	}
	if err := p.content.bring(rendered); err != nil {
		return nil, nil, err
	}
	apps := make([]desired.App, len(rendered))
	for i := range rendered {
		apps[i] = rendered[i].App
	}
	return apps, nil, nil
}

// report completes a plan with its report.
func (p *planning) report(out api.Plan, in diff.Input) (api.Plan, error) {
	in.Held = out.Held
	for _, problem := range out.Problems {
		in.Problems = append(in.Problems, problem.String())
	}
	for _, warning := range out.Warnings {
		in.Warnings = append(in.Warnings, warning.String())
	}
	r, err := diff.New(in)
	if err != nil {
		return out, err
	}
	out.Report, out.Digest = &r, string(r.Digest)
	for _, it := range slices.Concat(r.First, r.Rest) {
		if it.Op == "" {
			continue
		}
		change := api.Change{Op: string(it.Op), Name: it.Object}
		for _, f := range it.Fields {
			change.Fields = append(change.Fields, f.String())
		}
		out.Objects = append(out.Objects, change)
	}
	return out, nil
}
