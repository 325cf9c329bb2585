package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// inFlight bounds the inputs of this node that wait to be applied.
const inFlight = 1024

var (
	// ErrClosed says that the ledger was closed.
	ErrClosed = errors.New("ledger is closed")
	// ErrPassedOver says that an input may have been applied, and that nobody here knows what Step said of it: the
	// state came from a snapshot of another node meanwhile. Look at the state.
	ErrPassedOver = errors.New("a snapshot of another node passed over the entry: whether it was applied is in the state")
)

// Append gives in its place in the order and returns what Step said of it, after it was applied here; it is durable
// then, on a majority of the voters. in.From is set by the ledger. Inputs come into the log in the order in which Append
// was called. On a node that does not lead the leader is asked, by Options.Forward; while there is none Append waits,
// until ctx is done. An input is applied at most once. ErrTooLarge, and ErrFull while the disk is full, mean that it was
// not and will not be. After an error of ctx, ErrPassedOver, a *FailedError (the log cannot be written any more),
// ErrDiverged or ErrClosed it may still be applied, at the latest when the ledger is opened again.
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
	if err := l.usable(); err != nil {
		return none, fmt.Errorf("append: %w", err)
	}
	if ctx.Err() != nil {
		return none, fmt.Errorf("append: %w", context.Cause(ctx))
	}
	p := l.outbox.put(body)
	select {
	case a := <-p.answer:
		if a.err != nil {
			return none, fmt.Errorf("append: %w", a.err)
		}
		return a.outcome, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-l.over: // nobody may answer any more
		err = l.usable()
	}
	l.outbox.leave(p)
	return none, fmt.Errorf("append: %w", err)
}
