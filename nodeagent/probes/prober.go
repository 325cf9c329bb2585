package probes

import (
	"container/heap"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
)

// Kind is what a probe asks for.
type Kind string

// The kinds of probes.
const (
	Startup   Kind = "startup"
	Readiness Kind = "readiness"
	Liveness  Kind = "liveness"
)

// Key names a container of a pod.
type Key struct {
	Pod       control.PodID
	Container string
}

// Target is one running instance of a container.
type Target struct {
	ID        string // of the instance: a new one starts over
	Started   time.Time
	IP        netip.Addr // where it listens: the pod's, or the node's for hostNetwork
	Container *corev1.Container
	Stopping  bool // told to end: only readiness is asked for any more
	// Known is what was known of this instance before this process, so that an agent's restart makes no ready
	// container unready; nil for a new instance.
	Known *Result
}

// Result is what is known of one instance. Without probes it is started and ready.
type Result struct {
	ID      string
	Started bool
	Ready   bool
	Failed  Kind   // Liveness or Startup: the instance must be killed; "" otherwise
	Grace   *int64 // seconds from SIGTERM to SIGKILL that the failed probe asks for; nil: the pod's
	Message string // why it is not as wanted: of the last failure that counted; at most 1 KiB
}

// Exec runs a command in a container and returns its exit code and output. It ends when ctx does.
type Exec func(ctx context.Context, key Key, id string, command []string) (code int, output []byte, err error)

// Options say what the Prober works with.
type Options struct {
	Exec       Exec         // required for exec probes; without it they cannot be made
	Attempts   int          // network attempts under way at once; default 256
	ExecAtOnce int          // exec attempts under way at once; default 8
	Log        *slog.Logger // default: discard
	firstRetry time.Duration
	firstExec  time.Duration
}

// Prober asks the targets that were set last. Its methods are safe for concurrent use.
type Prober struct {
	opt     Options
	results atomic.Pointer[map[Key]Result]
	events  chan struct{}
	wake    chan struct{}

	mu     sync.Mutex // guards wanted
	wanted map[Key]Target
}

