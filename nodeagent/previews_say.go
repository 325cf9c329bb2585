package nodeagent

import (
	"context"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Previews says which previews there are, and which pull requests have none.
func (n *Node) Previews(context.Context) (api.Previews, error) {
	out := api.Previews{}
	verdicts := n.Deployer.Verdicts()
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		ports := map[string][]string{}
		for svc := range s.Services().Values() {
			for _, p := range svc.NodePorts {
				ports[svc.Environment] = append(ports[svc.Environment], fmt.Sprintf("%s:%d", svc.Key.Name, p.NodePort))
			}
		}
		for p := range s.Previews().Values() {
			one := api.PreviewOf{Have: *p, Ports: ports[p.Name]}
			if env, ok := s.Environments().Get(p.Name); ok {
				texts, _ := s.Ill(p.Name, 1)
				if one.Active = string(env.Commit); len(texts) > 0 {
					one.Ill = texts[0]
				}
				one.Ready = one.Ill == "" && env.Commit == p.Commit
			}
			if v := verdicts[p.Name]; v.Commit == p.Commit {
				for _, problem := range v.Problems {
					one.Problems = append(one.Problems, problem.String())
				}
				if v.Err != nil {
					one.Problems = append(one.Problems, v.Err.Error())
				}
			}
			out.Previews = append(out.Previews, one)
		}
	})
	if n.Previewing != nil {
		out.Waiting = n.Previewing.Waiting()
	}
	return out, nil
}

// WakePreview has the pods of a preview start.
func (n *Node) WakePreview(ctx context.Context, name string) error {
	out, err := n.Agent.opt.Ledger.Append(ctx, cluster.Input{Preview: &cluster.Preview{Wake: name}})
	if err == nil && out.Rejected != "" {
		err = errors.New(out.Rejected)
	}
	return err
}

// Receipt says what is left of a preview that is gone: in the ledger, and on this node.
func (n *Node) Receipt(ctx context.Context, name string) (preview.Receipt, error) {
	var found []preview.Thing
	add := func(kind, what, node string) {
		found = append(found, preview.Thing{Kind: kind, Name: what, Node: node, Environment: name})
	}
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	for o := range s.ObjectsOf(name) {
		add("object", o.Key.String(), "")
	}
	for p := range s.Pods().Values() {
		if p.Environment == name {
			add("pod", p.Name, "")
		}
	}
	for svc := range s.Services().Values() {
		if svc.Environment == name {
			add("name", svc.Key.String(), "")
			for _, p := range svc.NodePorts {
				add("rule", fmt.Sprintf("%s on port %d", svc.Key, p.NodePort), "")
			}
		}
	}
	for _, id := range n.Deployer.opt.Source.Pins(name) {
		add("ref", "commit "+id.Short()+" is kept", string(n.Agent.opt.Node))
	}
	have, err := n.Agent.opt.Containers.List(ctx)
	if err != nil {
		return preview.Receipt{}, err
	}
	for id := range have {
		if _, known := s.Pods().Get(id); !known { // it is being removed; whose it was nobody knows any more
			add("cgroup", string(id), string(n.Agent.opt.Node))
		}
	}
	var unseen []string
	for node := range s.Nodes().Values() {
		if node.ID != n.Agent.opt.Node {
			unseen = append(unseen, node.Name)
		}
	}
	why := "it is not wanted"
	if p, ok := s.Previews().Get(name); ok {
		why = "it is still there, for " + p.Branch
	}
	return preview.Gone{Name: name, Why: why}.Receipt(found, unseen), nil
}
