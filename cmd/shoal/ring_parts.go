package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/internal/wallclock"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/ledger"
	"github.com/shoal-dev/shoal/nodeagent/ring"
)

// What stands here fits ring, ledger and peers to what the loop asks of a ring.

// ringPart is the other nodes, for the deployer.
type ringPart struct{ m *machine }

func (r ringPart) Voters() (voters []place.NodeID) {
	for _, member := range r.m.ledger.Members() {
		if member.Voter {
			voters = append(voters, member.ID)
		}
	}
	return voters
}

func (r ringPart) Leading() bool { return r.m.ledger.Leading() }

func (r ringPart) Vote(ctx context.Context, v nodeagent.Vote) (d nodeagent.Decision, err error) {
	leader, known := r.m.ledger.Leader()
	if !known {
		return d, errors.New("the ring has no leader now")
	}
	return d, r.m.peers.Call(ctx, leader, pathVote, v, &d)
}

// keeperLedger is the ledger, for the keeper.
type keeperLedger struct{ *clusterLedger }

// Leads waits for all that leaders before it have committed.
func (l keeperLedger) Leads() (term uint64, yes bool) {
	now, ok := l.Leadership()
	return now.Term, ok
}

func (l keeperLedger) Verify(ctx context.Context) (uint64, error) {
	if _, _, err := l.clusterLedger.Verify(ctx); err != nil {
		return 0, err
	}
	if _, ok := l.Leads(); !ok {
		return 0, ledger.ErrNotLeader
	}
	return l.Applied(), nil
}

// gossipPart is who answers, for the keeper.
type gossipPart struct {
	ring   *ring.Ring
	events chan struct{}
	news   func(from place.NodeID) // a node says that the repository has news
	moved  func()                  // nodes came, went, or say something else of themselves
}

// sayFetch is what a node says, with its ID, that has found news in the repository that all follow: the others need not wait
// for their next look. It says nothing of what is there, so whoever says it brings no more about than that others ask.
const sayFetch = "fetch"

func newGossipPart(r *ring.Ring, news func(from place.NodeID), moved func()) gossipPart {
	return gossipPart{ring: r, events: make(chan struct{}, 1), news: news, moved: moved}
}

func (g gossipPart) Alive() map[place.NodeID]bool {
	alive := map[place.NodeID]bool{}
	for _, m := range g.ring.Members() {
		alive[m.ID] = m.Status == ring.Alive
	}
	return alive
}

func (g gossipPart) Events() <-chan struct{} { return g.events }

// run turns the gossip's events into a nudge, until ctx ends.
func (g gossipPart) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e, ok := <-g.ring.Events():
			if !ok {
				return nil
			}
			switch {
			case e.Kind == ring.Message && e.Name == sayFetch:
				g.news(place.NodeID(e.Payload))
			case e.Kind != ring.Message:
				g.moved()
			}
			if e.Kind == ring.Twin && e.Twins.Second {
				return fmt.Errorf("%s; it takes no part: begin with an empty data directory here", e.Twins)
			}
			select {
			case g.events <- struct{}{}:
			default:
			}
		}
	}
}

// openKeeping opens what keeps the list of nodes true, and this node's lease.
func (m *machine) openKeeping(context.Context) (err error) {
	m.gossip = newGossipPart(m.ring, func(from place.NodeID) {
		if f := m.peering.forge.Load(); f != nil {
			f.announced(from)
		}
	}, func() {
		if f := m.peering.forge.Load(); f != nil {
			f.nudge()
		}
	})
	m.keeper = nodeagent.NewKeeper(nodeagent.KeeperOptions{
		Node: m.dir.Node.ID, Ledger: keeperLedger{m.ledger}, Members: m.gossip, Heard: m.peers.Answered, Ahead: m.clocksAhead, Up: m.up, Now: deadline.Now, Log: m.log,
	})
	m.peering.keeper.Store(m.keeper)
	m.leases, err = nodeagent.NewLeases(nodeagent.LeasesOptions{
		Node: m.dir.Node.ID, Ledger: m.ledger, Renew: m.renewLease, Now: deadline.Now, File: m.leaseFile(), Guard: m.containers, Log: m.log,
	})
	if err != nil {
		return err
	}
	m.onClose(m.leases.Close)
	return nil
}

