package nodeagent

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// A preview is an environment that no shoal.cue declares: the ledger says that it should be there, and which commit it shows. Such a commit
// passes no gates and may stand anywhere in the history; what may not be in it is its sandbox's to say.

// PreviewClass chooses the values of previews: values/preview.cue.
const PreviewClass = "preview"

// previews are the environments of the previews that should be there, with the commit that each shows, but for those whose name is declared.
func (d *Deployer) previews(declared []render.Environment) (environments []render.Environment, shows map[string]source.ID) {
	var all []preview.Have
	d.opt.Ledger.View(func(s *cluster.State) {
		for p := range s.Previews().Values() {
			all = append(all, *p)
		}
	})
	shows = map[string]source.ID{}
	for _, p := range all {
		if slices.ContainsFunc(declared, func(e render.Environment) bool { return e.Name == p.Name }) {
			continue
		}
		shows[p.Name] = p.Commit
		environments = append(environments, PreviewEnvironment(p.Environment))
	}
	slices.SortFunc(environments, func(a, b render.Environment) int { return cmp.Compare(a.Name, b.Name) })
	return environments, shows
}

// headOf is the commit that an environment is to show.
func (d *Deployer) headOf(ctx context.Context, l *list, env render.Environment) (id source.ID, ok bool, err error) {
	id, isPreview := l.shows[env.Name]
	if !isPreview {
		return d.opt.Source.Head(ctx, env.Ref)
	}
	return id, true, d.opt.Source.Bring(ctx, id)
}

// OwnPins begin the names under which commits are pinned that are of no environment.
const OwnPins = "_"

// letGo unpins what previews showed that are gone, and what those that are there showed before.
func (d *Deployer) letGo(ctx context.Context, l *list) {
	for environment, pins := range d.opt.Source.AllPins() {
		active := d.active(environment)
		shows, isPreview := l.shows[environment]
		switch {
		case strings.HasPrefix(environment, OwnPins):
			continue
		case isPreview && (active == nil || active.Commit != shows): // it has not come that far
			continue
		case !isPreview && (active != nil || l.declares(environment)):
			continue
		}
		for _, id := range pins {
			if id == shows {
				continue
			}
			if err := d.opt.Source.Unpin(ctx, environment, id); err != nil {
				d.opt.Log.WarnContext(ctx, "commit of a preview not unpinned", "preview", environment, "commit", id.Short(), "err", err)
			}
		}
	}
}

// PreviewEnvironment is what a render of a preview may know.
func PreviewEnvironment(p preview.Environment) render.Environment {
	env := render.Environment{Name: p.Name, Ref: "refs/heads/" + p.Branch, Class: PreviewClass, Namespace: p.Name, NoSecrets: true}
	env.DenyEgress, env.Restricted = p.Sandbox.DenyEgress, p.Sandbox.Restricted
	if p.Number > 0 {
		env.PR = strconv.Itoa(p.Number)
		env.Ref = "refs/pull/" + env.PR + "/head"
	}
	return env
}
