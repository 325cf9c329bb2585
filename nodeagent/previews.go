package nodeagent

import (
	"context"
	"fmt"
	"maps"
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

// previews are the environments of the previews that should be there, with what each shows, but for those whose name is declared.
func (d *Deployer) previews(declared []render.Environment) (environments []render.Environment, shows map[string]preview.Environment) {
	shows = map[string]preview.Environment{}
	d.opt.Ledger.View(func(s *cluster.State) {
		for p := range s.Previews().Values() {
			shows[p.Name] = p.Environment
		}
	})
	for _, e := range declared {
		delete(shows, e.Name)
	}
	called := slices.ContainsFunc(declared, func(e render.Environment) bool { return e.Name == preview.Class })
	for _, name := range slices.Sorted(maps.Keys(shows)) {
		env := PreviewEnvironment(shows[name])
		if len(declared) > 0 {
			env.Policy = declared[0].Policy.OfPreview()
		}
		env.NoSecrets = env.NoSecrets || called // they are that environment's
		environments = append(environments, env)
	}
	return environments, shows
}

// shown is what a preview shows; nil: there is none of that name.
func (d *Deployer) shown(name string) (shown *preview.Environment) {
	d.opt.Ledger.View(func(s *cluster.State) {
		if p, ok := s.Previews().Get(name); ok {
			e := p.Environment
			shown = &e
		}
	})
	return shown
}

// wasPreview says of an environment that no shoal.cue declares whether it was a preview: by its name and its ref, as PreviewEnvironment
// makes them.
func wasPreview(e *cluster.Environment) bool {
	if rest, ok := strings.CutPrefix(e.Ref, "refs/pull/"); ok {
		number, ok := strings.CutSuffix(rest, "/head")
		return ok && e.Name == "pr-"+number
	}
	branch, ok := strings.CutPrefix(e.Ref, "refs/heads/")
	return ok && e.Name == preview.Name(preview.Pull{Branch: branch})
}

// headOf is the commit that an environment is to show.
func (d *Deployer) headOf(ctx context.Context, l *list, env render.Environment) (id source.ID, ok bool, err error) {
	shows, isPreview := l.shows[env.Name]
	if !isPreview {
		return d.opt.Source.Head(ctx, env.Ref)
	}
	return shows.Commit, true, d.opt.Source.Bring(ctx, shows.Commit)
}

// OwnPins begin the names under which commits are pinned that are of no environment.
const OwnPins = "_"

// letGo unpins what previews showed that are gone, and what those that are there showed before, and forgets what this node knows of them.
func (d *Deployer) letGo(ctx context.Context, l *list) {
	for environment, pins := range d.opt.Source.AllPins() {
		shows, isPreview := l.shows[environment]
		if strings.HasPrefix(environment, OwnPins) {
			continue
		}
		if active := d.active(environment); isPreview && (active == nil || active.Commit != shows.Commit) || !isPreview && (active != nil || l.declares(environment)) {
			continue // it has not come that far, or goes on
		}
		for _, id := range pins {
			if isPreview && id == shows.Commit {
				continue
			}
			if now := d.shown(environment); now != nil && now.Commit == id { // it has just been made
				continue
			}
			if err := d.opt.Source.Unpin(ctx, environment, id); err != nil {
				d.opt.Log.WarnContext(ctx, "commit of a preview not unpinned", "environment", environment, "commit", id.Short(), "err", err)
			}
		}
	}
	d.mu.Lock()
	known := slices.Collect(maps.Keys(d.places))
	d.mu.Unlock()
	for _, name := range known {
		if !l.declares(name) && d.active(name) == nil {
			d.mu.Lock()
			delete(d.places, name)
			d.mu.Unlock()
			delete(d.rendered, name)
			delete(d.searched, name)
		}
	}
}

// judgePreview says why a preview may not run because of who signed it; nil if it may. The merge is a node's own: its head must be trusted,
// as what comes in with it since what is active, and so must the base that it was merged with.
func (d *Deployer) judgePreview(ctx context.Context, from stand, env render.Environment, commit source.ID) (render.Problems, error) {
	shows := d.shown(env.Name)
	if shows == nil || shows.Commit != commit {
		return nil, fmt.Errorf("the preview shows another commit by now")
	}
	problems, err := d.judgeFrom(ctx, from, env.Name, env.Ref, shows.Head)
	if problems != nil || err != nil {
		return problems, err
	}
	if keys, err := d.Keys(shows.Head); err != nil || !from.keys.Require() && !keys.Require() {
		return nil, err
	}
	if problems, err = d.judgeFrom(ctx, from, env.Name, env.Ref, shows.Base); problems != nil || err != nil {
		return problems, err
	}
	c, err := d.opt.Source.Commit(ctx, commit)
	if err != nil {
		return nil, err
	}
	own, err := d.sameMerge(ctx, c, shows.Base, shows.Head)
	if err == nil && !own {
		problems = render.Problems{{File: env.Ref, Text: fmt.Sprintf("commit %s is not trusted: it is not the merge of %s with %s", commit.Short(), shows.Head.Short(), shows.Base.Short())}}
	}
	return problems, err
}

// sameMerge says whether a commit is what this node itself makes of head and base: nobody has put anything else into it.
func (d *Deployer) sameMerge(ctx context.Context, c source.Commit, base, head source.ID) (bool, error) {
	if !slices.Equal(c.Parents, []source.ID{base, head}) {
		return false, nil
	}
	id, _, err := d.opt.Merger.Merge(ctx, base, head, source.Commit{Author: c.Author, Committer: c.Committer, Message: c.Message})
	return id == c.ID, err
}

// mustSign says whether commits must be signed by what is active, or nobody knows.
func (d *Deployer) mustSign(ctx context.Context, active *cluster.Environment) bool {
	from, err := d.standFor(ctx, active)
	return err != nil || from.keys.Require()
}

// PreviewEnvironment is what a render of a preview may know.
func PreviewEnvironment(p preview.Environment) render.Environment {
	env := render.Environment{Name: p.Name, Ref: "refs/heads/" + p.Branch, Class: preview.Class, Namespace: p.Name, SecretsOf: preview.Class}
	env.NoSecrets, env.DenyEgress, env.Restricted = p.Sandbox.NoSecrets, p.Sandbox.DenyEgress, p.Sandbox.Restricted
	env.Nodes, env.Quota, env.Policy = p.Nodes, p.Each, render.Policy{}.OfPreview()
	if p.Number > 0 {
		env.PR = strconv.Itoa(p.Number)
		env.Ref = "refs/pull/" + env.PR + "/head"
	}
	return env
}
