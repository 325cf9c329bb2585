package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
)

const (
	// applyAtOnce is how many entries are stepped under one hold of the state's lock.
	applyAtOnce = 64
	// queueLimit is how many committed entries may wait to be stepped; beyond it raft waits.
	queueLimit = 8192
	// keepRejected is how many rejected entries are remembered for people.
	keepRejected = 64
)

// Rejected is an entry that changed nothing.
type Rejected struct {
	Index uint64
	From  cluster.From
	Why   string
}

// stallPause is how long the applier waits before it tries a stalled entry again.
const stallPause = time.Second

// apply steps the queued entries one after the other until the queue is closed.
func (l *Ledger[S, O]) apply(ctx context.Context) {
	for {
		batch, resets := l.queue.head()
		if batch == nil {
			return
		}
		if !l.step(batch, resets) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(stallPause):
			}
		}
	}
}

// step steps a batch; false if an entry in it stalled.
func (l *Ledger[S, O]) step(batch [][]byte, resets uint64) bool {
	type answer struct {
		seq     uint64
		outcome O
	}
	var answers []answer
	var bytes int64
	done := 0
	l.mu.Lock()
	if l.queue.since(resets) { // a snapshot was restored meanwhile
		l.mu.Unlock()
		return true
	}
	before := l.stalled
	l.stalled = ""
	for _, raw := range batch {
		h, o := l.stepOneLocked(raw)
		if l.stalled != "" {
			break
		}
		done++
		bytes += int64(len(raw))
		if h.from.Node == l.opt.Node && h.from.Boot == l.opt.Boot {
			answers = append(answers, answer{h.from.Seq, o})
		}
	}
	l.queue.remove(done)
	l.clock.advance(l.time)
	why, at := l.stalled, l.applied+1
	l.mu.Unlock()

	switch {
	case why != "" && why != before:
		l.opt.Log.Error("entry cannot be stepped here, will retry", "index", at, "why", why)
	case why == "" && before != "":
		l.opt.Log.Info("entry that could not be stepped was")
	}
	for _, a := range answers {
		l.waiters.answer(a.seq, a.outcome)
	}
	if done > 0 || why != before {
		l.changed()
	}
	l.compact(done, bytes)
	return why == ""
}

// stepOneLocked steps one entry; its number is one more than the last one's. If it stalls, all is as it was but
// l.stalled.
func (l *Ledger[S, O]) stepOneLocked(raw []byte) (header, O) {
	m := l.opt.Machine
	index := l.applied + 1
	h, in, err := decodeEntry(raw)
	at := max(l.time, h.time)
	var o O
	switch {
	case err != nil:
		o = m.Refuse(err.Error())
	case l.skip[index]:
		o = m.Refuse("skipped by hand")
	default:
		l.mark.begin(index)
		o = m.Step(l.state, cluster.Entry{Index: index, Time: at, Input: in}, l.opt.Content)
		l.mark.end()
	}
	if l.stalled = m.Stalled(o); l.stalled != "" {
		return h, o
	}
	l.applied, l.time = index, at
	if index == l.check.Entry {
		l.compareLocked()
	}
	if why := m.Rejected(o); why != "" {
		l.rejected = append(l.rejected, Rejected{Index: index, From: h.from, Why: why})
		if n := len(l.rejected); n > keepRejected {
			l.rejected = slices.Delete(l.rejected, 0, n-keepRejected)
		}
		l.opt.Log.Warn("entry rejected", "index", index, "from", string(h.from.Node), "why", why)
	}
	return h, o
}