// leaseFile says by when what may run once must be dead.
func (m *machine) leaseFile() string { return filepath.Join(m.opt.runDir, "lease") }

func publicKey(k ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(k) }

// ringFactsFor is what commands ask of the other nodes.
func (m *machine) ringFactsFor() nodeagent.RingFacts {
	return nodeagent.RingFacts{
		Peer: m.peers.Addr().String(),
		Dial: m.peers.DialCommands,
		NewToken: func() (text, id, hash string) {
			t := m.peers.NewToken()
			return t.Text(), t.ID, t.Hash()
		},
		Standing: func() map[place.NodeID]nodeagent.Standing {
			out := map[place.NodeID]nodeagent.Standing{}
			for _, member := range m.ledger.Members() {
				out[member.ID] = nodeagent.Standing{Voter: member.Voter, Leader: member.Leader}
			}
			return out
		},
		Unseat:   m.unseat,
		HoldsKey: m.peers.HoldsKey,
		Rotate:   m.rotate,
		RingKey:  m.ringKey,
		Keys:     func() api.Keys { return m.ownKeys().Keys },
		Forge:    m.forgeState,
		Look: func(ctx context.Context, node place.NodeID) (s api.NodeState, err error) {
			return s, m.peers.Call(ctx, node, pathWhere, struct{}{}, &s)
		},
	}
}

const (
	// awayFor is how long the others wait for an agent that said that it goes: a restart takes some seconds.
	awayFor = 30 * time.Second
	// farewellTime bounds how long an agent that is told to end takes to say so.
	farewellTime = 3 * time.Second
)

// farewell tells the ring that this agent goes, so that nothing is replaced while it is restarted, and hands the
// leadership over, so that nobody waits for an election.
func (m *machine) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), farewellTime)
	defer cancel()
	nodes := 0
	m.ledger.View(func(s *cluster.State) { nodes = s.Nodes().Len() })
	if nodes < 2 || m.opt.endTogether || !m.knowsItself() || m.isDown() {
		return
	}
	out, err := m.ledger.Append(ctx, cluster.Input{Restarting: &cluster.Restarting{Until: wallclock.Now().Add(awayFor).UnixMilli()}})
	if err == nil && out.Rejected != "" {
		err = errors.New(out.Rejected)
	}
	if err := errors.Join(err, m.ledger.StepDown(ctx)); err != nil {
		m.log.WarnContext(ctx, "the ring was not told that this agent goes", "err", err)
	}
}

// yield hands the leadership over when this node's disk does not take what the ring agreed on: others can decide, while
// a leader that cannot store a commit never activates it. Its log may still have room when nothing else has.
func (m *machine) yield(ctx context.Context, err error) {
	full := slices.ContainsFunc([]error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO}, func(e error) bool { return errors.Is(err, e) })
	if !full || !m.ledger.Leading() || len(ringPart{m}.Voters()) < 2 {
		return
	}
	m.log.WarnContext(ctx, "the disk of this node fails: it hands the leadership over", "err", err)
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	if err := m.ledger.StepDown(ctx); err != nil {
		m.log.WarnContext(ctx, "the leadership was not handed over", "err", err)
	}
}

// followNodes tells the parts that talk to other nodes when the list of nodes has changed, and fetches the authority's
// key when this node has become a voter: as long as one voter is left, machines can join and certificates are renewed.
func (m *machine) followNodes(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	var known []place.NodeID
	for {
		if now := m.wanted(); !slices.Equal(now, known) {
			known = now
			m.peers.Recheck()
			m.ring.Seek()
		}
		var again <-chan time.Time
		if !m.peers.HoldsKey() && m.votes(m.dir.Node.ID) {
			if err := m.peers.FetchKeys(ctx); err != nil {
				m.log.WarnContext(ctx, "the key of the ring's authority not fetched, will retry", "err", err)
				again = time.After(5 * time.Second)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		case <-again:
		}
	}
}

// tellOfFetch has the other nodes take over what this one has fetched.
func (m *machine) tellOfFetch(ctx context.Context) {
	if m.opt.repository == "" || len(m.wanted()) < 2 {
		return
	}
	if err := m.ring.Broadcast(sayFetch, []byte(m.dir.Node.ID)); err != nil {
		m.log.InfoContext(ctx, "other nodes are not told of news in the repository, and find them when they ask next", "err", err)
	}
}
