package nodeagent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/internal/wallclock"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// maxLosses bounds how many losses one question may mean: those of one or two of 63 nodes.
const maxLosses = 2016

// losses says what becomes of a state when nodes are lost, the worst first. What is under way, a roll-out perhaps, is
// carried out before that. Then it steps forks of it as the leader would: the nodes are down, then their leases are over,
// and the others do all they are told at once and well.
func (n *Node) losses(s *cluster.State, content desired.Content, without []string) ([]api.Loss, error) {
	if len(without) == 0 {
		return nil, nil
	}
	sets, err := lostSets(s, without)
	if err != nil {
		return nil, err
	}
	rest := dryRun{s: s.Snapshot(), content: content, now: max(wallclock.Now().UnixMilli(), s.Time()), silent: down(s)}
	if err := rest.settle(); err != nil {
		return nil, err
	}
	s = rest.s
	w := whatIf{s: s, content: content, voters: map[place.NodeID]bool{}, answers: map[desired.Key][]netip.Addr{}, now: rest.now, down: map[place.NodeID]*cluster.State{}}
	if n.Facts.Standing != nil {
		for id, standing := range n.Facts.Standing() {
			w.voters[id] = standing.Voter
		}
	}
	for node := range s.Nodes().Values() {
		w.now = max(w.now, node.Restarting) // an announced absence is none of it
	}
	if s.Services().Len() > 0 {
		answer := answering(wire.Compile(wire.FromState(s, sets[0][0].ID, content)))
		for svc := range s.Services().Values() {
			w.answers[svc.Key] = answer(svc)
		}
	}
	out := make([]api.Loss, 0, len(sets))
	for _, lost := range sets {
		loss, err := w.lose(lost)
		if err != nil {
			return nil, err
		}
		out = append(out, loss)
	}
	slices.SortStableFunc(out, func(a, b api.Loss) int {
		return cmp.Or(
			cmp.Compare(severity(b), severity(a)), cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(len(b.Services), len(a.Services)), len(a.Nodes)-len(b.Nodes),
		)
	})
	return out, nil
}

// severity orders losses.
func severity(l api.Loss) int {
	down := slices.ContainsFunc(l.Services, func(c api.Change) bool { return c.Op == "down" })
	switch {
	case !l.Majority:
		return 3
	case down:
		return 2
	case l.Waiting > 0:
		return 1
	}
	return 0
}

// lostSets are the sets of nodes that words name.
func lostSets(s *cluster.State, words []string) (sets [][]*cluster.Node, err error) {
	nodes := slices.SortedFunc(s.Nodes().Values(), func(a, b *cluster.Node) int { return cmp.Compare(a.Name, b.Name) })
	named := func(word string) *cluster.Node {
		i := slices.IndexFunc(nodes, func(n *cluster.Node) bool { return n.Name == word || string(n.ID) == word })
		if i < 0 {
			return nil
		}
		return nodes[i]
	}
	if most := map[string]int{"any": 1, "1": 1, "2": 2}[words[0]]; most > 0 && len(words) == 1 && named(words[0]) == nil {
		for i, a := range nodes {
			sets = append(sets, []*cluster.Node{a})
			for _, b := range nodes[i+1:] {
				if most == 2 {
					sets = append(sets, []*cluster.Node{a, b})
				}
			}
		}
		if len(sets) > maxLosses {
			return nil, fmt.Errorf("%d losses are too many to look at: name nodes, or ask for those of one", len(sets))
		}
		return sets, nil
	}
	var set []*cluster.Node
	for _, word := range words {
		node := named(word)
		if node == nil {
			return nil, fmt.Errorf("no node is named %q; `shoal nodes` lists them: %w", word, api.ErrNotFound)
		}
		if !slices.Contains(set, node) {
			set = append(set, node)
		}
	}
	return [][]*cluster.Node{set}, nil
}

// whatIf is a state, and what all questions about it need.
type whatIf struct {
	s       *cluster.State
	content desired.Content
	voters  map[place.NodeID]bool
	answers map[desired.Key][]netip.Addr // who answers for each Service
	now     int64
	down    map[place.NodeID]*cluster.State // the same with one node down: losses of two share the first
}

