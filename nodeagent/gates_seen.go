package nodeagent

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// seen is what was known when gates were found closed, as far as that is cheap to see again. Until some of it changes they stay
// closed: to read Git for it every second would cost more than all else that a node at rest does.
type seen struct {
	index     uint64    // of the ledger
	leading   bool      // who leads tells the others what it finds
	list      source.ID // the commit with the environments
	tip       source.ID // of the environment's branch
	approvals uint64    // a hash of their refs
	at        int64     // ring time, ms
	next      int64     // when a gate opens by itself; 0: none does
}

// lookAgain is after how long, ms, gates are asked again although nothing has changed that is seen here: a key may be over, a
// commit may have come.
const lookAgain = 10_000

// see looks at what is cheap to see of an environment.
func (d *Deployer) see(ctx context.Context, environment, ref string) seen {
	out := seen{at: d.ringTime(), leading: d.opt.Ring != nil && d.opt.Ring.Leading()}
	d.opt.Ledger.View(func(s *cluster.State) { out.index = s.Index() })
	if l := d.lastList.Load(); l != nil {
		out.list = l.commit
	}
	out.tip, _, _ = d.opt.Source.Head(ctx, ref) // where that fails all is asked again in time
	h := fnv.New64a()
	for _, r := range d.opt.Source.RefsBelow(fmt.Sprint(trust.ApprovalRefs, environment, "/"), maxApprovalsSeen) {
		fmt.Fprintln(h, r.Name, r.ID)
	}
	out.approvals = h.Sum64()
	return out
}

// maxApprovalsSeen bounds the approvals in an environment that are looked at: of further ones is heard when it is time to look again.
const maxApprovalsSeen = 1000

// still tells whether gates that were closed then are so now.
func (s seen) still(now seen) bool {
	same := s.index == now.index && s.leading == now.leading && s.list == now.list && s.tip == now.tip && s.approvals == now.approvals
	return same && s.at <= now.at && now.at < s.at+lookAgain && (s.next == 0 || now.at < s.next)
}
