package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/ledger"
	"github.com/shoal-dev/shoal/nodeagent/peers"
	"github.com/shoal-dev/shoal/nodeagent/store"
)

// ringLeft is what a node that stands still knows of its ring.
type ringLeft struct {
	id      string
	nodes   []*cluster.Node
	members []ledger.Member
}

// goAlone has this node go on alone with its ledger, unless others of its ring answer; confirmed is the ring's id, typed by
// who knows better.
func goAlone(ctx context.Context, w io.Writer, dir *store.Dir, confirmed string, log *slog.Logger) error {
	r, err := readRing(ctx, dir)
	if err != nil {
		return err
	}
	if confirmed != "" && confirmed != r.id {
		return usageError{fmt.Errorf("--ring %s: this node is of ring %s", confirmed, r.id)}
	}
	if confirmed == "" {
		answers, err := r.askOthers(ctx, dir, log)
		if err != nil {
			return err
		}
		if err := r.judge(dir.Node.ID, answers); err != nil {
			return err
		}
	}
	was, err := ledger.GoAlone(dir.Path("ledger"), dir.Node.ID, log)
	if err != nil {
		return err
	}
	var others []string
	for _, m := range was.Members {
		if m.ID != dir.Node.ID {
			others = append(others, r.name(m.ID))
		}
	}
	fmt.Fprintf(w, "this node goes on alone with ring %.8s, from entry %d of its log", r.id, was.Last)
	if was.Last > was.Committed {
		fmt.Fprintf(w, "; the last %d of them may never have been acknowledged, and count now", was.Last-was.Committed)
	}
	fmt.Fprintf(w, `
1. start its agent
2. once they are Lost in shoal nodes, take the others out of the ring: %s
3. have machines join: shoal token create
None of %s may come back with the data it had: on each that still runs, end the agent and say shoal reset --yes first.
`, "shoal remove "+strings.Join(others, "; shoal remove "), strings.Join(others, ", "))
	if !holdsAuthority(dir) {
		fmt.Fprintln(w, "This node does not hold the key of the ring's authority: before others can join, say shoal ring rotate authority.")
	}
	return nil
}

// readRing reads what the ledger of a node that stands still has.
func readRing(ctx context.Context, dir *store.Dir) (r ringLeft, err error) {
	if r.id, err = peers.Membership(dir.Path("peers")); err != nil {
		return r, err
	}
	if r.id == "" {
		return r, errors.New("this node is of no ring")
	}
	content, err := store.OpenContent(dir.Path("content"), 1<<20, nil)
	if err != nil {
		return r, err
	}
	_, nowhere := raft.NewInmemTransport(raft.ServerAddress(dir.Node.ID)) // it asks nobody for anything
	l, err := ledger.Open(ctx, ledger.Options[*cluster.State, cluster.Outcome]{
		Dir: dir.Path("ledger"), Node: dir.Node.ID, Boot: dir.Boot.ID, Content: content, Machine: ledger.Cluster(), Transport: nowhere,
		Heartbeat: time.Minute, // nor does it stand for election
	})
	if err != nil {
		return r, err
	}
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	// What was agreed on is stepped as the agent does it, after the opening; an entry that cannot be is no reason to give up.
	if err := l.Replayed(reading); err != nil && reading.Err() == nil {
		return r, errors.Join(err, l.Close())
	}
	l.View(func(s *cluster.State) { r.nodes = slices.Collect(s.Nodes().Values()) })
	r.members = l.Members()
	return r, l.Close()
}

// readWithin bounds how long the ledger of a node that stands still takes to be read.
const readWithin = 10 * time.Second

func (r ringLeft) name(id place.NodeID) string {
	for _, n := range r.nodes {
		if n.ID == id {
			return n.Name
		}
	}
	return string(id)
}

