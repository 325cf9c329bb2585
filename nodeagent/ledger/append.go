package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// inFlight bounds the inputs of this node that wait to be applied.
const inFlight = 1024

// ErrClosed says that the ledger was closed.
var ErrClosed = errors.New("ledger is closed")

// waiters are the Appends whose entries were not applied yet, by sequence number.
type waiters[O any] struct {
	mu    sync.Mutex // guards below
	bySeq map[uint64]chan O
}

func (w *waiters[O]) add(seq uint64) chan O {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan O, 1)
	w.bySeq[seq] = c
	return c
}

func (w *waiters[O]) answer(seq uint64, o O) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.bySeq[seq]; c != nil {
		c <- o
		delete(w.bySeq, seq)
	}
}

func (w *waiters[O]) drop(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.bySeq, seq)
}

// Append gives in its place in the order and returns what Step said of it, after it was applied here; it is durable
// then. in.From is set by the ledger. While there is no leader it waits, until ctx is done. An input is applied at
// most once; ErrTooLarge, and ErrFull while the disk is full, mean that it was not and will not be. After an error of
// ctx, a *FailedError (the log cannot be written any more) or ErrClosed it may still be applied, at the latest when the
// ledger is opened again.
func (l *Ledger[S, O]) Append(ctx context.Context, in cluster.Input) (O, error) {
	var none O
	body, err := encodeInput(in)
	if err != nil {
		return none, err
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return none, fmt.Errorf("append: %w", context.Cause(ctx))
	}
	for {
		o, again, err := l.try(ctx, body)
		if err == nil {
			return o, nil
		}
		if !again {
			return none, fmt.Errorf("append: %w", err)
		}
		if err := l.awaitLeader(ctx); err != nil {
			return none, fmt.Errorf("append: %w", err)
		}
	}
}

// try submits body once. again says that the entry is certainly not in the log and may be submitted anew.
func (l *Ledger[S, O]) try(ctx context.Context, body []byte) (o O, again bool, err error) {
	if err := l.usable(); err != nil {
		return o, false, err
	}
	seq, answer, future := l.submit(body)
	failed := make(chan error, 1)
	go func() { // ends with the future, which raft answers at the latest when it is shut down
		if err := future.Error(); err != nil {
			failed <- err
		}
	}()
	select {
	case o = <-answer:
		return o, false, nil
	case <-ctx.Done():
		l.waiters.drop(seq)
		return o, false, context.Cause(ctx)
	case <-l.over: // raft may not answer any more
		l.waiters.drop(seq)
		return o, false, l.usable()
	case err = <-failed:
	}
	if errors.Is(err, raft.ErrNotLeader) {
		l.waiters.drop(seq)
		return o, true, err
	}
	return l.settle(ctx, seq, answer, err)
}

// submit puts body behind all that was submitted before. Sequence numbers reach the log in their order, for the
// state takes a number below the highest it saw as a repetition.
func (l *Ledger[S, O]) submit(body []byte) (uint64, chan O, raft.ApplyFuture) {
	l.submitMu.Lock()
	defer l.submitMu.Unlock()
	l.seq++
	answer := l.waiters.add(l.seq)
	h := header{time: l.clock.read(), from: cluster.From{Node: l.opt.Node, Boot: l.opt.Boot, Seq: l.seq}}
	return l.seq, answer, l.raft.Apply(encodeEntry(h, body), 0)
}

// settle finds out what became of an entry whose leader was lost on the way: once a later entry is applied here,
// it was applied before that or never will be.
func (l *Ledger[S, O]) settle(ctx context.Context, seq uint64, answer chan O, cause error) (o O, again bool, err error) {
	defer l.waiters.drop(seq)
	for {
		if err := l.usable(); err != nil {
			return o, false, errors.Join(err, cause)
		}
		if err := l.awaitLeader(ctx); err != nil {
			return o, false, err
		}
		if l.barrier(ctx) == nil {
			break
		}
	}
	select {
	case o = <-answer:
		return o, false, nil
	default:
		return o, true, cause
	}
}

// barrier waits until all that was committed before it was called is applied here.
func (l *Ledger[S, O]) barrier(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- l.raft.Barrier(0).Error() }()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.over:
		return l.usable()
	}
	return l.drained(ctx)
}

// drained waits until all that is queued now was stepped.
func (l *Ledger[S, O]) drained(ctx context.Context) error {
	q := l.queue
	stop := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.moved.Broadcast()
	})
	defer stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	for target := q.added; q.removed < target; q.moved.Wait() {
		if q.closed {
			return ErrClosed
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}
