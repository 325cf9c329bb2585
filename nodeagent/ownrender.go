package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// A node that comes to a commit when the ring has activated it already, as one that has just joined does, renders it
// nevertheless before it begins pods of it. Mostly that is one render of one commit. An app that is held is as an
// older commit has it, pods of an older revision are too, and the environment may have been declared otherwise when it
// was activated: so where something is missing older commits are tried.

const (
	// maxOlder bounds how many commits before the active one are rendered, and how many before the newest declaration
	// are read.
	maxOlder = 32
	// maxDeclarations bounds how many different declarations of an environment are tried.
	maxDeclarations = 4
)

// renderActive renders what the ring runs and this node has not rendered, in all environments.
func (d *Deployer) renderActive(ctx context.Context, l *list) error {
	if d.opt.Renders == nil {
		return nil
	}
	var active []*cluster.Environment
	d.opt.Ledger.View(func(s *cluster.State) { active = slices.Collect(s.Environments().Values()) })
	var errs []error
	for _, env := range active {
		if err := d.renderOf(ctx, env, l); err != nil {
			errs = append(errs, fmt.Errorf("%s: render what runs: %w", env.Name, err))
		}
	}
	return errors.Join(errs...)
}

// lacking are the objects of an environment that this node needs and has not rendered, with the commit that has them
// where that is known.
func (d *Deployer) lacking(environment string) map[desired.Digest]source.ID {
	out := map[desired.Digest]source.ID{}
	d.opt.Ledger.View(func(s *cluster.State) {
		for p := range s.PodsOn(d.opt.Node) {
			if p.Environment == environment && p.Active() && !d.opt.Renders.has(environment, p.Object) {
				out[p.Object] = ""
			}
		}
		for o := range s.ObjectsOf(environment) {
			if !d.opt.Renders.has(environment, o.Digest) {
				out[o.Digest] = o.Commit
			}
		}
	})
	return out
}

// renderOf renders an environment until nothing of it is lacking, or nothing is left to be tried. What is lacking then is
// said, and tried again when something moves.
func (d *Deployer) renderOf(ctx context.Context, env *cluster.Environment, l *list) error {
	lacking := d.lacking(env.Name)
	if len(lacking) == 0 {
		d.opt.Renders.explain(env.Name, plan.Trouble{})
		return nil
	}
	tried := fmt.Sprint(env.Commit, env.D, l.commit, slices.Sorted(maps.Keys(lacking)))
	if d.rendered[env.Name] == tried {
		return nil
	}
	if _, ok := l.shows[env.Name]; ok { // no ref brings it
		if err := d.opt.Source.Bring(ctx, env.Commit); err != nil && ctx.Err() == nil {
			d.opt.Log.WarnContext(ctx, "commit of a preview not brought, will retry", "environment", env.Name, "commit", env.Commit.Short(), "err", err)
		}
	}
	if _, err := d.opt.Source.Commit(ctx, env.Commit); err != nil { // it is on its way; when it is there this is called again
		d.opt.Renders.explain(env.Name, plan.Trouble{Reason: notRendered, Message: fmt.Sprintf("commit %s is not on this node yet: %v", env.Commit.Short(), err)})
		return ctx.Err()
	}
	s, begun := search{Deployer: d, env: env}, time.Now()
	for declared, err := range s.declarations(ctx, l) {
		if err != nil {
			return err
		}
		if len(d.lacking(env.Name)) == 0 {
			break
		}
		if err := s.try(ctx, declared); err != nil {
			return err
		}
	}
	if lacking = d.lacking(env.Name); len(lacking) == 0 {
		d.opt.Log.InfoContext(ctx, "rendered what the ring runs", "environment", env.Name, "commit", env.Commit.Short(), "commits", s.renders, "took", milliseconds(begun, time.Now()))
		d.opt.Renders.explain(env.Name, plan.Trouble{})
		return nil
	}
	d.rendered[env.Name] = fmt.Sprint(env.Commit, env.D, l.commit, slices.Sorted(maps.Keys(lacking)))
	text := fmt.Sprintf("%d objects that the ring runs are in no commit that this node has rendered: %s", len(lacking), s.mismatch)
	d.opt.Renders.explain(env.Name, plan.Trouble{Reason: "RenderMismatch", Message: text})
	d.opt.Journal.Add(Event{Object: "Environment " + env.Name, Reason: "RenderMismatch", Message: text})
	d.opt.Log.WarnContext(ctx, "the ring runs what this node does not find in Git: it is not begun here", "environment", env.Name, "commit", env.Commit.Short(), "why", text)
	return nil
}

