package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/internal/durable"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/peers"
)

func newLeave(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "leave", Short: "Take this machine out of its ring for good", Args: exactly(0, "no arguments"),
		Long: `Drains this node, waits until it runs nothing any more, has another node take over if it votes or leads, and takes it out of the
ring. Its agent ends then, and does not start again on this data directory: with a new token it joins again, as the same node; "shoal reset
--yes" removes all of it. An interruption before the end changes nothing but that the node is drained, which "shoal uncordon" takes back.

The last node of a ring cannot leave it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := g.client()
			r, err := client.Ring(cmd.Context(), false)
			if err != nil {
				return err
			}
			var self *api.Node
			for i := range r.Nodes {
				if r.Nodes[i].Self {
					self = &r.Nodes[i]
				}
			}
			switch {
			case self == nil:
				return errors.New("this node is in no ring any more")
			case len(r.Nodes) == 1:
				return fmt.Errorf("%s is the only node of its ring: there is nobody to leave its pods to; `shoal reset --yes` removes everything", self.Name)
			}
			if err := client.Change(cmd.Context(), self.ID, "drain"); err != nil {
				return err
			}
			if err := awaitDrained(cmd, g, self.ID); err != nil {
				return err
			}
			if err := client.Change(cmd.Context(), self.ID, "remove"); err != nil {
				return err
			}
			if err := awaitEnd(cmd.Context(), client); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s has left ring %.8s, and its agent has ended\n", self.Name, r.Ring)
			return nil
		},
	}
	return cmd
}

// awaitEnd waits until the agent answers no longer.
func awaitEnd(ctx context.Context, client *api.Client) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if _, err := client.Status(ctx); err != nil {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("the node was taken out of the ring, and its agent goes on: end it")
}

// leftFile in the data directory says that its node left its ring.
const leftFile = "left"

// left is what it says.
type left struct {
	Ring string    `json:"ring"`
	At   time.Time `json:"at"`
}

// leftError ends an agent whose node is no longer of the ring, and keeps the next one from starting.
type leftError struct{ left }

func (e leftError) Error() string {
	return fmt.Sprintf("this node left ring %.8s on %s: to join again, ask a node of the ring for a token (shoal token create) and run the line it prints; "+
		"to begin with nothing, shoal reset --yes", e.Ring, e.At.UTC().Format(time.RFC3339))
}

// openMembership refuses to start on the data of a node that left its ring, unless a new token is there: then what was of
// the ring is removed first, for the ring it joins brings its own. Images and volumes stay.
func (m *machine) openMembership(context.Context) error {
	b, err := os.ReadFile(m.dir.Path(leftFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var was left
	if err := json.Unmarshal(b, &was); err != nil {
		return fmt.Errorf("%s: %w", m.dir.Path(leftFile), err)
	}
	token, err := peers.ParseToken(m.opt.token)
	if len(m.opt.join) == 0 || err != nil || token.ID == peers.JoinedBy(m.dir.Path("peers")) {
		return leftError{was}
	}
	for _, name := range []string{"ledger", "ring", "git", "git.claim", "peers", leftFile} { // peers after the others: it has the token that was used
		if err := os.RemoveAll(m.dir.Path(name)); err != nil {
			return err
		}
	}
	return nil
}

// followLeave ends the agent when this node is no longer of the ring.
func (m *machine) followLeave(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	for m.knowsItself() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		}
	}
	was := left{Ring: m.peers.Ring(), At: time.Now()}
	b, err := json.Marshal(was)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(m.dir.Path(leftFile), append(b, '\n')); err != nil {
		return fmt.Errorf("keep that this node left: %w", err)
	}
	select { // who asked for it gets an answer, and the others the entries that are under way
	case <-ctx.Done():
	case <-time.After(500 * time.Millisecond):
	}
	if err := errors.Join(m.peers.ForgetKeys(), m.ring.Leave()); err != nil {
		m.log.WarnContext(ctx, "not everything of the ring was given up", "err", err)
	}
	return leftError{was}
}

// knowsItself says whether this node is of the ring, by its own copy of the ledger.
func (m *machine) knowsItself() (known bool) {
	m.ledger.View(func(s *cluster.State) { _, known = s.Nodes().Get(m.dir.Node.ID) })
	return known
}

const (
	// yieldFor is how long the leader believes that a node is about to leave.
	yieldFor = 5 * time.Second
	// unseatWithin bounds how long a node that is to leave waits for a successor.
	unseatWithin = 20 * time.Second
)

// unseat has a node that is to leave the ring give up its seat, and waits until others vote and one of them holds the
// authority's key: as a node that has left it could give it to nobody.
func (m *machine) unseat(ctx context.Context, node place.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, unseatWithin)
	defer cancel()
	changes, end := m.ledger.Subscribe()
	defer end()
	why := errors.New("the ring has no leader now")
	for {
		leader, known := m.ledger.Leader()
		if known {
			switch {
			case leader == node || m.votes(node):
				why = errors.New("no other node can take its seat")
			case m.keyIsElsewhere(ctx, node):
				return nil
			default:
				why = errors.New("no voter holds the key of the ring's authority yet")
			}
			var err error
			if leader == m.dir.Node.ID {
				_, err = m.yieldAsked(ctx, leader, node)
			} else {
				err = m.peers.Call(ctx, leader, pathYield, node, nil)
			}
			if err != nil && ctx.Err() == nil {
				why = err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it did not give up its seat within %s: %w", unseatWithin, why)
		case <-changes:
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// keyIsElsewhere says whether another voter than this one holds the authority's key.
func (m *machine) keyIsElsewhere(ctx context.Context, node place.NodeID) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, member := range m.ledger.Members() {
		switch {
		case member.ID == node || !member.Voter:
		case member.ID == m.dir.Node.ID:
			if m.peers.HoldsKey() {
				return true
			}
		default:
			var s api.NodeState
			if m.peers.Call(ctx, member.ID, pathWhere, struct{}{}, &s) == nil && s.HoldsKey {
				return true
			}
		}
	}
	return false
}

// yieldAsked takes the word of a node that another is about to leave.
func (m *machine) yieldAsked(_ context.Context, _, node place.NodeID) (struct{}, error) {
	l := m.peering.ledger.Load()
	if l == nil {
		return struct{}{}, errNotYet
	}
	l.Yield(node, yieldFor)
	return struct{}{}, nil
}
