package nodeagent

import (
	"context"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// maxApprovalsRead bounds the approvals that are read of one commit in one environment.
const maxApprovalsRead = 256

// Approvals are the words for a commit in an environment that count: signed tags, by keys that are good now and that keys, those of
// the tree which is active there, give to somebody who may approve there. refused says of the others why they do not count.
func (d *Deployer) Approvals(ctx context.Context, environment string, commit source.ID, keys *trust.Keys) (counted []promote.Approval, refused []string, err error) {
	return d.approvalsBelow(ctx, fmt.Sprint(trust.ApprovalRefs, environment, "/", commit, "/"), keys)
}

func (d *Deployer) approvalsBelow(ctx context.Context, prefix string, keys *trust.Keys) (counted []promote.Approval, refused []string, err error) {
	now := d.trustTime()
	for _, ref := range d.opt.Source.RefsBelow(prefix, maxApprovalsRead) {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		kind, raw, err := d.opt.Source.Raw(ref.ID)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", ref.Name, err)
		}
		if kind != "tag" {
			refused = append(refused, fmt.Sprintf("%s: is no annotated tag, and not signed", promote.Line(ref.Name, 300)))
			continue
		}
		a, err := trust.ApprovalOf(ref.Name, raw, keys, now)
		if err != nil {
			refused = append(refused, err.Error())
			continue
		}
		counted = append(counted, promote.Approval{User: a.Principal, Groups: a.Groups, Environment: a.Environment, Commit: a.Commit})
	}
	return counted, refused, nil
}

// maxElse bounds the approvals of other commits that are told.
const maxElse = 5

// approvedElse are words for other commits that ran before an environment: who waits for one is told for what there are some. They open
// nothing.
func (d *Deployer) approvedElse(ctx context.Context, rules promote.Environment, keys *trust.Keys, but ...source.ID) (out []promote.Approval, err error) {
	ran := map[source.ID]bool{}
	d.opt.Ledger.View(func(s *cluster.State) {
		for _, from := range rules.After {
			for r := range s.History(from) {
				ran[r.Commit] = !slices.Contains(but, r.Commit)
			}
		}
	})
	if len(ran) == 0 {
		return nil, nil
	}
	counted, _, err := d.approvalsBelow(ctx, fmt.Sprint(trust.ApprovalRefs, rules.Name, "/"), keys)
	for _, a := range counted {
		if ran[a.Commit] && len(out) < maxElse {
			out = append(out, a)
		}
	}
	return out, err
}
