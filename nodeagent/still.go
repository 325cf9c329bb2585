package nodeagent

import (
	"errors"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// errOvertaken says that what was decided is not to be done any more: the next look decides anew.
var errOvertaken = errors.New("something has happened since it was decided")

// mayStill asks whether a pod may be started still, when it has come to that.
func (a *Agent) mayStill(p *plan.Pod) error {
	if a.opt.Lease == nil || !p.Leased() {
		return nil
	}
	var index uint64
	var now *control.Pod
	a.opt.Ledger.View(func(s *cluster.State) {
		index = s.Index()
		now, _ = s.Pod(p.ID)
	})
	if !p.MayStill(now, a.opt.Lease.Lease(index)) {
		return errOvertaken
	}
	return nil
}
