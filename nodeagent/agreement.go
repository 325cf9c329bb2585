package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/agree"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// Vote is what a node's own render of a commit came to.
type Vote = agree.Vote

// Decision is what the leader made of a commit.
type Decision = agree.Decision

// Ring is what the deployer needs of the other nodes. A nil Ring is a ring of one.
type Ring interface {
	// Voters are the nodes whose renders count, this one among them if it is one.
	Voters() []place.NodeID
	Leading() bool
	// Vote gives this node's vote to the leader, and returns what it decided. It is an error if there is no leader, if it
	// does not answer, or if it comes to no decision before ctx ends.
	Vote(ctx context.Context, v Vote) (Decision, error)
}

// Votes are kept by every node for the time that it leads: agree.Box says what comes of them, here is who waits for it.
// They are in memory alone: a new leader is told again.
type Votes struct {
	mu        sync.Mutex // guards what follows
	box       agree.Box
	listeners map[chan struct{}]bool
}

// agreeFor bounds how long a node waits for the others; then it looks again.
const agreeFor = 20 * time.Second

// NewVotes makes an empty box.
func NewVotes() *Votes { return &Votes{listeners: map[chan struct{}]bool{}} }

// Vote takes the vote of another node, on the leader, and returns what was decided on its commit once that is known.
func (d *Deployer) Vote(ctx context.Context, node place.NodeID, v Vote) (Decision, error) {
	if active := d.active(v.Environment); active != nil && active.Commit == v.Commit {
		return Decision{Activated: true, D: active.D}, nil
	}
	return d.opt.Votes.await(ctx, node, v)
}

// await takes a vote and waits until its commit is decided on.
func (b *Votes) await(ctx context.Context, node place.NodeID, v Vote) (Decision, error) {
	b.note(node, v)
	changes, cancel := b.listen()
	defer cancel()
	for {
		b.mu.Lock()
		d, ok := b.box.Decided(v.Environment, v.Commit)
		b.mu.Unlock()
		if ok {
			return d, nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return Decision{}, fmt.Errorf("commit %s of %s is not decided on: %w", v.Commit.Short(), v.Environment, context.Cause(ctx))
		}
	}
}

func (b *Votes) note(node place.NodeID, v Vote) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.box.Cast(node, v)
	b.changedLocked()
}

func (b *Votes) listen() (changes <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners[c] = true
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, c)
	}
}

func (b *Votes) changedLocked() {
	for c := range b.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// begin forgets what was decided on a commit that is judged anew.
func (b *Votes) begin(environment string, commit source.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.box.Begin(environment, commit)
}

// decide tells those who wait what became of a commit.
func (b *Votes) decide(environment string, commit source.ID, d Decision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.box.Decide(environment, commit, d)
	b.changedLocked()
}

// mismatchError is a render on which the voters do not agree.
type mismatchError struct{ text string }

func (e mismatchError) Error() string { return e.text }

// agree waits until a majority of the voters has come to the same render of the commit as the leader, which asks.
func (b *Votes) agree(ctx context.Context, v Vote, voters func() []place.NodeID) error {
	changes, cancel := b.listen()
	defer cancel()
	look := time.NewTicker(500 * time.Millisecond) // voters come and go
	defer look.Stop()
	for {
		verdict := b.judge(v, voters())
		switch {
		case verdict.Agreed:
			return nil
		case verdict.Mismatch != "":
			return mismatchError{verdict.Mismatch}
		}
		select {
		case <-changes:
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d voters have rendered it alike: %w", verdict.Same, verdict.Of, context.Cause(ctx))
		}
	}
}

func (b *Votes) judge(v Vote, voters []place.NodeID) agree.Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.box.Judge(v, voters)
}

// agreed has the ring agree on what this node has rendered. On the leader it returns once that may be activated;
// elsewhere once the leader has decided, with what it decided.
func (d *Deployer) agreed(ctx context.Context, v Vote) (decision Decision, decided bool, err error) {
	if d.opt.Ring == nil {
		return Decision{}, false, nil
	}
	voters := d.opt.Ring.Voters()
	leading := d.opt.Ring.Leading()
	if leading && len(voters) == 1 {
		return Decision{}, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, agreeFor)
	defer cancel()
	if !leading {
		decision, err = d.opt.Ring.Vote(ctx, v)
		return decision, true, err
	}
	d.opt.Votes.begin(v.Environment, v.Commit)
	d.opt.Votes.note(d.opt.Node, v)
	err = d.opt.Votes.agree(ctx, v, d.opt.Ring.Voters)
	if mismatch, ok := errors.AsType[mismatchError](err); ok {
		decision = Decision{Refused: "RenderMismatch: " + mismatch.text}
		d.opt.Votes.decide(v.Environment, v.Commit, decision)
		return decision, true, nil
	}
	return Decision{}, false, err
}
