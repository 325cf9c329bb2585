package nodeagent

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// maxApprovalsRead bounds the approvals that are read of one commit in one environment.
const maxApprovalsRead = 256

// Approvals are the words for a commit in an environment that count: signed tags, by keys that are good now and that keys, those of
// the tree which is active there, give to somebody who may approve there. refused says of the others why they do not count.
func (d *Deployer) Approvals(ctx context.Context, environment string, commit source.ID, keys *trust.Keys) (counted []promote.Approval, refused []string, err error) {
	now := d.trustTime()
	for _, ref := range d.opt.Source.RefsBelow(fmt.Sprint(trust.ApprovalRefs, environment, "/", commit, "/"), maxApprovalsRead) {
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
