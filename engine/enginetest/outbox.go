package enginetest

import (
	"errors"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// outbox keeps the inputs of one agent in the order of their numbers, as the ledger's does: one batch is under way, and
// where nobody knows whether it came into the log it is sent again before anything else, to whoever leads then.
type outbox struct {
	seq   uint64
	line  []*parcel
	by    map[uint64]*parcel // not answered
	busy  bool
	tries int // counts deliveries; a late answer to an earlier one says nothing
	pause int64
	chief *machine // to whom the batch under way was sent
	lost  func()   // gives up the batch under way
}

type parcel struct {
	seq        uint64
	at         int64 // when it was given in, µs
	in         cluster.Input
	sent, gone bool
	done       func(cluster.Outcome)
}

const (
	batchEntries = 64
	// inFlight bounds the inputs of a node that wait.
	inFlight = 1024
	// forwardPatience bounds one delivery.
	forwardPatience = 10 * second
)

// overdue counts the inputs that one delivery should have brought by now. (A CronJob may be due at this very moment.)
func (m *machine) overdue() (n int) {
	for _, p := range m.outbox.by {
		if m.w.now-p.at > forwardPatience {
			n++
		}
	}
	return n
}

// submit gives in its place in the order. done is told what Step said of it, once it was applied here; it may be nil.
// The answer forgets it: what was not sent is never sent then.
func (m *machine) submit(in cluster.Input, done func(cluster.Outcome)) (leave func()) {
	b := &m.outbox
	b.seq++
	in.From = cluster.From{Node: m.id, Boot: m.bootName(), Seq: b.seq}
	p := &parcel{seq: b.seq, at: m.w.now, in: in, done: done}
	b.line = append(b.line, p)
	b.by[p.seq] = p
	if len(b.by) > inFlight {
		m.w.violated("I8", "node %s has %d inputs that wait", m.up.Name, len(b.by))
	}
	m.after(10, m.drain)
	return func() {
		p.gone = true
		delete(b.by, p.seq)
	}
}

// applied gives an input's outcome to who waits for it.
func (b *outbox) applied(seq uint64, out cluster.Outcome) {
	p := b.by[seq]
	if p == nil {
		return
	}
	p.gone = true
	delete(b.by, seq)
	if p.done != nil {
		p.done(out)
	}
}

// drain sends the next batch, if none is under way.
func (m *machine) drain() {
	b := &m.outbox
	if b.busy || len(b.line) == 0 {
		return
	}
	waiting := b.line[:0]
	for _, p := range b.line {
		if !p.gone {
			waiting = append(waiting, p)
		}
	}
	clear(b.line[len(waiting):])
	if b.line = waiting; len(waiting) == 0 {
		return
	}
	if m.chief == nil {
		return // roleChanged calls again
	}
	batch := b.line[:min(len(b.line), batchEntries)]
	inputs := make([]cluster.Input, len(batch))
	before := make([]bool, len(batch))
	for i, p := range batch {
		inputs[i], before[i] = p.in, p.sent
		p.sent = true
	}
	b.busy, b.chief = true, m.chief
	b.tries++
	try := b.tries
	end := func(err error) {
		if try != b.tries || !b.busy {
			return
		}
		b.busy, b.lost = false, nil
		if err == nil {
			b.line, b.pause = b.line[len(batch):], 0
			m.drain()
			return
		}
		if errors.Is(err, errNotSent) {
			for i, p := range batch {
				p.sent = before[i]
			}
		}
		b.pause = min(max(2*b.pause, 5*millisecond), 250*millisecond)
		m.after(b.pause, m.drain)
	}
	b.lost = func() { end(errLost) }
	if m.chief == m {
		m.propose(inputs, end)
		return
	}
	chief := m.chief
	m.w.send(m, chief, func() {
		chief.propose(inputs, func(err error) {
			m.w.send(chief, m, func() { end(err) })
		})
	})
	m.after(forwardPatience, func() { end(errLost) })
}

// routed is called when another node leads: the batch that was sent to the one before is given up.
func (b *outbox) routed(m *machine) {
	if b.busy && b.chief != m.chief && b.chief != m && b.lost != nil {
		b.lost()
	}
	if m.chief != nil {
		m.after(b.pause, m.drain)
	}
}
