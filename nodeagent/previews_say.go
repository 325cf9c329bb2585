package nodeagent

import (
	"context"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Previews says which previews there are, and which pull requests have none.
func (n *Node) Previews(ctx context.Context) (api.Previews, error) {
	out := api.Previews{}
	verdicts := n.Deployer.Verdicts()
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		ports, names := map[string][]string{}, map[string][]string{}
		ring, _ := s.Ring()
		for svc := range s.Services().Values() {
			if name := commitName(s, svc, ring.Domain); name != "" {
				names[svc.Environment] = append(names[svc.Environment], name)
			}
			for _, p := range svc.NodePorts {
				ports[svc.Environment] = append(ports[svc.Environment], fmt.Sprintf("%s:%d", svc.Key.Name, p.NodePort))
			}
		}
		for p := range s.Previews().Values() {
			one := api.PreviewOf{Have: *p, Ports: ports[p.Name], Names: names[p.Name]}
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
	here, err := n.PreviewsHere(ctx, "")
	out.Waiting = here.Waiting
	if err == nil && n.PeerPreviews != nil && len(out.Waiting) == 0 {
		for _, o := range n.PeerPreviews(ctx, "") {
			out.Waiting = append(out.Waiting, o.Waiting...) // who leads knows; others know of none
		}
	}
	return out, err
}

// commitName is the name with a port that a Service with node ports has while its preview runs the commit that it runs now; "" if it has none.
func commitName(s *cluster.State, svc *cluster.Service, domain string) string {
	commit := s.PreviewRuns(svc.Environment)
	if commit == "" || !svc.ClusterIP.IsValid() || len(svc.NodePorts) == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", wire.CommitName(commit, svc.Key.Namespace, svc.Key.Name, domain), svc.NodePorts[0].Port)
}

// PreviewName is the first of the names that a preview has while it runs the commit that it runs now, with a port; "" if it has none.
func PreviewName(s *cluster.State, preview string) string {
	ring, _ := s.Ring()
	for svc := range s.Services().Values() {
		if svc.Environment == preview {
			if name := commitName(s, svc, ring.Domain); name != "" {
				return name
			}
		}
	}
	return ""
}

// PreviewsHere is what one node says of previews, to others.
type PreviewsHere struct {
	Node    string            `json:"node"`
	Unseen  bool              `json:"unseen,omitempty"` // it did not answer
	Waiting []preview.Waiting `json:"waiting,omitempty"`
	Left    []preview.Thing   `json:"left,omitempty"`
}

// PreviewsHere says what this node knows: what waits, if it leads, and what it holds of a preview; "" asks for none.
func (n *Node) PreviewsHere(ctx context.Context, name string) (out PreviewsHere, err error) {
	if n.Previewing != nil {
		out.Waiting = n.Previewing.Waiting()
	}
	if name == "" {
		return out, nil
	}
	add := func(kind, what string) {
		out.Left = append(out.Left, preview.Thing{Kind: kind, Name: what, Environment: name})
	}
	for _, id := range n.Deployer.opt.Source.Pins(name) {
		add("ref", "commit "+id.Short()+" is kept")
	}
	have, err := n.Agent.opt.Containers.List(ctx)
	if err != nil {
		return out, err
	}
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		for id, seen := range have {
			if _, known := s.Pods().Get(id); known {
				continue
			}
			add("cgroup", string(id)) // it is being removed; whose it was nobody knows any more
			if seen.Namespaces {
				add("netns", string(id))
			}
			if seen.Linked {
				add("link", string(id))
			}
		}
	})
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

// Receipt says what is left of a preview that is gone: in the ledger, and on the nodes.
func (n *Node) Receipt(ctx context.Context, name string) (preview.Receipt, error) {
	var found []preview.Thing
	add := func(kind, what string) {
		found = append(found, preview.Thing{Kind: kind, Name: what, Environment: name})
	}
	here, err := n.PreviewsHere(ctx, name)
	if err != nil {
		return preview.Receipt{}, err
	}
	nodes := []PreviewsHere{here}
	if n.PeerPreviews != nil {
		nodes = append(nodes, n.PeerPreviews(ctx, name)...)
	}
	why := "it is not wanted"
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		if self, ok := s.Nodes().Get(n.Agent.opt.Node); ok {
			nodes[0].Node = self.Name
		}
		for o := range s.ObjectsOf(name) {
			add("object", o.Key.String())
		}
		for p := range s.Pods().Values() {
			if p.Environment == name {
				add("pod", p.Name)
			}
		}
		for svc := range s.Services().Values() {
			if svc.Environment != name {
				continue
			}
			add("name", svc.Key.String())
			for _, p := range svc.NodePorts {
				add("rule", fmt.Sprintf("%s on port %d", svc.Key, p.NodePort))
			}
		}
		if p, ok := s.Previews().Get(name); ok {
			why = "it is still there, for " + p.Branch
			add("object", "preview "+name)
		}
	})
	var unseen []string
	for _, o := range nodes {
		if o.Unseen {
			unseen = append(unseen, o.Node)
		}
		for _, t := range o.Left {
			t.Node, t.Environment = o.Node, name
			found = append(found, t)
		}
	}
	return preview.Gone{Name: name, Why: why}.Receipt(found, unseen), nil
}
