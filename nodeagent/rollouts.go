package nodeagent

import (
	"cmp"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Rollouts tells of every Deployment how many pods of its newest revision are ready, by namespace and name.
func Rollouts(s *cluster.State) []api.Rollout {
	newest := map[string]*control.ReplicaSet{} // by the Deployment's uid
	for set := range s.ReplicaSets().Values() {
		if have := newest[set.Owner.UID]; have == nil || set.Revision > have.Revision {
			newest[set.Owner.UID] = set
		}
	}
	var out []api.Rollout
	for d := range s.Deployments().Values() {
		r := api.Rollout{
			Environment: d.Environment, Namespace: d.Key.Namespace, Name: d.Key.Name, Want: int(d.Sized), Revision: d.Revision, State: string(d.State),
		}
		if set := newest[d.UID]; set != nil {
			r.Ready = int(set.Ready)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b api.Rollout) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}