// New returns a Prober that does nothing until Run.
func New(opt Options) *Prober {
	if opt.Attempts == 0 {
		opt.Attempts = 256
	}
	if opt.ExecAtOnce == 0 {
		opt.ExecAtOnce = 8
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.firstRetry == 0 {
		opt.firstRetry = 50 * time.Millisecond
	}
	if opt.firstExec == 0 {
		opt.firstExec = 250 * time.Millisecond
	}
	p := &Prober{opt: opt, events: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	p.results.Store(&map[Key]Result{})
	return p
}

// Set replaces all targets. Containers that are not in it are forgotten.
func (p *Prober) Set(targets map[Key]Target) {
	p.mu.Lock()
	p.wanted = maps.Clone(targets)
	p.mu.Unlock()
	notify(p.wake)
}

// Results is what is known now; the map must not be changed. A container that was set a moment ago may be
// absent, or have the result of its former instance: compare the ID.
func (p *Prober) Results() map[Key]Result { return *p.results.Load() }

// Events receives a value after Results changed. Several changes may make one event.
func (p *Prober) Events() <-chan struct{} { return p.events }

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// loop is the state of Run; its goroutine alone touches it.
type loop struct {
	*Prober
	containers map[Key]*container
	due        queue
	running    int // network attempts
	execs      int
	waiting    []*probe // due, and too many are under way
	changed    bool     // results are to be published
	done       chan outcome
}

// container is one instance that is probed.
type container struct {
	target Target
	result Result
	probes []*probe
	gone   bool
	cancel context.CancelFunc
	ctx    context.Context
}

// Run probes until ctx ends, and returns once no attempt is under way.
func (p *Prober) Run(ctx context.Context) error {
	l := &loop{Prober: p, containers: map[Key]*container{}, done: make(chan outcome)}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer l.end()
	l.set(ctx)
	for {
		l.start()
		l.publish()
		pause := time.Hour
		if len(l.due) > 0 {
			pause = time.Until(l.due[0].next)
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.wake:
			l.set(ctx)
		case o := <-l.done:
			l.finish(o)
			l.drain()
		case <-timer.C:
		}
	}
}

// drain takes the outcomes that wait already, so that many at once are published once.
func (l *loop) drain() {
	for range 1024 {
		select {
		case o := <-l.done:
			l.finish(o)
		default:
			return
		}
	}
}

// end waits for the attempts under way; their contexts are cancelled.
func (l *loop) end() {
	for _, c := range l.containers {
		c.cancel()
	}
	for l.running+l.execs > 0 {
		o := <-l.done
		l.release(o.probe)
	}
}

// set takes over the wanted targets.
func (l *loop) set(ctx context.Context) {
	l.mu.Lock()
	wanted := l.wanted
	l.mu.Unlock()
	for key, c := range l.containers {
		if t, ok := wanted[key]; !ok || t.ID != c.target.ID {
			l.forget(key, c)
			l.changed = true
		}
	}
	for key, t := range wanted {
		c, ok := l.containers[key]
		if !ok {
			l.containers[key] = l.meet(ctx, key, t)
			l.changed = true
			continue
		}
		c.target.IP, c.target.Stopping = t.IP, t.Stopping
	}
}

// meet makes the state of a new instance; its probes wait for their time.
func (l *loop) meet(ctx context.Context, key Key, t Target) *container {
	c := &container{target: t}
	c.ctx, c.cancel = context.WithCancel(ctx)
	spec := t.Container
	for kind, s := range map[Kind]*corev1.Probe{Startup: spec.StartupProbe, Readiness: spec.ReadinessProbe, Liveness: spec.LivenessProbe} {
		if s != nil {
			c.probes = append(c.probes, l.newProbe(key, kind, s, c))
		}
	}
	c.result = Result{ID: t.ID, Started: spec.StartupProbe == nil, Ready: spec.StartupProbe == nil && spec.ReadinessProbe == nil}
	if k := t.Known; k != nil {
		c.result.Started = c.result.Started || k.Started
		c.result.Ready = c.result.Started && (spec.ReadinessProbe == nil || k.Ready)
		c.result.Failed, c.result.Grace, c.result.Message = k.Failed, k.Grace, k.Message
	}
	for _, p := range c.probes {
		p.begin(c, time.Now())
		if p.wanted() {
			heap.Push(&l.due, p)
		}
	}
	return c
}

func (l *loop) forget(key Key, c *container) {
	c.gone = true
	c.cancel()
	for _, p := range c.probes {
		if p.index >= 0 {
			heap.Remove(&l.due, p.index)
		}
	}
	delete(l.containers, key)
}

// start begins every attempt that is due and has a place.
func (l *loop) start() {
	now := time.Now()
	for len(l.due) > 0 && !l.due[0].next.After(now) {
		l.waiting = append(l.waiting, heap.Pop(&l.due).(*probe))
	}
	left := l.waiting[:0]
	for _, p := range l.waiting {
		switch {
		case p.container.gone || !p.wanted():
		case p.exec() && l.execs < l.opt.ExecAtOnce:
			l.execs++
			go l.attempt(p, p.container.ctx, p.container.target)
		case !p.exec() && l.running < l.opt.Attempts:
			l.running++
			go l.attempt(p, p.container.ctx, p.container.target)
		default:
			left = append(left, p)
		}
	}
	clear(l.waiting[len(left):])
	l.waiting = left
}

func (l *loop) release(p *probe) {
	if p.exec() {
		l.execs--
		return
	}
	l.running--
}

// finish takes an attempt's outcome into account and plans the next.
func (l *loop) finish(o outcome) {
	p := o.probe
	l.release(p)
	c := p.container
	if c.gone {
		return
	}
	if o.err != nil {
		l.opt.Log.Debug("probe could not be made", "pod", p.key.Pod, "container", p.key.Container, "probe", string(p.kind), "err", o.err)
	}
	before := c.result
	p.count(o)
	p.plan(time.Now())
	if p.wanted() {
		heap.Push(&l.due, p)
	}
	if c.result.Started && !before.Started { // the others were held back until now
		for _, other := range c.probes {
			if other.index < 0 && other != p && other.wanted() {
				other.release(time.Now())
				heap.Push(&l.due, other)
			}
		}
	}
	l.changed = l.changed || c.result != before
}

// publish makes the present results visible if they changed.
func (l *loop) publish() {
	if !l.changed {
		return
	}
	l.changed = false
	all := make(map[Key]Result, len(l.containers))
	for key, c := range l.containers {
		all[key] = c.result
	}
	l.results.Store(&all)
	notify(l.events)
}
