package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/internal/wallclock"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Standing is what a node is in the ring's ledger.
type Standing struct{ Voter, Leader bool }

// RingFacts are what a Node says of the other nodes.
type RingFacts struct {
	Standing func() map[place.NodeID]Standing
	// NewToken makes a token: its words for the user, and what the ledger keeps of it.
	NewToken func() (text, id, hash string)
	Peer     string // where this node answers machines that join, "192.0.2.7:7947"
	// Dial connects to a node's answers about its pods; nil: this node asks no other.
	Dial     func(ctx context.Context, node place.NodeID) (net.Conn, error)
	HoldsKey func() bool // whether this node can take machines in
	Keys     func() api.Keys
	Forge    func() *api.Forge                              // nil: the same as one that gives nil
	RingKey  func(ctx context.Context) (api.RingKey, error) // that the ring signs by
	// Rotate exchanges keys on all nodes: "keys" or "authority".
	Rotate func(ctx context.Context, what string) (api.Rotation, error)
	// Unseat has a node that is to leave give up its seat, and waits for that; it does nothing if it has none.
	Unseat func(ctx context.Context, node place.NodeID) error
	// Look asks a node how far it is; it takes no longer than a second.
	Look func(ctx context.Context, node place.NodeID) (api.NodeState, error)
}

// Ring is the list of nodes. Those that answer say how far they are.
func (n *Node) Ring(ctx context.Context, look bool) (api.Ring, error) {
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	var out api.Ring
	if r, ok := s.Ring(); ok {
		out.Ring, out.Engine = r.Genesis.Ring, r.Engine
	}
	out.Claim = n.Claims.Status()
	standing := n.Facts.Standing()
	for node := range s.Nodes().Values() {
		pods := 0
		for p := range s.PodsOn(node.ID) {
			if p.Finished == 0 {
				pods++
			}
		}
		out.Nodes = append(out.Nodes, api.Node{
			Name: node.Name, ID: string(node.ID), Address: node.Address.String(), Key: node.Key, Zone: node.Zone, Arch: node.Arch, Labels: node.Labels, Taints: taintTexts(node.Taints), Short: node.DiskPressure, ClockAhead: node.ClockAhead,
			State: nodeState(node), Cordoned: node.Cordoned, Draining: node.Draining, Voter: standing[node.ID].Voter, Leader: standing[node.ID].Leader,
			Pods: pods, PodCIDR: node.PodCIDR.String(), Engine: node.Engine, Joined: time.UnixMilli(node.Since), Self: node.ID == n.Agent.opt.Node, WireGuard: node.Tunnel.Port,
		})
	}
	slices.SortFunc(out.Nodes, func(a, b api.Node) int { return cmp.Compare(a.Name, b.Name) })
	if look {
		n.lookAtAll(ctx, out.Nodes)
	}
	return out, nil
}

func nodeState(n *cluster.Node) string {
	switch {
	case n.Down && n.Fenced:
		return "Lost"
	case n.Down:
		return "NotReady"
	case !n.Up:
		return "Joining"
	case n.Unsteady:
		return "Unsteady"
	case n.Restarting > wallclock.Now().UnixMilli():
		return "Restarting"
	}
	return "Ready"
}

// lookAtAll asks all nodes side by side.
func (n *Node) lookAtAll(ctx context.Context, nodes []api.Node) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	done := make(chan int)
	for i := range nodes {
		go func() {
			defer func() { done <- i }()
			if nodes[i].Self {
				s := n.Where()
				nodes[i].Now = &s
				return
			}
			if s, err := n.Facts.Look(ctx, place.NodeID(nodes[i].ID)); err == nil {
				nodes[i].Now = &s
			}
		}()
	}
	for range nodes {
		<-done
	}
}

