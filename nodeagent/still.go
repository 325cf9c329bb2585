package nodeagent

import (
	"errors"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/plan"
)

// errOvertaken says that what was decided is not to be done any more: the next look decides anew.
var errOvertaken = errors.New("something has happened since it was decided")

// mayStill tells, when it has come to the start of a container, whether the pod may be started still. Its image may have
// taken minutes to come. If the node's lease ended meanwhile, one of its kind may run elsewhere, also when the lease was
// granted anew since.
func (a *Agent) mayStill(p *plan.Pod) error {
	if a.opt.Lease == nil || !p.Fenced || p.Kept {
		return nil
	}
	var index uint64
	here := false
	a.opt.Ledger.View(func(s *cluster.State) {
		index = s.Index()
		now, ok := s.Pod(p.ID)
		here = ok && now.Deleting == 0 && now.Epoch == p.Epoch
	})
	if !here || a.opt.Lease.Lease(index).NoStart {
		return errOvertaken
	}
	return nil
}