// search looks for what an environment runs in the history of the repository.
type search struct {
	*Deployer
	env      *cluster.Environment
	renders  int
	mismatch string // what the render of the active commit by the newest declaration came to
}

// declarations are those of the environment, the newest first, each once.
func (s *search) declarations(ctx context.Context, l *list) func(yield func(render.Environment, error) bool) {
	return func(yield func(render.Environment, error) bool) {
		if shows, ok := l.shows[s.env.Name]; ok { // no shoal.cue has it
			yield(PreviewEnvironment(shows), nil)
			return
		}
		var known []string
		for n, at := 0, l; n < maxOlder && at != nil && len(known) < maxDeclarations; n++ {
			i := slices.IndexFunc(at.environments, func(e render.Environment) bool { return e.Name == s.env.Name })
			if i >= 0 && len(at.problems) == 0 {
				declared := at.environments[i]
				declared.Policy = render.Policy{} // no render depends on it
				text := fmt.Sprintf("%+v", declared)
				if !slices.Contains(known, text) {
					known = append(known, text)
					if !yield(declared, nil) {
						return
					}
				}
			}
			c, err := s.opt.Source.Commit(ctx, at.commit)
			if err != nil || len(c.Parents) == 0 {
				return // the history ends here
			}
			if at, err = s.listOf(ctx, c.Parents[0]); err != nil {
				if ctx.Err() != nil {
					yield(render.Environment{}, err)
				}
				return
			}
		}
	}
}

// try renders commits by one declaration until nothing is lacking: the active one, those that are known to have changed
// what is lacking, and then those before the active one if it is not known which.
func (s *search) try(ctx context.Context, declared render.Environment) error {
	done := map[source.ID]bool{}
	commit := func(id source.ID) error {
		if done[id] {
			return nil
		}
		done[id] = true
		return s.render(ctx, declared, id)
	}
	if err := commit(s.env.Commit); err != nil {
		return err
	}
	lacking := s.lacking(s.env.Name)
	ids := slices.Sorted(maps.Values(lacking))
	for _, id := range slices.Compact(ids) {
		if id != "" && len(s.lacking(s.env.Name)) > 0 {
			if err := commit(id); err != nil {
				return err
			}
		}
	}
	at := s.env.Commit
	for range maxOlder {
		if !slices.Contains(slices.Collect(maps.Values(s.lacking(s.env.Name))), "") {
			return nil
		}
		c, err := s.opt.Source.Commit(ctx, at)
		if err != nil || len(c.Parents) == 0 {
			return ctx.Err() // the history ends here
		}
		at = c.Parents[0]
		if err := commit(at); err != nil {
			return err
		}
	}
	return nil
}

