package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent"
)

// previewsAskFor is how long other nodes may take to say what they hold of a preview.
const previewsAskFor = 3 * time.Second

// peerPreviews asks the other nodes what they hold of a preview; of none in particular, the one that leads what it knows.
func (m *machine) peerPreviews(ctx context.Context, name string) []nodeagent.PreviewsHere {
	ctx, cancel := context.WithTimeout(ctx, previewsAskFor)
	defer cancel()
	var nodes []place.NodeID
	if name == "" {
		if leader, ok := m.ledger.Leader(); ok && leader != m.dir.Node.ID {
			nodes = append(nodes, leader)
		}
	} else {
		m.ledger.View(func(s *cluster.State) {
			for n := range s.Nodes().Values() {
				if n.ID != m.dir.Node.ID {
					nodes = append(nodes, n.ID)
				}
			}
		})
	}
	names := m.nodeNames()
	out := make([]nodeagent.PreviewsHere, len(nodes))
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() {
			if err := m.peers.Call(ctx, n, pathPreview, name, &out[i]); err != nil {
				out[i] = nodeagent.PreviewsHere{Unseen: true}
			}
			out[i].Node = names[n]
		})
	}
	group.Wait()
	return out
}

// previewsAsked answers another node.
func (m *machine) previewsAsked(ctx context.Context, _ place.NodeID, name string) (nodeagent.PreviewsHere, error) {
	n := m.peering.node.Load()
	if n == nil {
		return nodeagent.PreviewsHere{}, errNotYet
	}
	return n.PreviewsHere(ctx, name)
}

// followPreviews has the deployer look whenever the ledger says something else of previews, and the leader see to them when something of
// them runs otherwise, or a branch has moved.
func (m *machine) followPreviews(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	said, runs := "", ""
	for {
		var now, run strings.Builder
		m.ledger.View(func(s *cluster.State) {
			for p := range s.Previews().Values() {
				fmt.Fprintln(&now, p.Name, p.Commit)
				texts, more := s.Ill(p.Name, 1)
				env, _ := s.Environments().Get(p.Name)
				fmt.Fprintln(&run, p.Name, env != nil && env.Commit == p.Commit, p.Asleep, texts, more)
			}
			if m.mirror.Builtin() {
				for r := range s.Refs().Values() {
					fmt.Fprintln(&run, r.Name, r.ID)
				}
			}
		})
		if now.String() != said {
			said = now.String()
			m.looks.nudge()
		}
		if run.String() != runs {
			runs = run.String()
			m.previewing.Wake()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		}
	}
}
