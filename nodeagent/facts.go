package nodeagent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// asked is a commit that asks to come into an environment, or is only thought of.
type asked struct {
	rules     promote.Environment
	ask       promote.Ask
	candidate *source.Commit // nil: it is only thought of
	tip       source.ID      // the commit of the environment's branch that it stands on; "": none
	active    *cluster.Environment
	of        source.ID // of a hotfix that is only thought of: the commit that has the change
}

// astrayError is of a branch that does not go on from what runs: it will be so the next time too.
type astrayError struct{ text string }

func (e astrayError) Error() string { return e.text }

// factsOf gathers what Git and signatures tell of what is asked.
func (d *Deployer) factsOf(ctx context.Context, a asked) (promote.Facts, error) {
	var f promote.Facts
	if a.active != nil {
		c, err := d.opt.Source.Commit(ctx, a.active.Commit)
		if err != nil {
			return f, fmt.Errorf("read what is active: %w", err)
		}
		f.Active = commitOf(c)
	}
	if a.candidate != nil {
		f.Candidate = commitOf(*a.candidate)
	}
	if of := a.brings(); of != "" {
		c, err := d.opt.Source.Commit(ctx, of)
		if err == nil {
			f.Of = commitOf(c)
		} // else Judge says that it is not in the repository
	}
	between, reached, err := d.firstParents(ctx, a.tip, f.Active.ID)
	if err != nil {
		return f, err
	}
	if !reached && f.Active.ID != "" {
		return f, astrayError{fmt.Sprintf("the first parents of its branch do not lead to %s, which runs, within %d commits", f.Active.ID.Short(), maxHistory)}
	}
	if f.Active.ID != "" {
		for _, c := range between {
			ask, err := promote.Read(c.Message)
			if err != nil {
				ask = promote.Ask{Act: promote.Plain}
			}
			f.Between = append(f.Between, promote.Ask{Act: ask.Act})
		}
	}
	events, err := d.events(ctx, a.tip)
	if err != nil {
		return f, err
	}
	f.Pin = promote.PinnedBy(events, 0) // Judge sees by its own clock whether it is over
	f.Undone = promote.UndoneBy(events)
	if err := d.owed(ctx, a, events, &f); err != nil {
		return f, err
	}
	return f, d.people(ctx, a, &f)
}

// brings is the commit that comes in with what is asked, beside the candidate itself.
func (a asked) brings() source.ID {
	if a.ask.Source != "" {
		return a.ask.Source
	}
	if a.ask.Act == promote.Hotfix && a.candidate != nil && len(a.candidate.Parents) == 2 {
		return a.candidate.Parents[1]
	}
	return a.of
}

func commitOf(c source.Commit) promote.Commit {
	return promote.Commit{ID: c.ID, Tree: c.Tree, Parents: c.Parents}
}

// owed finds the hotfixes that a promotion would take back.
func (d *Deployer) owed(ctx context.Context, a asked, events []promote.Event, f *promote.Facts) error {
	if a.ask.Act != promote.Promotion || f.Of.ID == "" || !slices.ContainsFunc(events, func(e promote.Event) bool { return e.Act == promote.Hotfix }) {
		return nil
	}
	coming, err := d.incoming(ctx, a.tip, f.Of.ID)
	if err != nil {
		return err
	}
	repeats := map[source.ID]bool{}
	for _, c := range coming {
		for _, id := range promote.MergedBack(c.Message) {
			repeats[id] = true
		}
	}
	var failed error
	f.Owed = promote.Owed(events, func(id source.ID) bool {
		if repeats[id] {
			return true
		}
		relation, err := d.opt.Source.Relate(ctx, id, f.Of.ID)
		if err != nil {
			failed = fmt.Errorf("compare %s with %s: %w", id.Short(), f.Of.ID.Short(), err)
		}
		return relation == source.Forward || relation == source.Same
	})
	return failed
}

// people finds who wrote, signed and approved what comes in, by the keys that are active in the environment.
func (d *Deployer) people(ctx context.Context, a asked, f *promote.Facts) error {
	approvals := len(a.rules.Gates.Approvals) > 0
	if !approvals && len(a.rules.Hotfix.By) == 0 {
		return nil
	}
	from, err := d.standFor(ctx, a.active)
	if err != nil {
		return err
	}
	tip := f.Of.ID
	if f.Candidate.ID != "" {
		tip = f.Candidate.ID
	}
	if tip == "" {
		return nil
	}
	signers, err := d.signers(ctx, a.rules.Name, from, tip)
	if err != nil {
		return err
	}
	if f.Candidate.Signer = signers[f.Candidate.ID]; f.Candidate.Signer != "" {
		f.ByGroups, _ = from.keys.Groups(f.Candidate.Signer, a.rules.Name)
	}
	if !approvals {
		return nil
	}
	brings := tip
	if f.Of.ID != "" {
		brings = f.Of.ID
	}
	coming, err := d.comesIn(ctx, a.ask.Act, f.Active.ID, brings)
	if err != nil {
		return err
	}
	people := map[string]bool{}
	for _, c := range coming {
		for _, p := range []source.Person{c.Author, c.Committer} {
			people[p.Email], people[p.Name] = true, true
		}
		people[signers[c.ID]] = true
	}
	delete(people, "")
	f.Authors = slices.Sorted(maps.Keys(people))
	for _, id := range []source.ID{f.Candidate.ID, f.Of.ID} {
		if id == "" {
			continue
		}
		counted, _, err := d.Approvals(ctx, a.rules.Name, id, from.keys)
		if err != nil {
			return err
		}
		f.Approvals = append(f.Approvals, counted...)
	}
	others, err := d.approvedElse(ctx, a.rules, from.keys, f.Candidate.ID, f.Of.ID)
	f.Approvals = append(f.Approvals, others...)
	return err
}

// signers is who signed each commit that a tip has and what is active has not; none where there are no keys.
func (d *Deployer) signers(ctx context.Context, environment string, from stand, tip source.ID) (map[source.ID]string, error) {
	out := map[source.ID]string{}
	if from.commit == "" || len(from.keys.Keys()) == 0 {
		return out, nil
	}
	v, err := d.Judge(ctx, environment, from.commit, tip)
	if err != nil {
		return nil, err
	}
	for _, by := range v.By {
		out[by.Commit] = by.Principal
	}
	return out, nil
}