// render renders one commit. What is wrong with it is no error: it has less to offer. It was within its quota when it came in.
func (s *search) render(ctx context.Context, declared render.Environment, commit source.ID) error {
	declared.Quota = nil
	tree, err := s.opt.Source.Tree(ctx, commit)
	if err != nil {
		if _, ok := errors.AsType[*source.Fault](err); ok || commit != s.env.Commit && ctx.Err() == nil {
			return nil
		}
		return fmt.Errorf("read tree of %s: %w", commit.Short(), err)
	}
	apps, err := s.opt.Renderer.Render(ctx, tree, declared)
	if err != nil {
		if _, ok := errors.AsType[render.Problems](err); ok {
			s.compare(nil, err)
			return nil
		}
		return fmt.Errorf("render %s: %w", commit.Short(), err)
	}
	s.renders++
	s.opt.Renders.add(s.env.Name, apps)
	b, err := s.opt.Content.Get(s.env.D)
	if err != nil {
		return fmt.Errorf("read what is active: %w", err)
	}
	active, err := desired.DecodeSet(b)
	if err != nil {
		return err
	}
	if err := s.keep(ctx, active, apps); err != nil {
		return err
	}
	if commit != s.env.Commit {
		return nil
	}
	s.compare(s.build(declared, active, apps))
	return nil
}

// build is the set that this node would have made of the active commit.
func (s *search) build(declared render.Environment, active *desired.Set, rendered []Rendered) (*desired.Set, error) {
	apps := make([]desired.App, len(rendered))
	for i := range rendered {
		apps[i] = rendered[i].App
	}
	built, err := desired.Build(declared, apps, active, s.opt.Content)
	return built.Set, err
}

// compare says what this node's render came to, the first time.
func (s *search) compare(own *desired.Set, err error) {
	switch {
	case s.mismatch != "":
	case err != nil:
		s.mismatch = fmt.Sprintf("this node cannot render commit %s: %v", s.env.Commit.Short(), err)
	default:
		s.mismatch = fmt.Sprintf("this node's render of commit %s is %.12s, the ring runs %.12s", s.env.Commit.Short(), own.D, s.env.D)
	}
}

// foreign says what the ring runs of an environment, and this node has not found in Git.
func (d *Deployer) foreign(env *cluster.Environment) render.Problems {
	if d.opt.Renders == nil {
		return nil
	}
	why := d.opt.Renders.explained(env.Name)
	if why.Reason == "" || why.Reason == notRendered {
		return nil
	}
	return render.Problems{{File: env.Ref, Text: why.Reason + ": " + why.Message}}
}

// addOwn adds what this node's own renders of what runs came to, where it has judged no commit itself, or one that others have
// followed by another since.
func (d *Deployer) addOwn(out map[string]api.EnvironmentState, verdicts map[string]Verdict) {
	if d.opt.Renders == nil {
		return
	}
	var active []*cluster.Environment
	d.opt.Ledger.View(func(s *cluster.State) { active = slices.Collect(s.Environments().Values()) })
	for _, env := range active {
		e, judged := out[env.Name]
		if v := verdicts[env.Name]; v.Accepted && v.Commit != env.Commit {
			judged = false
		}
		switch lacking := len(d.lacking(env.Name)); {
		case lacking > 0 && e.Problem == "":
			e.Problem = fmt.Sprintf("%d objects that the ring runs are not rendered by this node", lacking)
			if foreign := d.foreign(env); len(foreign) > 0 {
				e.Problem = foreign[0].Text
			}
			if !judged {
				e.Commit = string(env.Commit)
			}
		case judged || lacking > 0:
			continue
		default:
			e.Commit, e.Digest = string(env.Commit), string(env.D)
		}
		out[env.Name] = e
	}
}

// saveRenders puts on disk what this node has rendered of what the ring refers to.
func (d *Deployer) saveRenders(ctx context.Context) {
	if d.opt.Renders == nil {
		return
	}
	err := d.opt.Renders.save(func() func(desired.Digest) bool {
		kept := map[desired.Digest]bool{}
		d.opt.Ledger.View(func(s *cluster.State) {
			for digest := range s.Blobs() {
				kept[digest] = true
			}
		})
		return func(digest desired.Digest) bool { return kept[digest] }
	})
	if err != nil {
		d.opt.Log.WarnContext(ctx, "what this node has rendered is not on disk: it will render it again", "err", err)
	}
}
