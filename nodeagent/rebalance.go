package nodeagent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// PlanRebalance forks the ring's state, has it rebalanced by nodes on which all goes well, and says which pods moved. While
// one goes on it says which are on their way.
func (n *Node) PlanRebalance(context.Context) (api.Rebalance, error) {
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	if err := mayRebalance(s); err != nil {
		return api.Rebalance{}, err
	}
	out := api.Rebalance{}
	known := map[control.PodID]bool{}
	note := func(s *cluster.State) {
		ring, _ := s.Ring()
		if ring.Rebalance == nil {
			return
		}
		for _, id := range ring.Rebalance.Pods {
			if p, there := s.Pod(id); there && p.Moving != "" && !known[id] {
				known[id] = true
				out.Moves = append(out.Moves, move(s, p))
			}
		}
	}
	if ring, _ := s.Ring(); ring.Rebalance != nil {
		out.Going, out.Moved = true, ring.Rebalance.Moved
		note(s)
		return out, nil
	}
	run := dryRun{s: s, content: n.Agent.opt.Content, now: max(time.Now().UnixMilli(), s.Time()), silent: map[place.NodeID]bool{}, saw: note}
	for node := range s.Nodes().Values() {
		run.silent[node.ID] = node.Down
	}
	if err := run.step(cluster.Input{Rebalance: &cluster.Rebalance{}}); err != nil {
		return api.Rebalance{}, err
	}
	return out, run.settle()
}

func move(s *cluster.State, p *control.Pod) api.Move {
	to, why, _ := strings.Cut(strings.TrimPrefix(p.Moving, "to "), ": ")
	return api.Move{Pod: p.Namespace + "/" + p.Name, Workload: workload(s, p).String(), From: nodeName(s, p.Node), To: to, Why: why}
}

// Rebalance begins one, or ends the one that goes on.
func (n *Node) Rebalance(ctx context.Context, off bool) error {
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	if err := mayRebalance(s); err != nil {
		return err
	}
	out, err := n.Agent.opt.Ledger.Append(ctx, cluster.Input{Rebalance: &cluster.Rebalance{Off: off}})
	if err == nil && out.Rejected != "" {
		err = fmt.Errorf("the ring refused it: %s", out.Rejected)
	}
	return err
}

// mayRebalance says why not: nodes of older versions would not know what the entry says.
func mayRebalance(s *cluster.State) error {
	if ring, ok := s.Ring(); !ok || ring.Engine < cluster.RebalanceSince {
		return fmt.Errorf("rebalance wants engine version %d: upgrade every node first", cluster.RebalanceSince)
	}
	return nil
}