// down are the nodes that are lost already: they do nothing.
func down(s *cluster.State) map[place.NodeID]bool {
	silent := map[place.NodeID]bool{}
	for n := range s.Nodes().Values() {
		if n.Down {
			silent[n.ID] = true
		}
	}
	return silent
}

// lose says what becomes of the state without some of its nodes.
func (w *whatIf) lose(nodes []*cluster.Node) (api.Loss, error) {
	run := dryRun{s: w.s.Snapshot(), content: w.content, now: w.now, silent: down(w.s)}
	var loss api.Loss
	for _, n := range nodes {
		loss.Nodes = append(loss.Nodes, n.Name)
		run.silent[n.ID] = true
		if w.voters[n.ID] {
			loss.Lost++
		}
	}
	for _, votes := range w.voters {
		if votes {
			loss.Voters++
		}
	}
	left := w.s.Nodes().Len() - len(nodes)
	loss.Majority = left > 0 && (2*loss.Lost < loss.Voters || loss.Voters == 0)
	gone, err := w.carryOut(&run, nodes, loss.Majority)
	if err != nil {
		return loss, fmt.Errorf("without %s: %w", strings.Join(loss.Nodes, ", "), err)
	}
	w.pods(&loss, run.s, gone)
	w.services(&loss, run, nodes)
	return loss, nil
}

// carryOut steps what the leader would say, if there is one, and returns the pods that were on the nodes.
func (w *whatIf) carryOut(run *dryRun, nodes []*cluster.Node, majority bool) (gone lostPods, err error) {
	gone = lostPods{}
	for _, n := range nodes {
		for p := range w.s.PodsOn(n.ID) {
			replaced := p.Lost != 0 && !p.Fenced // its node was lost before, and is not relied on yet
			if p.Finished == 0 && p.Deleting == 0 && !replaced {
				gone[p.ID] = p.Kept
			}
		}
	}
	if !majority {
		return gone, nil
	}
	if shared := w.down[nodes[0].ID]; shared != nil {
		run.s = shared.Snapshot()
	} else {
		if err := run.step(run.lost(nodes[0].ID, false)); err != nil {
			return gone, err
		}
		w.down[nodes[0].ID] = run.s.Snapshot()
	}
	for _, n := range nodes[1:] {
		if err := run.step(run.lost(n.ID, false)); err != nil {
			return gone, err
		}
	}
	run.now += 10_000 // a lease is over by then
	for _, n := range nodes {
		if err := run.step(run.lost(n.ID, true)); err != nil {
			return gone, err
		}
	}
	if run.atRest() && len(w.mute(nodes)) == 0 {
		return gone, nil // that what started elsewhere becomes ready changes nothing of what is asked
	}
	return gone, run.settle()
}

// atRest says whether all pods have a node and none is on its way out, but for those on nodes that do nothing.
func (d *dryRun) atRest() bool {
	for p := range d.s.Pods().Values() {
		if p.Node == "" || p.Deleting != 0 && !d.silent[p.Node] {
			return false
		}
	}
	return true
}

// answering says of a Service by which addresses it answers, by a node's tables.
func answering(t wire.Tables) func(svc *cluster.Service) []netip.Addr {
	ports := map[string][]netip.AddrPort{} // the most of a Service's ports
	for _, p := range t.Ports {
		if len(p.Endpoints) > len(ports[p.Service]) {
			ports[p.Service] = p.Endpoints
		}
	}
	names := map[string][]netip.Addr{} // a Service without an address has endpoints in the names alone
	for _, name := range t.Names {
		names[name.Name] = name.Address
	}
	return func(svc *cluster.Service) (all []netip.Addr) {
		if !svc.ClusterIP.IsValid() {
			return names[svc.Key.Name+"."+svc.Key.Namespace+".svc."+t.Domain+"."]
		}
		for _, at := range ports[svc.Key.Namespace+"/"+svc.Key.Name] {
			all = append(all, at.Addr())
		}
		return all
	}
}
