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
	const ours, theirs = 1, 2
	marks := map[source.ID]int{}
	commits := map[source.ID]source.Commit{}
	var queue []source.ID // by time, newest first
	add := func(id source.ID, mark int) error {
		if marks[id]&mark == mark {
			return nil
		}
		marks[id] |= mark
		if _, ok := commits[id]; !ok {
			if len(commits) >= 2*maxComingIn {
				return fmt.Errorf("more than %d commits between %s and %s", maxComingIn, base.Short(), tip.Short())
			}
			c, err := d.opt.Source.Commit(ctx, id)
			if err != nil {
				return fmt.Errorf("read commit %s: %w", id.Short(), err)
			}
			commits[id] = c
		}
		if slices.Contains(queue, id) {
			return nil
		}
		at, _ := slices.BinarySearchFunc(queue, id, func(a, b source.ID) int {
			return cmp.Or(commits[b].Committer.When.Compare(commits[a].Committer.When), cmp.Compare(a, b))
		})
		queue = slices.Insert(queue, at, id)
		return nil
	}
	if err := add(tip, ours); err != nil {
		return nil, err
	}
	if base != "" {
		if err := add(base, theirs); err != nil {
			return nil, err
		}
	}
	// It ends once all that is left to look at is theirs. Clocks that are off could make that too early, so a few more are looked at.
	for slack := 0; len(queue) > 0 && slack < 64; {
		id := queue[0]
		queue = queue[1:]
		for _, p := range commits[id].Parents {
			if err := add(p, marks[id]); err != nil {
				return nil, err
			}
		}
		if slices.ContainsFunc(queue, func(id source.ID) bool { return marks[id]&theirs == 0 }) {
			slack = 0
		} else {
			slack++
		}
	}
	var out []source.Commit
	for id, c := range commits {
		if marks[id]&theirs == 0 {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b source.Commit) int {
		return cmp.Or(b.Committer.When.Compare(a.Committer.When), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}