// Where is how far this node is.
func (n *Node) Where() (out api.NodeState) {
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		out.Index, out.StateHash = s.Index(), fmt.Sprintf("%x", s.Hash())
	})
	out.Version = n.Version
	if n.Facts.Standing != nil {
		for id, standing := range n.Facts.Standing() {
			if standing.Leader {
				out.Leader = string(id)
			}
		}
	}
	if n.Facts.Keys != nil {
		out.Keys = n.Facts.Keys()
	}
	if n.Facts.Forge != nil {
		out.Forge = n.Facts.Forge()
	}
	out.HoldsKey = n.Facts.HoldsKey != nil && n.Facts.HoldsKey()
	out.Environments = map[string]api.EnvironmentState{}
	verdicts := n.Deployer.Verdicts()
	for name, v := range verdicts {
		e := api.EnvironmentState{Commit: string(v.Commit), Digest: string(v.D)}
		if v.Err != nil {
			e.Problem = v.Err.Error()
		} else if len(v.Problems) > 0 {
			e.Problem = v.Problems[0].String()
		}
		out.Environments[name] = e
	}
	n.Deployer.addOwn(out.Environments, verdicts)
	return out
}

// CreateToken makes a token for one machine.
func (n *Node) CreateToken(ctx context.Context, life time.Duration) (api.Token, error) {
	text, id, hash := n.Facts.NewToken()
	expires := wallclock.Now().Add(life)
	out, err := n.Agent.opt.Ledger.Append(ctx, cluster.Input{Token: &cluster.Token{ID: id, Hash: hash, Expires: expires.UnixMilli()}})
	if err != nil {
		return api.Token{}, err
	}
	if out.Rejected != "" {
		return api.Token{}, fmt.Errorf("the ring refused it: %s", out.Rejected)
	}
	return api.Token{Text: text, Address: n.Facts.Peer, Expires: expires}, nil
}

// Change does something to a node: "cordon", "uncordon", "drain" or "remove".
func (n *Node) Change(ctx context.Context, name, what string) error {
	id, err := n.nodeNamed(name)
	if err != nil {
		return err
	}
	in := cluster.Input{}
	switch what {
	case "cordon", "uncordon", "drain":
		in.Cordon = &cluster.Cordon{ID: id, Off: what == "uncordon", Drain: what == "drain"}
	case "remove":
		if err := n.unseat(ctx, id); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		in.Leave = &cluster.Leave{ID: id}
	default:
		return fmt.Errorf("%s: want cordon, uncordon, drain or remove", what)
	}
	out, err := n.Agent.opt.Ledger.Append(ctx, in)
	if err == nil && out.Rejected != "" {
		err = fmt.Errorf("the ring refused it: %s", out.Rejected)
	}
	return err
}

// RingKey is the public key that the ring signs by.
func (n *Node) RingKey(ctx context.Context) (api.RingKey, error) { return n.Facts.RingKey(ctx) }

// Rotate exchanges keys on all nodes.
func (n *Node) Rotate(ctx context.Context, what string) (api.Rotation, error) {
	return n.Facts.Rotate(ctx, what)
}

// Claim says whose the repository is, as its host says now.
func (n *Node) Claim(ctx context.Context) (api.Claim, error) { return n.Claims.Read(ctx) }

// TakeClaim claims the repository for this ring, if shown is still what stands there.
func (n *Node) TakeClaim(ctx context.Context, shown string) (api.Claim, error) {
	return n.Claims.Take(ctx, shown)
}

// unseat has a node that is there, and could leave, give up its seat first: who left is not answered any more. That of a lost
// one goes to another when there is one.
func (n *Node) unseat(ctx context.Context, id place.NodeID) error {
	leaves := false
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		node, ok := s.Nodes().Get(id)
		leaves = ok && s.Nodes().Len() > 1 && !node.Down
		for p := range s.PodsOn(id) {
			leaves = leaves && p.Finished != 0
		}
	})
	if !leaves {
		return nil
	}
	return n.Facts.Unseat(ctx, id)
}

// nodeNamed finds a node by its name or its id.
func (n *Node) nodeNamed(name string) (id place.NodeID, err error) {
	err = fmt.Errorf("no node is named %q; `shoal nodes` lists them: %w", name, api.ErrNotFound)
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		for node := range s.Nodes().Values() {
			if node.Name == name || string(node.ID) == name {
				id, err = node.ID, nil
			}
		}
	})
	return id, err
}
