package probes

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// probe is one probe of one instance.
type probe struct {
	key       Key
	kind      Kind
	spec      *corev1.Probe
	container *container

	next    time.Time // of the next attempt
	regular time.Time // of the next attempt that counts in full
	retry   time.Duration
	index   int  // in the queue; -1 when not in it
	good    bool // the last outcome that was counted
	run     int  // how often it came in a row
	held    bool // reported a failure: waits for a new instance
	opened  bool // has succeeded once: no quick retries any more
}

func (l *loop) newProbe(key Key, kind Kind, spec *corev1.Probe, c *container) *probe {
	p := &probe{key: key, kind: kind, spec: spec, container: c, index: -1, retry: l.opt.firstRetry}
	if p.exec() {
		p.retry = l.opt.firstExec
	}
	return p
}

func (p *probe) exec() bool { return p.spec.Exec != nil }

func (p *probe) period() time.Duration { return seconds(p.spec.PeriodSeconds, 10) }

// begin sets the time of the first attempt: initialDelaySeconds after the start, or now if that is past. What an
// instance known from before had reached goes on at the beat of its own start, so that a restart of the agent does
// not probe all at once.
func (p *probe) begin(c *container, now time.Time) {
	start := c.target.Started
	if start.After(now) { // the clock was set back
		start = now
	}
	p.opened = c.target.Known != nil && (p.kind != Readiness || c.result.Ready) && c.result.Started
	p.next = start.Add(time.Duration(p.spec.InitialDelaySeconds) * time.Second)
	if p.next.Before(now) {
		if p.opened {
			beats := now.Sub(p.next)/p.period() + 1
			p.next = p.next.Add(beats * p.period())
		} else {
			p.next = now
		}
	}
	p.regular = p.next
}

// release lets a probe go that was held back until its container had started.
func (p *probe) release(now time.Time) {
	if p.next.Before(now) {
		p.next, p.regular = now, now
	}
}

// wanted says whether the probe is to be attempted at all in the present state of its instance.
func (p *probe) wanted() bool {
	c := p.container
	switch {
	case p.held:
		return false
	case p.kind == Startup:
		return !c.result.Started && !c.target.Stopping
	case p.kind == Liveness:
		return c.result.Started && c.result.Failed == "" && !c.target.Stopping
	}
	return c.result.Started
}

// quick says whether the attempt at p.next is one before its time, whose failure does not count.
func (p *probe) quick() bool { return p.next.Before(p.regular) }

// count takes an outcome into the instance's result.
func (p *probe) count(o outcome) {
	if o.err != nil { // it says nothing of the container
		return
	}
	if p.quick() && !o.good {
		return
	}
	if p.good == o.good && p.run > 0 {
		p.run++
	} else {
		p.good, p.run = o.good, 1
	}
	if o.good {
		p.opened = true
	}
	r := &p.container.result
	if o.good {
		if p.run < int(max(p.spec.SuccessThreshold, 1)) {
			return
		}
		switch p.kind {
		case Startup:
			r.Started, r.Message = true, ""
			r.Ready = p.container.target.Container.ReadinessProbe == nil
		case Readiness:
			r.Ready, r.Message = true, ""
		case Liveness: // is what it was
		}
		return
	}
	if p.kind != Liveness { // why it is not there yet is worth telling before the threshold is reached
		if !r.Ready {
			r.Message = o.text
		}
	}
	if p.run < failures(p.spec) {
		return
	}
	r.Message = o.text
	if p.kind == Readiness {
		r.Ready = false
		return
	}
	r.Failed, r.Grace = p.kind, p.spec.TerminationGracePeriodSeconds
	p.held, p.run = true, 0
}

// plan sets the time of the next attempt.
func (p *probe) plan(now time.Time) {
	switch {
	case p.quick() && p.opened: // the beat goes on from the first success
		p.regular = now.Add(p.period())
	case !p.quick():
		p.regular = p.regular.Add(p.period())
		if p.regular.Before(now) { // it took longer than its period: no burst to catch up
			p.regular = now
		}
	}
	p.next = p.regular
	if p.opened || p.kind == Liveness {
		return
	}
	if soon := now.Add(p.retry); soon.Before(p.regular) && p.retry < p.period() {
		p.next = soon
		p.retry *= 2
	}
}

func failures(spec *corev1.Probe) int {
	if spec.FailureThreshold == 0 {
		return 3
	}
	return int(spec.FailureThreshold)
}

func seconds(n, otherwise int32) time.Duration {
	if n <= 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

// queue is a heap of probes by the time of their next attempt.
type queue []*probe

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	p := x.(*probe)
	p.index = len(*q)
	*q = append(*q, p)
}

func (q *queue) Pop() any {
	old := *q
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	p.index = -1
	return p
}
