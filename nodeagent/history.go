package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// Bounds of what is read of a history to judge one commit.
const (
	maxHistory  = 500    // commits of an environment's branch
	maxComingIn = 10_000 // commits that come in
)

// firstParents are the commits from tip back by first parents, newest first, until one of them is end, which is not among
// them; reached says whether it was met within maxHistory.
func (d *Deployer) firstParents(ctx context.Context, tip, end source.ID) (list []source.Commit, reached bool, err error) {
	for id := tip; id != ""; {
		if id == end {
			return list, true, nil
		}
		if len(list) == maxHistory {
			return list, false, nil
		}
		c, err := d.opt.Source.Commit(ctx, id)
		if err != nil {
			if len(list) > 0 && end == "" { // a shallow mirror: what is known is what there is
				return list, false, nil
			}
			return nil, false, fmt.Errorf("read commit %s: %w", id.Short(), err)
		}
		list = append(list, c)
		if id = ""; len(c.Parents) > 0 {
			id = c.Parents[0]
		}
	}
	return list, end == "", nil
}

// events is what happened to an environment, by its branch from tip back.
func (d *Deployer) events(ctx context.Context, tip source.ID) ([]promote.Event, error) {
	if tip == "" {
		return nil, nil
	}
	commits, _, err := d.firstParents(ctx, tip, "")
	if err != nil {
		return nil, err
	}
	records := make([]promote.Record, len(commits))
	for i, c := range commits {
		records[i].Commit = c
		if a, err := promote.Read(c.Message); err == nil && a.Source != "" {
			if of, err := d.opt.Source.Commit(ctx, a.Source); err == nil {
				records[i].Of = of.Tree
			}
		}
	}
	return promote.History(records), nil
}

// incoming are the commits that tip has and base has not, newest first; all of tip's for a base of "".
func (d *Deployer) incoming(ctx context.Context, base, tip source.ID) ([]source.Commit, error) {
	ids, _, _, err := d.opt.Source.Since(ctx, base, tip, maxComingIn)
	if err != nil {
		return nil, fmt.Errorf("what is between %s and %s: %w", cmp.Or(base.Short(), "nothing"), tip.Short(), err)
	}
	out := make([]source.Commit, 0, len(ids))
	for _, id := range ids {
		c, err := d.opt.Source.Commit(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("read commit %s: %w", id.Short(), err)
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b source.Commit) int {
		return cmp.Or(b.Committer.When.Compare(a.Committer.When), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// comesIn are the commits that tip brings to an environment which runs active, newest first. What a rollback took back comes in again, though
// Git has it behind the branch's tip; not with a hotfix, which stands on what runs.
func (d *Deployer) comesIn(ctx context.Context, act promote.Act, active, tip source.ID) ([]source.Commit, error) {
	over, fixes := active, map[source.ID]bool{}
	if act != promote.Hotfix {
		var err error
		if over, err = d.standsFor(ctx, active, fixes); err != nil {
			return nil, err
		}
	}
	coming, err := d.incoming(ctx, over, tip)
	return slices.DeleteFunc(coming, func(c source.Commit) bool { return fixes[c.ID] }), err
}

// standsFor is the commit that an environment has come to at one of its branch: that of a rollback is the one it goes back to, that of a pin or
// a hotfix the one before. What the hotfixes brought is noted in fixes.
func (d *Deployer) standsFor(ctx context.Context, id source.ID, fixes map[source.ID]bool) (source.ID, error) {
	for range maxHistory {
		if id == "" {
			return "", nil
		}
		c, err := d.opt.Source.Commit(ctx, id)
		if err != nil {
			return "", fmt.Errorf("read commit %s: %w", id.Short(), err)
		}
		ask, err := promote.Read(c.Message)
		switch {
		case err != nil || len(c.Parents) == 0:
			return id, nil
		case ask.Act == promote.Rollback:
			id = ask.Source
		case ask.Act == promote.Hotfix:
			brought, _, _, err := d.opt.Source.Since(ctx, c.Parents[0], id, maxComingIn)
			if err != nil {
				return "", fmt.Errorf("what hotfix %s brought: %w", id.Short(), err)
			}
			for _, b := range brought {
				fixes[b] = true
			}
			id = c.Parents[0]
		case ask.Act == promote.Pin || ask.Act == promote.Unpin:
			id = c.Parents[0]
		default:
			return id, nil
		}
	}
	return id, nil
}
