package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

const (
	leastPause = 5 * time.Millisecond // between two attempts to send
	mostPause  = 250 * time.Millisecond
	// forwardPatience bounds one call of Options.Forward; a leader that is lost ends it sooner.
	forwardPatience = 10 * time.Second
)

// ErrNotLeader says that another node leads, or none.
var ErrNotLeader = errors.New("this node does not lead")

// propose gives raw entries to raft, in one piece, and returns nil once they are committed. An error that is neither
// errNotSent nor ErrFull leaves open whether they are, or will be.
func (l *Ledger[S, O]) propose(ctx context.Context, raw [][]byte) error {
	err := l.await(ctx, l.raft.Apply(encodeBatch(raw), 0))
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return err
}

// await waits for a future of raft's, which may never come after the disk failed.
func (l *Ledger[S, O]) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // ends with the future, which raft answers at the latest when it is shut down
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.over:
		return l.usable()
	}
}

// forward gives raw entries to the node that leads. It gives up once another leads: what was sent may still arrive.
func (l *Ledger[S, O]) forward(ctx context.Context, leader place.NodeID, raw [][]byte, changes <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, forwardPatience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.opt.Forward(ctx, leader, raw) }()
	for {
		select {
		case err := <-done:
			if errors.Is(err, ErrNotLeader) {
				return fmt.Errorf("%w: %w", errNotSent, err)
			}
			return err
		case <-ctx.Done():
			return fmt.Errorf("forward to %s: %w", leader, context.Cause(ctx))
		case <-changes:
			if now, known := l.Leader(); !known || now != leader {
				return fmt.Errorf("forward to %s: %w", leader, ErrNotLeader)
			}
		}
	}
}

// awaitRoute waits before the next attempt: for pause, and then until there is a leader.
func (l *Ledger[S, O]) awaitRoute(ctx context.Context, changes <-chan struct{}, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	timer.Reset(mostPause)
	for {
		if _, known := l.Leader(); known || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-changes:
		case <-timer.C:
			return
		}
	}
}

// Submit is the leader's end of Options.Forward: it puts raw entries of another node behind what there is, and returns
// nil once they are committed. from is who sent them, by its certificate: no entry may name another. Their time is this
// node's. ErrNotLeader says that the entries are not in the log because of this call; any other error leaves it open.
func (l *Ledger[S, O]) Submit(ctx context.Context, from place.NodeID, raw [][]byte) error {
	if len(raw) == 0 || len(raw) > batchEntries {
		return fmt.Errorf("submit: %d entries, expected 1 to %d", len(raw), batchEntries)
	}
	stamped := make([][]byte, len(raw))
	size := 0
	for i, r := range raw {
		size += len(r)
		if len(r) > maxRaw || i > 0 && size > batchBytes+batchEntries*1024 {
			return fmt.Errorf("submit: entries of %d bytes: %w", size, ErrTooLarge)
		}
		if s, ok := decodeSaid(r); ok && s.node == from && len(raw) == 1 {
			stamped[i] = r
			continue
		}
		h, body, err := decodeHeader(r)
		if err != nil {
			return fmt.Errorf("submit: %w", err)
		}
		if h.from.Node != from || h.from.Boot == "" || h.from.Seq == 0 {
			return fmt.Errorf("submit: node %.64q sent an entry of node %.64q, boot %.64q, number %d", from, h.from.Node, h.from.Boot, h.from.Seq)
		}
		h.time = l.clock.read()
		stamped[i] = encodeEntry(h, body)
	}
	if err := l.usable(); err != nil {
		return fmt.Errorf("submit: %w: %s", ErrNotLeader, err.Error())
	}
	err := l.propose(ctx, stamped)
	switch {
	case errors.Is(err, errNotSent), errors.Is(err, ErrFull):
		return fmt.Errorf("submit: %w: %s", ErrNotLeader, err.Error()) // a full disk is this node's, not the sender's
	case err != nil:
		return fmt.Errorf("submit: %w", err)
	}
	return nil
}
