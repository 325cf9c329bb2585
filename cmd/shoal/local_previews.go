package main

import (
	"context"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent"
)

// anyPreview stands for all previews of a repository that has any: that of a pull request 1, or of a branch that fits the pattern, from the
// repository itself.
func anyPreview(environments []render.Environment) (render.Environment, bool) {
	policy, ok, problems := promote.Previews(environments, "")
	if !ok || len(problems) > 0 || slices.ContainsFunc(environments, func(e render.Environment) bool { return e.Name == preview.Class }) {
		return render.Environment{}, false
	}
	pull := preview.Pull{Number: 1, Branch: "topic"}
	if policy.From != preview.FromPulls {
		pull = preview.Pull{Branch: strings.ReplaceAll(policy.From, "*", "topic")}
	}
	env := nodeagent.PreviewEnvironment(preview.Environment{Name: preview.Name(pull), Number: pull.Number, Branch: pull.Branch, Nodes: policy.Nodes, Each: policy.Each})
	env.Policy = environments[0].Policy.OfPreview()
	return env, true
}

// calledHere is what people call an environment on the command line: its name, and "preview" for the one that stands for all previews.
func calledHere(env render.Environment) string {
	if env.SecretsOf == preview.Class {
		return preview.Class
	}
	return env.Name
}

// environmentOrPreview picks the environment that is meant, or for "preview" what stands for all previews.
func (l *local) environmentOrPreview(ctx context.Context, tree source.Tree, name string) (render.Environment, error) {
	if name == preview.Class {
		all, problems, err := l.renderer.Environments(ctx, tree)
		if err != nil {
			return render.Environment{}, err
		}
		if env, ok := anyPreview(all); ok && len(problems) == 0 {
			return env, nil
		}
	}
	return l.environment(ctx, tree, name)
}
