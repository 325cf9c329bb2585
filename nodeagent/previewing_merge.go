package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// merged is what became of merging a head, and when.
type merged struct {
	preview.Merged
	at time.Time
}

const (
	// mergeAgain is when a merge is tried again that did not work, and not for a conflict.
	mergeAgain = time.Minute
	// mergeTurns bounds how often a look asks which pull requests get a preview, since some turned out to conflict. The next look goes on.
	mergeTurns = 64
)

// pulls are those that are open, or the branches of the pattern.
func (p *Previewing) pulls(ctx context.Context, in preview.Input) (PullList, error) {
	if in.Policy.From != preview.FromPulls {
		open, err := p.branches(ctx, in.Policy)
		return PullList{Open: open, Complete: true}, err
	}
	forge := p.opt.Forge()
	if forge == nil {
		return PullList{}, errors.New("previews.from is \"pulls\", and no forge can be asked: expected a repository on GitHub, GitLab, Gitea or Forgejo and a token (--forge-token), or a pattern of branches")
	}
	var known []int
	for _, h := range in.Have {
		if h.Number > 0 {
			known = append(known, h.Number)
		}
	}
	list, err := forge.Pulls(ctx, known)
	if err != nil {
		return list, err
	}
	for i := range list.Open {
		o := &list.Open[i]
		if was, ok := p.seen[o.Number]; !ok || was.head != o.Head {
			p.seen[o.Number] = seenHead{o.Head, list.At}
		}
		label := in.Policy.Forks.Approval
		if !o.Fork || label == "" || !slices.Contains(o.Labels, label) {
			continue
		}
		if slices.ContainsFunc(in.Have, func(h preview.Have) bool { return h.Number == o.Number && h.Head == o.Head }) {
			o.Approved = o.Head // it was when its preview was made; the label still stands
			continue
		}
		if try := *o; preview.Unwanted(in, approved(try.Pull)) != "" {
			continue
		}
		yes, err := forge.Approved(ctx, o.Number, label, o.Head, p.seen[o.Number].at)
		if err != nil { // of this one alone: nobody knows whether it is approved
			p.complain(ctx, fmt.Sprintf("approval of pull request %d is not known, will retry", o.Number), err)
			continue
		}
		if yes {
			o.Approved = o.Head
		}
	}
	return list, nil
}

func approved(p preview.Pull) preview.Pull {
	p.Approved = p.Head
	return p
}

// branches are those of the repository that a pattern fits, as if each were a pull request.
func (p *Previewing) branches(ctx context.Context, policy preview.Policy) (out []OpenPull, err error) {
	refs, err := p.opt.Deployer.opt.Merger.Branches(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		name, ok := strings.CutPrefix(r.Name, "refs/heads/")
		if ok && name != policy.Base && policy.Fits(name) && len(out) < preview.MaxPulls {
			out = append(out, OpenPull{HeadRef: r.Name, Pull: preview.Pull{Branch: name, Base: policy.Base, Head: r.ID}})
		}
	}
	var lacking []source.Ref // who made them, and when, is in the commits
	for _, o := range out {
		if len(lacking) < preview.MaxQuota && !p.opt.Deployer.opt.Merger.Has(o.Head) {
			lacking = append(lacking, source.Ref{Name: o.HeadRef, ID: o.Head})
		}
	}
	p.take(ctx, lacking)
	for i := range out {
		c, err := p.opt.Deployer.opt.Source.Commit(ctx, out[i].Head)
		if err != nil {
			continue // it waits until it is here
		}
		out[i].Author = promote.Line(c.Author.Email, 200)
		out[i].Opened = min(c.Committer.When.UnixMilli(), p.opt.Deployer.ringTime())
		out[i].Updated = out[i].Opened
	}
	return out, nil
}

