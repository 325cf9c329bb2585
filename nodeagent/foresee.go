package nodeagent

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/diff"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// imagined is what a commit would be in an environment. Nothing of it is kept.
type imagined struct {
	before  *desired.Set // what runs; nil: nothing
	built   desired.Built
	content desired.Content
}

// imagine renders a commit for an environment.
func (d *Deployer) imagine(ctx context.Context, env render.Environment, commit source.ID, active *cluster.Environment) (*imagined, error) {
	tree, err := d.opt.Source.Tree(ctx, commit)
	if err != nil {
		return nil, fmt.Errorf("read tree of %s: %w", commit.Short(), err)
	}
	rendered, err := d.opt.Renderer.Render(ctx, tree, env)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", commit.Short(), err)
	}
	out := &imagined{}
	if active != nil {
		if out.before, err = d.decodeSet(active.D); err != nil {
			return nil, err
		}
	}
	apps := make([]desired.App, len(rendered))
	for i := range rendered {
		apps[i] = rendered[i].App
	}
	if out.built, err = desired.Build(env, apps, out.before, d.opt.Content); err != nil {
		return nil, err
	}
	blobs, err := d.missing(out.built.Set, rendered)
	if err != nil {
		return nil, err
	}
	over := overlay{below: d.opt.Content, blobs: map[desired.Digest][]byte{}}
	for _, b := range blobs {
		over.blobs[desired.DigestOf(b)] = b
	}
	out.content = over
	return out, nil
}

// report says in what it differs from what runs.
func (i *imagined) report(env render.Environment, commit source.ID, active *cluster.Environment) (*diff.Report, error) {
	in := diff.Input{Environment: env.Name, From: "nothing", To: commit.Short(), Before: i.before, After: i.built.Set, Content: i.content, Held: i.built.Held}
	if active != nil {
		in.From = active.Commit.Short()
	}
	if len(i.built.Over) > 0 {
		in.Refused = i.built.Over[0].Text
	}
	for _, p := range i.built.Problems {
		in.Problems = append(in.Problems, p.String())
	}
	for _, p := range i.built.Warnings {
		in.Warnings = append(in.Warnings, p.String())
	}
	report, err := diff.New(in)
	return &report, err
}