// askOthers asks all other nodes how they are; those that do not answer within some seconds are not in the answer.
func (r ringLeft) askOthers(ctx context.Context, dir *store.Dir, log *slog.Logger) (map[place.NodeID]api.NodeState, error) {
	p, err := peers.Open(peers.Options{
		Dir: dir.Path("peers"), Key: dir.Node.Key, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Log: log,
		Known: func(id place.NodeID) bool {
			return slices.ContainsFunc(r.nodes, func(n *cluster.Node) bool { return n.ID == id })
		},
		Members: func() (all []peers.Member) {
			for _, n := range r.nodes {
				all = append(all, peers.Member{ID: n.ID, Peer: netip.AddrPortFrom(n.Address, n.Peer), Gossip: netip.AddrPortFrom(n.Address, n.Gossip)})
			}
			return all
		},
	})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answers := map[place.NodeID]api.NodeState{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, n := range r.nodes {
		if n.ID == dir.Node.ID {
			continue
		}
		asked.Go(func() {
			var s api.NodeState
			if err := p.Call(ctx, n.ID, pathWhere, struct{}{}, &s); err != nil && peers.IsUnreachable(err) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[n.ID] = s
		})
	}
	asked.Wait()
	return answers, nil
}

// judge refuses as long as others of the ring are there.
func (r ringLeft) judge(self place.NodeID, answers map[place.NodeID]api.NodeState) error {
	voters, there := 0, 0
	var names []string
	for _, m := range r.members {
		if !m.Voter {
			continue
		}
		voters++
		if _, answers := answers[m.ID]; answers || m.ID == self {
			there++
		}
	}
	for _, n := range r.nodes {
		s, ok := answers[n.ID]
		if !ok {
			continue
		}
		names = append(names, n.Name)
		if s.Leader != "" && s.Leader != string(self) {
			return fmt.Errorf("%s answers, and follows %s: the ring is alive, start this node's agent", n.Name, r.name(place.NodeID(s.Leader)))
		}
	}
	slices.Sort(names)
	for _, m := range r.members {
		if !slices.ContainsFunc(r.nodes, func(n *cluster.Node) bool { return n.ID == m.ID }) {
			return fmt.Errorf("where node %s is reached cannot be read here, so nobody knows whether it is there: look yourself, and say --ring %s", m.ID, r.id)
		}
	}
	switch {
	case len(names) > 0 && 2*there > voters:
		return fmt.Errorf("%s answer, and with this node %d of %d voters are there: start its agent, and the ring goes on. "+
			"If they are to be given up all the same, end their agents first, or say --ring %s", strings.Join(names, ", "), there, voters, r.id)
	case len(names) > 0:
		return fmt.Errorf("%s answer: of those that are left the one that is furthest (ENTRY in shoal ring status) goes on, and the others join it anew. "+
			"If that is this node, end their agents first, or say --ring %s", strings.Join(names, ", "), r.id)
	}
	return nil
}

// holdsAuthority says whether a node can take machines into its ring.
func holdsAuthority(dir *store.Dir) bool {
	p, err := peers.Open(peers.Options{
		Dir: dir.Path("peers"), Key: dir.Node.Key, Listen: netip.MustParseAddrPort("127.0.0.1:0"),
		Known: func(place.NodeID) bool { return false }, Members: func() []peers.Member { return nil },
	})
	if err != nil {
		return false
	}
	defer p.Close()
	return p.HoldsKey()
}

// mayCut refuses to cut the ledger of one of several voters: what is cut off the others have, and rely on.
func mayCut(dir *store.Dir, confirmed string) error {
	voters, err := ledger.Voters(dir.Path("ledger"))
	if err != nil {
		return err
	}
	if len(voters) < 2 || !slices.Contains(voters, dir.Node.ID) {
		return nil
	}
	ring, err := peers.Membership(dir.Path("peers"))
	if err != nil {
		return err
	}
	switch confirmed {
	case "":
		return fmt.Errorf("this node is one of %d voters: the others have what would be cut off, and it is bound to what it acknowledged. Begin anew instead: "+
			"shoal reset --yes, and join with a token. Only when the others are lost for good: --cut --ring %s, and then --alone", len(voters), ring)
	case ring:
		return nil
	}
	return usageError{fmt.Errorf("--ring %s: this node is of ring %s", confirmed, ring)}
}
