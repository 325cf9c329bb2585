package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/internal/wallclock"
	"github.com/shoal-dev/shoal/nodeagent/ledger"
)

// openLedger opens the ledger and has this node in it. A node that was in it before does not wait for the others: what
// its disk knows to be agreed on is enough to go on.
func (m *machine) openLedger(ctx context.Context) (err error) {
	pods, services, err := m.opt.ranges()
	if err != nil {
		return err
	}
	o := ledger.Options[*cluster.State, cluster.Outcome]{
		Dir: m.dir.Path("ledger"), Node: m.dir.Node.ID, Boot: m.dir.Boot.ID, Content: m.content, Log: m.log, Machine: ledger.Cluster(),
		Transport: ledger.NewTransport(m.peers.RaftStream(), m.log), Forward: m.forward, Fetch: m.fetch, Wanted: m.wanted, Alive: m.alive,
		ClockOff: m.clockOff, Now: wallclock.Now,
	}
	if len(m.peers.Seeds()) == 0 { // who joined waits for the ledger of the ring
		o.Genesis = &cluster.Genesis{
			Ring: m.peers.Ring(), PodCIDR: pods, ServiceCIDR: services, Domain: m.opt.domain, Engine: cluster.EngineVersion,
		}
	}
	if m.ledger, err = ledger.Open(ctx, o); err != nil {
		return err
	}
	m.onClose(m.ledger.Close)
	m.peering.ledger.Store(m.ledger)
	// Half of it may say that this node is not in the ring yet, which then waits for a majority to take it in again.
	if err := m.ledger.Replayed(ctx); err != nil {
		return err
	}
	if err := m.awaitLedger(ctx); err != nil {
		return err
	}
	var known *cluster.Node
	nodes := 0
	m.ledger.View(func(s *cluster.State) {
		known, _ = s.Nodes().Get(m.dir.Node.ID)
		nodes = s.Nodes().Len()
	})
	if known != nil && known.Up && nodes > 1 {
		return nil // the keeper tells the others what is new about this node
	}
	return m.tell(ctx, m.up())
}

// awaitLedger waits until a node that has just joined has got the ledger of its ring, and is in it.
func (m *machine) awaitLedger(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	said := false
	for {
		if m.ledger.Applied() > 0 && (len(m.peers.Seeds()) == 0 || m.knows(m.dir.Node.ID)) {
			return nil
		}
		if !said {
			said = true
			m.log.InfoContext(ctx, "waiting for the ring's ledger")
		}
		select {
		case <-changes:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// up is what this node says of itself.
func (m *machine) up() cluster.NodeUp {
	at, _ := m.ports() // was checked
	taints, _ := parseTaints(m.opt.taints)
	return cluster.NodeUp{
		ID: m.dir.Node.ID, Name: m.opt.name(), Key: m.dir.Node.Public(), Address: m.address, Arch: runtime.GOARCH, Zone: m.opt.zone,
		Labels: m.opt.labels, Taints: taints, Capacity: capacity(m.opt.dataDir), Engine: m.engine(), Peer: at.peer.Port(), Gossip: at.gossip.Port(),
		Tunnel: m.tunnelEnd(),
	}
}

// tell puts what this node says of itself into the ledger.
func (m *machine) tell(ctx context.Context, up cluster.NodeUp) error {
	out, err := m.ledger.Append(ctx, cluster.Input{NodeUp: &up})
	if err != nil {
		return fmt.Errorf("announce this node: %w", err)
	}
	if out.Rejected != "" {
		return fmt.Errorf("the ring refused this node: %s", out.Rejected)
	}
	return nil
}

// facts are what the ledger fixed about the network.
func (m *machine) facts() (ring cluster.Ring, node place.Node, err error) {
	err = errors.New("the ledger has no such node")
	m.ledger.View(func(s *cluster.State) {
		r, ok1 := s.Ring()
		n, ok2 := s.Nodes().Get(m.dir.Node.ID)
		if ok1 && ok2 {
			ring, node, err = *r, n.Node, nil
		}
	})
	return ring, node, err
}
