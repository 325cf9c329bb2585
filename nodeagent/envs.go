package nodeagent

import (
	"context"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Envs says what the environments run and what is between them; of one, or of all for "". They come in the order in which commits
// go through them.
func (n *Node) Envs(ctx context.Context, only string) (api.Envs, error) {
	d := n.Deployer
	l, err := d.list(ctx)
	switch {
	case err != nil:
		return api.Envs{}, err
	case l == nil:
		return api.Envs{}, nil
	case len(l.problems) > 0:
		return api.Envs{}, fmt.Errorf("shoal.cue of %s cannot be read: %w", branch(d.opt.Branch), l.problems)
	}
	order, problems := promote.Repository(l.environments)
	if len(problems) > 0 {
		return api.Envs{}, problems
	}
	var s *cluster.State
	d.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	var out api.Envs
	for _, declared := range order {
		if only != "" && declared.Name != only {
			continue
		}
		at := slices.IndexFunc(l.environments, func(e render.Environment) bool { return e.Name == declared.Name })
		e, err := n.envOf(ctx, s, l.environments[at], s.Rules(declared.Name, declared))
		if err != nil {
			return out, fmt.Errorf("%s: %w", declared.Name, err)
		}
		out.Environments = append(out.Environments, e)
	}
	if only != "" && len(out.Environments) == 0 {
		return out, fmt.Errorf("environment %q: there is none of that name; shoal.cue of %s has %s", only, branch(d.opt.Branch), environmentNames(l.environments))
	}
	return out, nil
}

func (n *Node) envOf(ctx context.Context, s *cluster.State, env render.Environment, rules promote.Environment) (api.EnvOf, error) {
	d := n.Deployer
	out := api.EnvOf{Name: env.Name, Ref: env.Ref, After: rules.After, Auto: rules.Promote == promote.Auto}
	active, running := s.Environments().Get(env.Name)
	if running {
		out.Commit = string(active.Commit)
		if c, err := d.opt.Source.Commit(ctx, active.Commit); err == nil {
			out.Subject = promote.Line(c.Subject(), 200)
		}
		run, ok := runOf(s, env.Name, "")
		if ok {
			out.Act, out.Since, out.Healthy = run.Act, run.Since, run.Healthy
		}
		if texts, more := s.Ill(env.Name, 3); len(texts) > 0 {
			out.Ill = texts[0]
			if more += len(texts) - 1; more > 0 {
				out.Ill += fmt.Sprintf(", and %d more", more)
			}
		}
		out.Apps = apps(s, active, rules.After)
	}
	if err := n.standing(ctx, s, env, rules, &out); err != nil {
		return out, err
	}
	if rules.Same != nil && running {
		if other, ok := s.Environments().Get(rules.Same.As); ok {
			set, err := d.decodeSet(active.D)
			if err != nil {
				return out, err
			}
			out.As = rules.Same.As
			if out.Different, err = d.differences(env, set, d.opt.Content, other, rules.Same.Except); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

func (d *Deployer) decodeSet(digest desired.Digest) (*desired.Set, error) {
	b, err := d.opt.Content.Get(digest)
	if err != nil {
		return nil, fmt.Errorf("read what is active: %w", err)
	}
	return desired.DecodeSet(b)
}

// apps are the apps of an environment with the commit that last changed each there. One is ahead where an environment before this one
// runs other templates of it.
func apps(s *cluster.State, env *cluster.Environment, after []string) []api.AppOf {
	type state struct {
		commit    source.ID
		index     uint64
		templates map[string]desired.Digest
	}
	read := func(environment string) map[string]*state {
		out := map[string]*state{}
		for o := range s.ObjectsOf(environment) {
			a := out[o.App]
			if a == nil {
				a = &state{templates: map[string]desired.Digest{}}
				out[o.App] = a
			}
			if v := s.Objects().Version(o.Key); v > a.index || a.commit == "" {
				a.index, a.commit = v, o.Commit
			}
			if o.Template != "" {
				a.templates[o.Key.Kind+"/"+o.Key.Name] = o.Template
			}
		}
		return out
	}
	mine := read(env.Name)
	var out []api.AppOf
	for _, name := range sortedNames(mine) {
		out = append(out, api.AppOf{Name: name, Commit: string(mine[name].commit)})
	}
	for _, from := range after {
		theirs := read(from)
		for i := range out {
			t, ok := theirs[out[i].Name]
			if !ok || len(t.templates) != len(mine[out[i].Name].templates) {
				out[i].Ahead = true
				continue
			}
			for k, digest := range mine[out[i].Name].templates {
				out[i].Ahead = out[i].Ahead || t.templates[k] != digest
			}
		}
		for _, name := range sortedNames(theirs) {
			if mine[name] == nil {
				out = append(out, api.AppOf{Name: name, Ahead: true})
			}
		}
	}
	return out
}

func sortedNames[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// standing is what waits before an environment, and what its branch says of pins and hotfixes.
func (n *Node) standing(ctx context.Context, s *cluster.State, env render.Environment, rules promote.Environment, out *api.EnvOf) error {
	d := n.Deployer
	if v := d.Verdicts()[env.Name]; v.Gates.State != "" && v.Gates.State != promote.Open {
		out.Held, out.Verdict = string(v.Commit), v.Gates
	}
	if len(rules.After) == 0 {
		return nil
	}
	tip, ok, err := d.opt.Source.Head(ctx, env.Ref)
	if err != nil {
		return err
	}
	if ok {
		events, err := d.events(ctx, tip)
		if err != nil {
			return err
		}
		out.Pin = promote.PinnedBy(events, d.ringTime())
	}
	for _, from := range rules.After {
		theirs, ok := s.Environments().Get(from)
		if !ok {
			continue
		}
		out.Behind = append(out.Behind, api.Behind{Environment: from})
		b := &out.Behind[len(out.Behind)-1]
		coming, err := d.comesIn(ctx, promote.Promotion, source.ID(out.Commit), theirs.Commit)
		if err != nil {
			return err
		}
		for _, c := range coming {
			b.Commits++
			if when := c.Committer.When.UnixMilli(); b.Since == 0 || when < b.Since {
				b.Since = when
			}
		}
		if out.Held != "" || b.Commits == 0 {
			continue
		}
		req := api.PromoteRequest{Act: promote.Promotion, Environment: env.Name, From: from}
		if out.Auto {
			req.By = promote.Automatic // what holds the ring back need not hold people
		}
		m, err := d.motion(ctx, req)
		if err != nil {
			return err
		}
		if m.answer.Already { // the same by another way, as with a hotfix that was merged back
			b.Commits, b.Since = 0, 0
			continue
		}
		if out.Next == "" {
			out.Next, out.Verdict = m.answer.Source, m.answer.Verdict
			out.Owed = m.owed
		}
	}
	return nil
}