func (p *Previewing) take(ctx context.Context, refs []source.Ref) {
	const what = "heads of pull requests not fetched, will retry"
	if len(refs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p.complain(ctx, what, p.opt.Deployer.opt.Merger.Take(ctx, refs))
}

// wanted asks which previews there should be. Only those are fetched and merged that get one: one that is not merged yet is taken to be
// without conflicts until it is its turn.
func (p *Previewing) wanted(ctx context.Context, base source.ID, in preview.Input, pulls []OpenPull) preview.Result {
	open := map[string]*OpenPull{}
	var assumed map[string]bool
	for i := range pulls {
		o := &pulls[i]
		open[preview.Name(o.Pull)] = o
		o.Merge, _ = p.known(base, o)
		p.age(ctx, o)
	}
	for range mergeTurns {
		assumed = map[string]bool{}
		in.Pulls = in.Pulls[:0]
		for _, o := range pulls {
			pull := o.Pull
			if pull.Merge.Head != pull.Head && base != "" {
				assumed[preview.Name(pull)] = true
				pull.Merge = preview.Merged{Head: pull.Head, Base: base, Commit: pull.Head}
			}
			in.Pulls = append(in.Pulls, pull)
		}
		res := preview.Wanted(in, p.opt.Deployer.ringTime())
		var turn []*OpenPull
		for _, e := range res.Environments {
			if assumed[e.Name] && e.Head == open[e.Name].Head {
				turn = append(turn, open[e.Name])
			}
		}
		if len(turn) == 0 {
			return res
		}
		var lacking []source.Ref
		for _, o := range turn {
			if !p.opt.Deployer.opt.Merger.Has(o.Head) {
				lacking = append(lacking, source.Ref{Name: o.HeadRef, ID: o.Head})
			}
		}
		p.take(ctx, lacking)
		for _, o := range turn {
			o.Merge = p.merge(ctx, base, o)
			p.age(ctx, o)
		}
	}
	in.Pulls = in.Pulls[:0]
	for _, o := range pulls {
		in.Pulls = append(in.Pulls, o.Pull)
	}
	return preview.Wanted(in, p.opt.Deployer.ringTime())
}

// age has a pull request be as old as its newest commit, where that is older than the forge says: comments are no updates.
func (p *Previewing) age(ctx context.Context, o *OpenPull) {
	if o.Number == 0 || !p.opt.Deployer.opt.Merger.Has(o.Head) {
		return
	}
	if c, err := p.opt.Deployer.opt.Source.Commit(ctx, o.Head); err == nil {
		o.Updated = min(o.Updated, c.Committer.When.UnixMilli())
	}
}

// known is a merge that was made before.
func (p *Previewing) known(base source.ID, o *OpenPull) (preview.Merged, bool) {
	m, ok := p.merges[[2]source.ID{base, o.Head}]
	unsettled := m.Why != "" || len(m.Conflicts) > 0 && o.MergeRef != "" // the forge may come to more
	switch {
	case !ok, unsettled && time.Since(m.at) > mergeAgain, m.Commit != "" && !p.opt.Deployer.opt.Merger.Has(m.Commit):
		return preview.Merged{}, false
	}
	return m.Merged, true
}

// merge merges a head with the base. All nodes, and all leaders, would make the same commit. Where our merge has a conflict the forge's may
// have none: it follows files that were renamed. Where commits must be signed the forge's does not do: anything may be in it.
func (p *Previewing) merge(ctx context.Context, base source.ID, o *OpenPull) preview.Merged {
	out := preview.Merged{Head: o.Head, Base: base}
	if !p.opt.Deployer.opt.Merger.Has(o.Head) || !p.opt.Deployer.opt.Merger.Has(base) {
		out.Why = "it is not on this node yet"
		return out // the next look tries again
	}
	c, err := p.opt.Deployer.opt.Source.Commit(ctx, o.Head)
	if err == nil {
		who := Person
		who.When = c.Committer.When.UTC()
		made := source.Commit{Author: who, Committer: who, Message: fmt.Sprintf("Merge %s into %s\n", o.Head.Short(), base.Short())}
		out.Commit, out.Conflicts, err = p.opt.Deployer.opt.Merger.Merge(ctx, base, o.Head, made)
		if err == nil && len(out.Conflicts) > 0 && o.MergeRef != "" && !p.opt.Deployer.mustSign(ctx, nil) {
			theirs, ferr := p.opt.Deployer.opt.Merger.HostMerge(ctx, o.MergeRef, base, o.Head, made)
			p.complain(ctx, "the forge's merge of a pull request is not known, will retry", ferr)
			if ferr == nil && theirs != "" {
				out.Commit, out.Conflicts = theirs, nil
			}
		}
	}
	if err != nil {
		out.Commit, out.Conflicts, out.Why = "", nil, promote.Line(err.Error(), 300)
	}
	if ctx.Err() == nil {
		p.merges[[2]source.ID{base, o.Head}] = merged{out, time.Now()}
	}
	return out
}

// forget drops what is remembered of pull requests that are not listed.
func (p *Previewing) forget(pulls []OpenPull) {
	heads, numbers := map[source.ID]bool{}, map[int]bool{}
	for _, o := range pulls {
		heads[o.Head], numbers[o.Number] = true, true
	}
	for key := range p.merges {
		if !heads[key[1]] {
			delete(p.merges, key)
		}
	}
	for n := range p.seen {
		if !numbers[n] {
			delete(p.seen, n)
		}
	}
	if len(p.merges) > 4*preview.MaxQuota { // the base has moved often
		clear(p.merges)
	}
	if len(p.said) > preview.MaxQuota {
		clear(p.said)
	}
}
