package nodeagent

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Taint changes a node's taints, one after the other; it stops at the first that is refused.
func (n *Node) Taint(ctx context.Context, name string, changes []api.Taint) error {
	id, err := n.nodeNamed(name)
	if err != nil {
		return err
	}
	// Nodes of older versions would not know what the entry says.
	engine := 0
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		if r, ok := s.Ring(); ok {
			engine = r.Engine
		}
	})
	if engine < cluster.TaintsSince {
		return fmt.Errorf("taints want engine version %d, the ring runs %d: upgrade every node first", cluster.TaintsSince, engine)
	}
	for _, c := range changes {
		in := cluster.Taint{ID: id, Taint: place.Taint{Key: c.Key, Value: c.Value, Effect: corev1.TaintEffect(c.Effect)}, Off: c.Off}
		out, err := n.Agent.opt.Ledger.Append(ctx, cluster.Input{Taint: &in})
		if err != nil {
			return err
		}
		if out.Rejected != "" {
			return fmt.Errorf("the ring refused it: %s", out.Rejected)
		}
	}
	return nil
}

// taintTexts are a node's taints as kubectl writes them.
func taintTexts(taints []place.Taint) (out []string) {
	for _, t := range taints {
		out = append(out, t.String())
	}
	return out
}
