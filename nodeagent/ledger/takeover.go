package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// takeover is a snapshot on its way to become the state.
type takeover[S State] struct {
	front *front
	state S
}

// takeOver puts a snapshot before the entries behind it. The one that a starting ledger finds on its own disk is the
// state at once, so that the node's pods can be tended although blobs may be missing; they are fetched beside. One that
// comes from another node waits for its blobs, while the state stays what it was: whoever reads it finds all bytes.
func (l *Ledger[S, O]) takeOver(t *takeover[S], at position) {
	missing := l.missing(t.front.blobs)
	l.feed.restored(at.index)
	l.followers.committed(at)
	select {
	case <-l.feed.ready:
		l.mu.Lock() // between two entries
		l.queue.reset(t.front.entries, func(ctx context.Context) string { return l.finish(ctx, t) })
		l.mu.Unlock()
		return
	default:
	}
	if len(missing) > 0 {
		l.opt.Log.Error("content store lacks blobs that the state refers to", "missing", len(missing), "of", len(t.front.blobs))
		l.lacking = true
	}
	l.queue.reset(t.front.entries, nil)
	l.replace(t)
}

// finish fetches what a snapshot of another node refers to, and makes it the state. It returns why it cannot yet.
func (l *Ledger[S, O]) finish(ctx context.Context, t *takeover[S]) string {
	if err := l.fetch(ctx, "", t.front.blobs); err != nil {
		return fmt.Sprintf("snapshot behind entry %d: %v", t.front.head.Applied, err)
	}
	l.replace(t)
	l.outbox.passedOver()
	return ""
}

// replace makes the snapshot the state.
func (l *Ledger[S, O]) replace(t *takeover[S]) {
	l.mu.Lock()
	l.state, l.applied, l.time = t.state, t.front.head.Applied, t.front.head.Time
	l.mu.Unlock()
	l.clock.advance(t.front.head.Time)
	l.changed()
}

// missing are those of the blobs that this node does not have.
func (l *Ledger[S, O]) missing(blobs []desired.Digest) (none []desired.Digest) {
	for _, d := range blobs {
		if !l.opt.Content.Has(d) {
			none = append(none, d)
		}
	}
	return none
}

var errNobody = errors.New("no node has them")

// fetchAtOnce is how many blobs one call of Options.Fetch asks for.
const fetchAtOnce = 256

// fetch brings blobs that this node does not have from one that should: from first, if it is known, then the leader,
// then the other members. It returns nil when all are here.
func (l *Ledger[S, O]) fetch(ctx context.Context, first place.NodeID, blobs []desired.Digest) error {
	missing := l.missing(blobs)
	if len(missing) == 0 {
		return nil
	}
	var err error
	if l.opt.Fetch != nil {
		for _, from := range l.sources(first) {
			for rest := missing; len(rest) > 0 && ctx.Err() == nil; rest = rest[min(fetchAtOnce, len(rest)):] {
				if err = l.opt.Fetch(ctx, from, rest[:min(fetchAtOnce, len(rest))]); err != nil {
					break
				}
			}
			if missing = l.missing(missing); len(missing) == 0 {
				return nil
			}
		}
	}
	if err == nil {
		err = errNobody
	}
	return fmt.Errorf("%d blobs are missing, %s among them: %w", len(missing), missing[0], err)
}

// sources are the nodes to ask for blobs, the likeliest first.
func (l *Ledger[S, O]) sources(first place.NodeID) []place.NodeID {
	leader, _ := l.Leader()
	order := []place.NodeID{first, leader}
	for _, m := range l.Members() {
		order = append(order, m.ID)
	}
	var out []place.NodeID
	seen := map[place.NodeID]bool{"": true, l.opt.Node: true}
	for _, n := range order {
		if !seen[n] {
			out = append(out, n)
		}
		seen[n] = true
	}
	return out
}

// fetchLacking fetches what the state lacked when the ledger was opened, until it lacks nothing: what nobody has any
// more may go from the state meanwhile.
func (l *Ledger[S, O]) fetchLacking(ctx context.Context) {
	for {
		var blobs []desired.Digest
		l.View(func(s S) { blobs = slices.Collect(s.Blobs()) })
		err := l.fetch(ctx, "", blobs)
		if err == nil {
			l.opt.Log.Info("content store has all blobs again that the state refers to")
			l.changed()
			return
		}
		l.opt.Log.Debug("blobs will be fetched again", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(stallPause):
		}
	}
}
