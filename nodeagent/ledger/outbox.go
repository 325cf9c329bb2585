package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// parcel is one input of this node on its way into the order.
type parcel[O any] struct {
	seq    uint64
	body   []byte
	answer chan answer[O] // of 1
	placed chan struct{}  // closed once it is committed
	sent   bool           // may be in the log
	gone   bool           // answered, or its Append gave up
}

type answer[O any] struct {
	outcome O
	err     error
}

// outbox keeps the inputs of this node in the order of their sequence numbers. One batch is under way at a time, and
// nothing is sent behind one of which it is not known whether it came into the log: that one is sent again first. So
// whoever leads, and however often that changes, a number is never in the log before a lower one that is still to come,
// and what the state saw before is a repetition and nothing else.
type outbox[O any] struct {
	wake chan struct{} // of 1: there is something in line

	mu    sync.Mutex // guards below
	seq   uint64
	line  []*parcel[O]          // not known to be committed, oldest first
	bySeq map[uint64]*parcel[O] // not answered
}

func newOutbox[O any]() *outbox[O] {
	return &outbox[O]{wake: make(chan struct{}, 1), bySeq: map[uint64]*parcel[O]{}}
}

// put puts an input behind all that came before.
func (b *outbox[O]) put(body []byte) *parcel[O] {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	p := &parcel[O]{seq: b.seq, body: body, answer: make(chan answer[O], 1), placed: make(chan struct{})}
	b.line = append(b.line, p)
	b.bySeq[p.seq] = p
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return p
}

// leave forgets an input whose Append gave up. What was not sent is never sent.
func (b *outbox[O]) leave(p *parcel[O]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.gone = true
	delete(b.bySeq, p.seq)
}

// applied gives the outcome of an entry to the Append that waits for it. The first outcome is the true one: a
// repetition stands behind what it repeats in the log, and finds nobody waiting.
func (b *outbox[O]) applied(seq uint64, o O) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.bySeq[seq]; p != nil {
		b.answerLocked(p, answer[O]{outcome: o})
	}
}

func (b *outbox[O]) answerLocked(p *parcel[O], a answer[O]) {
	p.gone = true
	p.answer <- a
	delete(b.bySeq, p.seq)
}

// passedOver lets go of all that may have been applied before a snapshot which is the state now.
func (b *outbox[O]) passedOver() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.bySeq {
		if p.sent {
			b.answerLocked(p, answer[O]{err: ErrPassedOver})
		}
	}
}

// next is the batch that is to be sent now: the oldest inputs in line. It marks them as sent and returns which of them
// were before; nil if nothing waits.
func (b *outbox[O]) next() (batch []*parcel[O], before []bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting := b.line[:0]
	for _, p := range b.line {
		if !p.gone {
			waiting = append(waiting, p)
		}
	}
	clear(b.line[len(waiting):])
	b.line = waiting
	bytes := 0
	for _, p := range b.line {
		bytes += len(p.body)
		if len(batch) == batchEntries || len(batch) > 0 && bytes > batchBytes {
			break
		}
		batch = append(batch, p)
		before = append(before, p.sent)
		p.sent = true
	}
	return batch, before
}

// committed takes a batch out of line: its entries will be applied here.
func (b *outbox[O]) committed(batch []*parcel[O]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range batch {
		close(p.placed)
	}
	if b.line = b.line[len(batch):]; len(b.line) == 0 {
		b.line = nil // let the array go
	}
}

// unsent takes back that a batch was sent: it certainly is not in the log, unless it was sent before. If why is not
// nil, what is certain is answered with it.
func (b *outbox[O]) unsent(batch []*parcel[O], before []bool, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, p := range batch {
		if p.sent = before[i]; !p.sent && !p.gone && why != nil {
			b.answerLocked(p, answer[O]{err: why})
		}
	}
}

// send carries what is in the outbox to whoever leads, until ctx is done.
func (l *Ledger[S, O]) send(ctx context.Context, changes <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.outbox.wake:
		}
		l.empty(ctx, changes)
	}
}

// empty sends until nothing waits, or ctx is done.
func (l *Ledger[S, O]) empty(ctx context.Context, changes <-chan struct{}) {
	pause := leastPause
	for ctx.Err() == nil {
		batch, before := l.outbox.next()
		if batch == nil {
			return
		}
		err := l.deliver(ctx, batch, changes)
		switch {
		case err == nil:
			l.outbox.committed(batch)
			pause = leastPause
			continue
		case errors.Is(err, ErrFull):
			l.outbox.unsent(batch, before, err)
		case errors.Is(err, errNotSent):
			l.outbox.unsent(batch, before, nil)
		default:
			l.opt.Log.Debug("inputs will be sent again", "err", err)
		}
		l.awaitRoute(ctx, changes, pause)
		pause = min(2*pause, mostPause)
	}
}

// errNotSent says that a batch certainly is not in the log.
var errNotSent = errors.New("not sent")

// deliver sends a batch to the leader, if there is one, and returns nil once it is committed.
func (l *Ledger[S, O]) deliver(ctx context.Context, batch []*parcel[O], changes <-chan struct{}) error {
	raw := make([][]byte, len(batch))
	for i, p := range batch {
		h := header{time: l.clock.read(), from: cluster.From{Node: l.opt.Node, Boot: l.opt.Boot, Seq: p.seq}}
		raw[i] = encodeEntry(h, p.body)
	}
	leader, known := l.Leader()
	switch {
	case !known:
		return fmt.Errorf("%w: no leader", errNotSent)
	case leader == l.opt.Node:
		return l.propose(ctx, raw)
	case l.opt.Forward == nil:
		return fmt.Errorf("%w: node %s leads", errNotSent, leader)
	}
	return l.forward(ctx, leader, raw, changes)
}
