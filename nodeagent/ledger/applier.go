package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
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
	told := "" // why the next entry cannot be stepped, as it was logged: blobs that are on their way are no news
	for {
		batch, before, resets := l.queue.head()
		var why string
		switch {
		case l.isHalted():
			return
		case before != nil:
			if why = before(ctx); why == "" {
				l.queue.done(resets)
			}
			l.standStill(why)
		case batch != nil:
			why = l.step(batch, resets)
		default:
			return
		}
		if why == "" && told != "" {
			l.opt.Log.Info("entry that could not be stepped was")
			told = ""
		}
		if why == "" || before == nil && l.fetchWanting(ctx) {
			continue
		}
		if why != told {
			l.opt.Log.Error("entry cannot be stepped here, will retry", "index", l.Applied()+1, "why", why)
			told = why
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(stallPause):
		}
	}
}

// standStill notes why nothing is applied; "" if something is.
func (l *Ledger[S, O]) standStill(why string) {
	l.mu.Lock()
	before := l.stalled
	l.stalled = why
	l.mu.Unlock()
	if why != before {
		l.changed()
	}
}

// wanting notes which blobs a step looked for in vain.
type wanting struct {
	Content
	from  place.NodeID // who submitted the entry
	blobs []desired.Digest
}

// Get reads a blob.
func (w *wanting) Get(d desired.Digest) ([]byte, error) {
	b, err := w.Content.Get(d)
	if err != nil && !w.Has(d) {
		w.blobs = append(w.blobs, d)
	}
	return b, err
}

// fetchWanting fetches what the last step looked for in vain, from the node that submitted the entry before all
// others. It says whether something came, so that the entry is worth another try at once.
func (l *Ledger[S, O]) fetchWanting(ctx context.Context) bool {
	w := l.content
	if l.opt.Fetch == nil || len(w.blobs) == 0 {
		return false
	}
	if err := l.fetch(ctx, w.from, w.blobs); err != nil {
		l.opt.Log.Debug("blobs will be fetched again", "err", err)
		return false
	}
	return true
}

// step steps a batch; it returns why an entry in it stalled, or "".
func (l *Ledger[S, O]) step(batch [][]byte, resets uint64) string {
	type result struct {
		seq     uint64
		outcome O
	}
	var answers []result
	var bytes int64
	done := 0
	l.mu.Lock()
	if l.queue.since(resets) { // a snapshot was restored meanwhile
		l.mu.Unlock()
		return ""
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
			answers = append(answers, result{h.from.Seq, o})
		}
	}
	l.queue.remove(done)
	l.clock.advance(l.time)
	why := l.stalled
	l.mu.Unlock()

	for _, a := range answers {
		l.outbox.applied(a.seq, a.outcome)
	}
	if done > 0 || why != before {
		l.changed()
	}
	l.compact(done, bytes)
	return why
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
		l.content.from, l.content.blobs = h.from.Node, l.content.blobs[:0]
		l.mark.begin(index)
		o = m.Step(l.state, cluster.Entry{Index: index, Time: at, Input: in}, l.content)
		l.mark.end()
	}
	if l.stalled = m.Stalled(o); l.stalled != "" {
		return h, o
	}
	l.applied, l.time = index, at
	l.compareAt(index)
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
