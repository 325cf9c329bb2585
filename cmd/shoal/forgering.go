package main

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/ring"
)

// What stands here fits the ring to what a forge asks of it.

// What a node says of itself in the gossip: that it reads the forge. Whoever says so brings no more about than that others
// ask it.
const (
	tagForge  = "forge"
	tagReads  = "reads"
	forgePoll = 30 * time.Second // where no other interval is given
)

// openForge has this node follow the forge that it was given.
func (m *machine) openForge() {
	if m.opt.repository == "" {
		return
	}
	interval := m.opt.poll
	if interval <= 0 {
		interval = forgePoll
	}
	m.peering.forge.Store(newForge(forgeParts{
		self: m.dir.Node.ID, ring: m.ringFacts.Genesis.Ring, interval: interval, mirror: m.mirror, others: m.forgeReaders,
		ask: m.sightOf,
		take: func(ctx context.Context, node place.NodeID, ids []source.ID) error {
			return m.mirror.TakeFrom(ctx, m.peers.Client(node), gitAt(node), ids)
		},
		tell: m.tellForge, news: func() { m.looks.nudge() }, claim: func() { m.claims.Wake() }, now: deadline.Now, log: m.log,
	}))
}

// forgeEvery is how often the mirror is to look at the forge.
func (m *machine) forgeEvery() time.Duration {
	if f := m.peering.forge.Load(); f != nil {
		return f.every()
	}
	return m.opt.poll
}

// followForge keeps up with the forge until ctx ends.
func (m *machine) followForge(ctx context.Context) error {
	f := m.peering.forge.Load()
	if f == nil {
		return nil
	}
	return f.run(ctx)
}

// forgeReaders are the other nodes of the ring that are up.
func (m *machine) forgeReaders() (out []source.Reader) {
	wanted := map[place.NodeID]bool{}
	for _, n := range m.wanted() {
		wanted[n] = n != m.dir.Node.ID
	}
	for _, member := range m.ring.Members() {
		if wanted[member.ID] && member.Status == ring.Alive {
			out = append(out, source.Reader{Node: string(member.ID), Reads: member.Tags[tagForge] == tagReads})
		}
	}
	return out
}

// tellForge says whether this node reads the forge.
func (m *machine) tellForge(reads bool) error {
	tags := map[string]string{}
	if reads {
		tags[tagForge] = tagReads
	}
	return m.ring.Tell(tags)
}

// sightOf asks a node what it has seen of the forge.
func (m *machine) sightOf(ctx context.Context, n place.NodeID) (s forgeSight, err error) {
	return s, m.peers.Call(ctx, n, pathForge, struct{}{}, &s)
}

// forgeAsked says what this node has seen of the forge.
func (m *machine) forgeAsked(context.Context, place.NodeID, struct{}) (forgeSight, error) {
	f := m.peering.forge.Load()
	if f == nil {
		return forgeSight{}, errNotYet
	}
	return f.sight(), nil
}

// forgeSource says in the status how the ring stands to the forge.
func (m *machine) forgeSource(s *api.Source) {
	f := m.peering.forge.Load()
	if f == nil {
		return
	}
	names := m.nodeNames()
	at, by, turn := f.standing()
	s.Fetched = time.Time{}
	if at != 0 {
		s.Fetched = time.Now().Add(-time.Duration(deadline.Now()-at) * time.Millisecond)
	}
	if len(names) < 2 {
		return
	}
	s.By = names[by]
	for _, n := range turn.Pollers {
		s.Pollers = append(s.Pollers, names[place.NodeID(n)])
	}
}

// forgeState says how this node stands to the forge; nil if it follows none.
func (m *machine) forgeState() *api.Forge {
	f := m.peering.forge.Load()
	if f == nil {
		return nil
	}
	at, by, turn := f.standing()
	out := &api.Forge{Polls: turn.Polls, Ago: -1, Problem: m.sourceStatus().Stale}
	if at != 0 {
		out.Ago, out.By = deadline.Now()-at, m.nodeNames()[by]
	}
	return out
}

// nodeNames are the names of the nodes of the ring.
func (m *machine) nodeNames() map[place.NodeID]string {
	out := map[place.NodeID]string{}
	m.state(func(s *cluster.State) {
		for n := range s.Nodes().Values() {
			out[n.ID] = n.Name
		}
	})
	return out
}
