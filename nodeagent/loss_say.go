package nodeagent

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// lostPods are the pods on nodes that are lost, and whether each is kept for its node.
type lostPods map[control.PodID]bool

// pods says where the pods of lost nodes go, by the workload they belong to.
func (w *whatIf) pods(loss *api.Loss, after *cluster.State, gone lostPods) {
	type fate struct {
		kept  bool
		to    map[string]int // nodes
		back  map[string]int // nodes that are not relied on, where it runs still
		waits map[string]int // reasons
		lost  int
	}
	fates := map[desired.Key]*fate{}
	of := func(s *cluster.State, p *control.Pod) *fate {
		key := workload(s, p)
		if fates[key] == nil {
			fates[key] = &fate{to: map[string]int{}, back: map[string]int{}, waits: map[string]int{}}
		}
		return fates[key]
	}
	for id, kept := range gone {
		p, _ := w.s.Pod(id)
		f := of(w.s, p)
		f.lost++
		f.kept = f.kept || kept
	}
	for id, p := range after.Pods().All() {
		before, was := w.s.Pod(id)
		if p.Deleting != 0 || was && (before.Lost == 0 || p.Lost != 0) {
			continue
		}
		if f := of(after, p); was {
			f.back[nodeNameAndState(after, p.Node)]++
		} else if p.Node == "" {
			f.waits[p.Reason]++
		} else {
			f.to[nodeNameAndState(after, p.Node)]++
		}
	}
	for key, f := range fates {
		moved, back, waits := sum(f.to), sum(f.back), 0
		for reason, n := range f.waits {
			waits += n
			loss.Pods = append(loss.Pods, api.Change{Op: "wait", Name: key.String(), Why: plural(n, "pod finds no node", "pods find no node") + ": " + reason})
		}
		if moved > 0 {
			loss.Pods = append(loss.Pods, api.Change{Op: "move", Name: key.String(), Why: plural(moved, "pod starts on ", "pods start on ") + strings.Join(sortedNames(f.to), ", ")})
		}
		if back > 0 {
			loss.Pods = append(loss.Pods, api.Change{Op: "move", Name: key.String(), Why: plural(back, "pod that runs still takes its place on ", "pods that run still take their place on ") + strings.Join(sortedNames(f.back), ", ")})
		}
		stay := max(f.lost-moved-back-waits, 0)
		if stay > 0 {
			why := "no majority is left to start it elsewhere"
			switch {
			case loss.Majority && f.kept:
				why = "it is kept for its node"
			case loss.Majority:
				why = "nothing takes its place"
			}
			loss.Pods = append(loss.Pods, api.Change{Op: "stay", Name: key.String(), Why: plural(stay, "pod waits for its node: ", "pods wait for their nodes: ") + why})
		}
		loss.Moved += moved + back
		loss.Waiting += waits + stay
	}
	order := map[string]int{"wait": 0, "stay": 1, "move": 2}
	slices.SortFunc(loss.Pods, func(a, b api.Change) int {
		return cmp.Or(cmp.Compare(order[a.Op], order[b.Op]), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Why, b.Why))
	})
}

// services says which Services nobody answers any more: all who did were on nodes that are lost.
func (w *whatIf) services(loss *api.Loss, run dryRun, nodes []*cluster.Node) {
	mute := w.mute(nodes)
	if len(mute) == 0 {
		return
	}
	answer := func(*cluster.Service) []netip.Addr { return nil }
	if loss.Majority {
		answer = answering(wire.Compile(wire.FromState(run.s, nodes[0].ID, w.content)))
	}
	for _, svc := range mute {
		c := api.Change{Op: "gap", Name: svc.Key.String(), Why: "nobody answers until its pods have started elsewhere"}
		if len(answer(svc)) == 0 {
			c.Op, c.Why = "down", "nobody answers until a node is back"
		}
		loss.Services = append(loss.Services, c)
	}
	slices.SortFunc(loss.Services, func(a, b api.Change) int { return cmp.Or(cmp.Compare(a.Op, b.Op), cmp.Compare(a.Name, b.Name)) })
}

// mute are the Services that are answered on these nodes alone.
func (w *whatIf) mute(nodes []*cluster.Node) (mute []*cluster.Service) {
	lost := map[netip.Addr]bool{}
	for _, n := range nodes {
		lost[n.Address] = true // of pods in the network of their host
		for p := range w.s.PodsOn(n.ID) {
			lost[p.IP] = true
		}
	}
	for svc := range w.s.Services().Values() {
		answers := w.answers[svc.Key]
		if len(answers) > 0 && !slices.ContainsFunc(answers, func(a netip.Addr) bool { return !lost[a] }) {
			mute = append(mute, svc)
		}
	}
	return mute
}

func nodeName(s *cluster.State, id place.NodeID) string {
	if n, ok := s.Nodes().Get(id); ok {
		return n.Name
	}
	return string(id)
}

// nodeNameAndState is a node's name, and what it was taken in spite of.
func nodeNameAndState(s *cluster.State, id place.NodeID) string {
	if n, ok := s.Nodes().Get(id); ok && n.Unsteady {
		return n.Name + " (" + place.LastResort + ")"
	}
	return nodeName(s, id)
}

func sum(m map[string]int) (all int) {
	for _, n := range m {
		all += n
	}
	return all
}
