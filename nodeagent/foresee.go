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

// foresee renders a commit for an environment and says in what that differs from what runs there. Nothing of it is kept.
func (d *Deployer) foresee(ctx context.Context, env render.Environment, commit source.ID, active *cluster.Environment) (*diff.Report, error) {
	tree, err := d.opt.Source.Tree(ctx, commit)
	if err != nil {
		return nil, fmt.Errorf("read tree of %s: %w", commit.Short(), err)
	}
	rendered, err := d.opt.Renderer.Render(ctx, tree, env)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", commit.Short(), err)
	}
	in := diff.Input{Environment: env.Name, To: commit.Short()}
	if active != nil {
		in.From = active.Commit.Short()
		if in.Before, err = d.decodeSet(active.D); err != nil {
			return nil, err
		}
	}
	apps := make([]desired.App, len(rendered))
	for i := range rendered {
		apps[i] = rendered[i].App
	}
	built, err := desired.Build(env, apps, in.Before, d.opt.Content)
	if err != nil {
		return nil, err
	}
	blobs, err := d.missing(built.Set, rendered)
	if err != nil {
		return nil, err
	}
	over := overlay{below: d.opt.Content, blobs: map[desired.Digest][]byte{}}
	for _, b := range blobs {
		over.blobs[desired.DigestOf(b)] = b
	}
	in.After, in.Content, in.Held = built.Set, over, built.Held
	for _, p := range built.Problems {
		in.Problems = append(in.Problems, p.String())
	}
	for _, p := range built.Warnings {
		in.Warnings = append(in.Warnings, p.String())
	}
	report, err := diff.New(in)
	return &report, err
}
