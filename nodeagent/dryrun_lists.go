package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/diff"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// lists are the environments that there would be.
type lists struct {
	declared   []render.Environment // by name
	undeclared []string             // that run, and that shoal.cue would not declare any more
}

// lists finds them. The default branch declares environments, so where the tree is to become that, its list counts. Else the
// list of the default branch counts for environments that follow another branch, as far as it has them.
func (n *Node) lists(ctx context.Context, s *cluster.State, to side, from *side) (out lists, err error) {
	if out.declared, err = n.listOf(ctx, to); err != nil {
		return out, err
	}
	branch := n.Deployer.opt.Branch
	head, was, err := n.listNow(ctx)
	if err != nil {
		return out, err
	}
	becomes := to.branch == branch || from != nil && (from.branch == branch || head != "" && from.commit == head)
	for _, e := range was {
		if becomes || e.Ref == branch {
			continue
		}
		if i := indexOf(out.declared, e.Name); i >= 0 {
			out.declared[i] = e
		} else {
			out.declared = append(out.declared, e)
		}
	}
	slices.SortFunc(out.declared, func(a, b render.Environment) int { return strings.Compare(a.Name, b.Name) })
	if head == "" && from != nil {
		if was, err = n.listOf(ctx, *from); err != nil {
			return out, err
		}
	}
	for _, e := range was {
		if _, runs := s.Environments().Get(e.Name); runs && indexOf(out.declared, e.Name) < 0 {
			out.undeclared = append(out.undeclared, e.Name)
		}
	}
	return out, nil
}

func indexOf(list []render.Environment, name string) int {
	return slices.IndexFunc(list, func(e render.Environment) bool { return e.Name == name })
}

// listOf is what a tree itself declares.
func (n *Node) listOf(ctx context.Context, at side) ([]render.Environment, error) {
	list, problems, err := n.renderer().Environments(ctx, at.tree)
	if err != nil {
		return nil, fmt.Errorf("read the environments of %s: %w", at.name, err)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s: %w", at.name, problems)
	}
	return list, nil
}

// listNow is what the default branch declares, as far as it can be read; no commit if there is none.
func (n *Node) listNow(ctx context.Context) (source.ID, []render.Environment, error) {
	d := n.Deployer.opt
	head, ok, err := d.Source.Head(ctx, d.Branch)
	if err != nil || !ok {
		return "", nil, err
	}
	tree, err := d.Source.Tree(ctx, head)
	if source.IsFault(err) {
		return head, nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("read %s, which declares the environments: %w", d.Branch, err)
	}
	list, problems, err := n.renderer().Environments(ctx, tree)
	if err != nil || len(problems) > 0 {
		return head, nil, err
	}
	return head, list, nil
}

// environmentOf picks the named one, or the only one that follows branch, or the first.
func environmentOf(declared []render.Environment, name, branch string) (render.Environment, error) {
	var names []string
	var following []render.Environment
	for _, e := range declared {
		if e.Name == name {
			return e, nil
		}
		if e.Ref == branch {
			following = append(following, e)
		}
		names = append(names, e.Name)
	}
	switch {
	case name != "":
		return render.Environment{}, fmt.Errorf("shoal.cue declares no environment %q; it has %s", name, strings.Join(names, ", "))
	case len(following) == 1:
		return following[0], nil
	case len(declared) > 0:
		return declared[0], nil
	}
	return render.Environment{}, errors.New("shoal.cue declares no environment")
}

// undeclared is the plan of an environment that shoal.cue would not declare any more: what runs goes on, or is taken away
// by the word of the commit.
func (p *planning) undeclared(name string) (out api.Plan, err error) {
	e, _ := p.state.Environments().Get(name)
	p.env = render.Environment{Name: name, Ref: e.Ref}
	out = api.Plan{Environment: name, Commit: string(p.to.commit), FromCommit: string(e.Commit), From: string(e.D), To: string(e.D), Unchanged: p.state.Pods().Len()}
	if p.running, err = readSet(p.content, e.D); err != nil {
		return out, fmt.Errorf("read what runs in %s: %w", name, err)
	}
	if c := p.node.Claims.Status(); c != nil {
		out.Note = c.Held
	}
	in := diff.Input{Environment: name, From: e.Commit.Short(), To: p.to.name, Before: p.running, After: p.running, Content: p.content, Note: out.Note, PodsGoOn: out.Unchanged}
	if !p.to.words.Retires(name) {
		out.Warnings = render.Problems{{File: "shoal.cue", Text: fmt.Sprintf(
			"environment %s is not declared any more: what runs goes on, unless a commit says \"%s: %s\"", name, source.TrailerRetire, name)}}
		return p.report(out, in)
	}
	did, err := p.node.retired(p.state, p.content, name, p.running, p.without)
	if err != nil {
		return out, err
	}
	in.After = &desired.Set{Environment: name}
	out.To = ""
	return p.carried(out, in, did)
}
