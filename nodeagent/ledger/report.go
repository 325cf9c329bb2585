package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// Report gives in its place in the order like Append, and returns as soon as that is certain, which may be before it is
// applied here. It works on a node whose disk is full, as long as another leads: nothing of it is written here. So a node
// can tell the others that its disk is full. What Step said of it the state tells.
func (l *Ledger[S, O]) Report(ctx context.Context, in cluster.Input) error {
	body, err := encodeInput(in)
	if err != nil {
		return err
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return fmt.Errorf("report: %w", context.Cause(ctx))
	}
	if err := l.usable(); err != nil && !errors.Is(err, ErrFull) {
		return fmt.Errorf("report: %w", err)
	}
	p := l.outbox.put(body)
	select {
	case <-p.placed:
		l.outbox.leave(p)
		return nil
	case a := <-p.answer:
		if a.err != nil {
			return fmt.Errorf("report: %w", a.err)
		}
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-l.over: // nobody may answer any more
		err = l.usable()
	}
	l.outbox.leave(p)
	return fmt.Errorf("report: %w", err)
}
