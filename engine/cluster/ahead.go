package cluster

import (
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// Ahead is what a node is to be ready for: of each workload whose next pod would be placed on it, the newest pod, if none of
// its revision is there. So when a node is lost, its substitutes start on one that has their images. Workloads are what has pods
// that run or are to run; pods that wait for their own node are left out. They come by namespace and name.
//
// It follows from the State, costs about what placing all pods does, and is asked for beside the ledger: s must be a
// Snapshot. The error is of content that is not here.
func (s *State) Ahead(node place.NodeID, content desired.Content) ([]*control.Pod, error) {
	if s.nodes.Len() < 2 {
		return nil, nil
	}
	newest := map[string]*control.Pod{}
	here := map[string]bool{} // revisions of workloads
	for p := range s.pods.Values() {
		if p.Node == "" || p.Finished != 0 {
			continue
		}
		if _, err := s.load(p.Object, content); err != nil {
			return nil, err
		}
		if !p.Active() {
			continue
		}
		workload := p.Environment + "/" + p.Source.String()
		if p.Node == node {
			here[workload+"/"+p.Revision+"/"+string(p.Object)] = true
		}
		if old := newest[workload]; !p.Kept && (old == nil || p.Created > old.Created || p.Created == old.Created && p.ID > old.ID) {
			newest[workload] = p
		}
	}
	x := s.seat(content)
	var out []*control.Pod
	for workload, p := range newest {
		if here[workload+"/"+p.Revision+"/"+string(p.Object)] {
			continue
		}
		if x.board.Place(x.kindOf(s, p), p.Owner.UID).Node == node {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *control.Pod) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	return out, nil
}
