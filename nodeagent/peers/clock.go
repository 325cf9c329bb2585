package peers

import (
	"context"
	"crypto/x509"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// correction is the ring's time where this machine's clock is wrong.
type correction struct {
	ring time.Time // what the others said
	at   time.Time // when, on this process' monotonic clock
}

// now is the time by which certificates are made and judged: this machine's, unless the others outvoted it and it was
// not set right since.
func (p *Peers) now() time.Time {
	clock := p.opt.Now()
	c := p.corrected.Load()
	if c == nil {
		return clock
	}
	ring := c.ring.Add(time.Since(c.at))
	if apart(clock, ring) > skew {
		return ring
	}
	if p.corrected.CompareAndSwap(c, nil) {
		p.opt.Log.Info("this machine's clock agrees with the ring's again")
	}
	return clock
}

func apart(a, b time.Time) time.Duration { return a.Sub(b).Abs() }

// alarm goes off seldom: what sets it off may come from others.
type alarm struct{ last atomic.Int64 }

const (
	clockAlarmEvery = time.Minute     // all nodes are asked for their time
	trustAlarmEvery = 5 * time.Second // one is asked for a certificate; two exchanges may follow each other soon
)

func (a *alarm) goesOff(every time.Duration) bool {
	last, at := a.last.Load(), time.Now().UnixNano()
	return (last == 0 || at-last > int64(every)) && a.last.CompareAndSwap(last, at)
}

// doubtClock makes the clock be compared with the others' if a certificate's dates do not fit it. Any node that was off
// for long has such a one.
func (p *Peers) doubtClock(c *x509.Certificate, now time.Time) {
	if !plausible(c, now) && p.clockAlarm.goesOff(clockAlarmEvery) {
		p.unsure.Store(true)
		p.wake()
	}
}

// doubtTrust makes the certificate be renewed by another node, from which this one learns the authorities, if a node
// of the ring shows a certificate of one that this node never heard of: they were exchanged while it was off.
func (p *Peers) doubtTrust(c *x509.Certificate, node place.NodeID) {
	if _, err := p.trust.Load().by(c, true); err != nil && p.Known(node) && p.trustAlarm.goesOff(trustAlarmEvery) {
		p.stale.Store(true)
		p.wake()
	}
}

// maxVotes is how many nodes are asked for their time.
const maxVotes = 9

// compareClocks asks others for their time. If more nodes say that this clock is wrong than not, theirs counts. This node's
// own word counts unless its clock is earlier than the certificate it holds, and so is certainly wrong. What two nodes
// alone do not agree on stays undecided.
func (p *Peers) compareClocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTime)
	defer cancel()
	others := p.others()
	others = others[:min(len(others), maxVotes)]
	var mu sync.Mutex
	var votes []time.Time
	var asked sync.WaitGroup
	for _, node := range others {
		asked.Go(func() {
			if t, err := p.askTime(ctx, node); err == nil {
				mu.Lock()
				defer mu.Unlock()
				votes = append(votes, t)
			}
		})
	}
	asked.Wait()
	clock := p.opt.Now()
	ring, wrong := outvoted(clock, !clock.Before(p.cert.Load().Leaf.NotBefore.Add(-skew)), votes)
	if !wrong {
		return
	}
	p.corrected.Store(&correction{ring: ring, at: time.Now()})
	p.opt.Log.Error("this machine's clock is wrong: certificates are judged by the ring's time until it is set right",
		"clock", clock.UTC(), "ring", ring.UTC())
}

// outvoted returns the median of what others say the time is, and whether it counts more than clock.
func outvoted(clock time.Time, counts bool, others []time.Time) (time.Time, bool) {
	if len(others) == 0 {
		return time.Time{}, false
	}
	slices.SortFunc(others, time.Time.Compare)
	ring := others[len(others)/2]
	with, against := 0, 0
	if counts {
		with++
	}
	for _, t := range others {
		switch {
		case apart(t, clock) <= skew:
			with++
		case apart(t, ring) <= skew:
			against++
		}
	}
	return ring, against > with
}

// askTime asks a node what its clock says.
func (p *Peers) askTime(ctx context.Context, node place.NodeID) (time.Time, error) {
	r, err := p.askRenewal(ctx, node, renewMessage{Time: true})
	return r.Time, err
}
