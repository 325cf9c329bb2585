// Package nodeagent is the loop around the engine: it looks at the machine, asks the engine what to do next,
// does it, and looks again. Its parts (containers, links, firewall, ...) do not know each other; the loop knows
// them through the interfaces in needs.go.
//
// Two goroutines own state. Run owns what the node does: one reconcile at a time, and a bounded worker for each
// pod that something is being done to. The Deployer owns what becomes desired: one commit at a time.
package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/internal/wallclock"
)

// Options are what an Agent is made of. All parts are required; zero numbers mean their defaults.
type Options struct {
	Node       place.NodeID
	Ledger     Ledger
	Content    Content
	Containers Containers
	Links      Links
	Firewall   Firewall
	Names      Names
	Doors      Doors // nil: previews that sleep are not woken by requests
	Volumes    Volumes
	Probes     Probes
	Lease      Lease         // nil: none is needed
	Secrets    Secrets       // opens what is sealed; nil: such pods wait
	Renders    *OwnRenders   // what this node has rendered itself; nil: nobody asks
	Resync     time.Duration // look again although nothing was reported; default 30 s
	Starts     int           // pods that are brought up at the same time; default one more than processors, as each waits now and then
	Drain      time.Duration // from the last endpoint's leaving to SIGTERM, for connections under way; default 200 ms
	Log        *slog.Logger  // default: discard
}

// WithDefaults returns a copy with zero fields filled in.
func (o Options) WithDefaults() Options {
	o.Resync = cmp.Or(o.Resync, 30*time.Second)
	o.Starts = cmp.Or(o.Starts, runtime.NumCPU()+1)
	o.Drain = cmp.Or(o.Drain, 200*time.Millisecond)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Agent reconciles one machine.
type Agent struct {
	opt     Options
	wants   *plan.Wants
	tables  wire.Tables
	index   uint64 // of the state that wants and tables were made from
	ring    ringClock
	wired   bool // the kernel has tables
	fence   fence
	busy    map[control.PodID]bool
	gone    map[control.PodID]bool // taken down and reported, not yet out of the ledger
	retry   map[control.PodID]*trouble
	waiting map[control.PodID]plan.Trouble // why what is not started yet is not
	lacking map[control.PodID]plan.Trouble // what of a pod has not, at the last look
	opens   map[opening]error              // sealed Secrets that do open here, and those that never will
	own     map[control.PodID]*plan.Pod    // all that it is made of has come out of a render of this node's own
	done    chan result
	starts  chan struct{} // a token for each pod being brought up
	reports *reporter
	journal *Journal
	linked  map[control.PodID]bool      // its link was whole when last looked at
	shows   map[control.PodID]*plan.Pod // what its volumes show
	hooked  hooked
	bases   map[control.PodID]*basis // of the statuses that were handed to reports
	last    atomic.Pointer[Snapshot]
	shown   atomic.Pointer[wire.Tables]
	looks   atomic.Uint64 // full ones that were finished
	drifts  atomic.Uint64 // repairs of what others changed
}

// Snapshot is what the agent saw and meant to do at its last look, for those who ask.
type Snapshot struct {
	Want    plan.Want
	Have    plan.Have
	Trouble map[control.PodID]map[string]plan.Trouble
	Drift   []string // repaired at the last look that found any
	At      time.Time
}

// New makes an agent; Run starts it.
func New(opt Options, journal *Journal) *Agent {
	opt = opt.WithDefaults()
	a := &Agent{
		opt: opt, wants: plan.NewWants(), journal: journal,
		busy: map[control.PodID]bool{}, gone: map[control.PodID]bool{},
		linked: map[control.PodID]bool{}, shows: map[control.PodID]*plan.Pod{}, retry: map[control.PodID]*trouble{}, waiting: map[control.PodID]plan.Trouble{}, own: map[control.PodID]*plan.Pod{},
		bases: map[control.PodID]*basis{},
		done:  make(chan result, 64), starts: make(chan struct{}, opt.Starts),
	}
	a.reports = newReporter(opt.Ledger, opt.Log)
	return a
}

// Last is what was seen at the last look; nil before the first.
func (a *Agent) Last() *Snapshot { return a.last.Load() }

// Resyncs are how often everything was looked at since the start, and how often something had been changed by others.
func (a *Agent) Resyncs() (looks, drifts uint64) { return a.looks.Load(), a.drifts.Load() }

// Tables are the network's as they were last applied.
func (a *Agent) Tables() wire.Tables {
	if t := a.shown.Load(); t != nil {
		return *t
	}
	return wire.Tables{}
}

// Run reconciles until ctx ends. Containers go on when it returns.
func (a *Agent) Run(ctx context.Context) error {
	reporting := make(chan struct{})
	go func() { defer close(reporting); a.reports.run(ctx) }()
	defer func() { a.settle(); <-reporting }()

	tick := time.NewTicker(a.opt.Resync)
	defer tick.Stop()
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	var leased <-chan struct{} // for ever nil without a lease
	if a.opt.Lease != nil {
		leased = a.opt.Lease.Events()
	}
	var rendered <-chan struct{} // likewise
	if a.opt.Renders != nil {
		rendered = a.opt.Renders.events
	}
	var opened <-chan struct{} // likewise
	if a.opt.Secrets != nil {
		opened = a.opt.Secrets.Events()
	}
	full := true
	for {
		begun := time.Now()
		next, err := a.reconcile(ctx, full)
		rested := time.Now().Add(rest(time.Since(begun)))
		if err != nil && ctx.Err() == nil {
			a.opt.Log.WarnContext(ctx, "reconcile did not finish, will retry", "err", err)
			next = wallclock.Now().Add(time.Second).UnixMilli()
		}
		full = false
		wait := time.Hour
		if next != 0 {
			wait = max(0, time.UnixMilli(next).Sub(wallclock.Now()))
		}
		wake.Reset(wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.opt.Ledger.Changes():
		case <-a.opt.Containers.Events():
		case <-a.opt.Links.Events():
			full = true
		case <-a.opt.Probes.Events():
		case <-a.opt.Volumes.Events():
		case <-leased:
		case <-rendered:
		case <-opened:
		case r := <-a.done:
			a.finish(ctx, r)
		case <-wake.C:
		case <-tick.C: // anything we were not told of
			full = true
		}
		a.restUntil(ctx, rested)
		a.drainDone(ctx)
	}
}

// rest is for how long the loop rests after a look that took that long, whatever happens meanwhile: looking at many
// pods that all stir takes a fifth of a core, as long as a look takes 25 ms at most; of a longer one nobody is to wait
// for more than 100 ms. A look at a few pods takes less than a millisecond.
func rest(took time.Duration) time.Duration { return min(4*took, 100*time.Millisecond) }

// restUntil waits until then and takes in the workers that end meanwhile, so that none waits for it.
func (a *Agent) restUntil(ctx context.Context, until time.Time) {
	wait := time.Until(until)
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-a.done:
			a.finish(ctx, r)
		case <-timer.C:
			return
		}
	}
}

// drainDone takes in the workers that ended meanwhile, so that one look serves them all.
func (a *Agent) drainDone(ctx context.Context) {
	for {
		select {
		case r := <-a.done:
			a.finish(ctx, r)
		default:
			return
		}
	}
}

// settle waits for the workers: each ends with its context.
func (a *Agent) settle() {
	for len(a.busy) > 0 {
		r := <-a.done
		delete(a.busy, r.pod)
	}
}

// reconcile observes, decides and sets workers going. A full look also reads the kernel's links and rules back.
// It returns when to look again (ms since 1970; 0: when something happens).
func (a *Agent) reconcile(ctx context.Context, full bool) (wake int64, err error) {
	changed := a.refresh()
	wireErr := a.wire(ctx, changed, full)

	have, err := a.opt.Containers.List(ctx)
	if err != nil {
		return 0, errors.Join(wireErr, err)
	}
	if err := a.links(ctx, have, full); err != nil {
		return 0, errors.Join(wireErr, err)
	}
	for id, why := range a.opt.Volumes.Excess() {
		if seen := have[id]; seen != nil {
			seen.Excess = why
		}
	}
	if full && wireErr == nil {
		a.looks.Add(1)
	}
	targets := a.probeTargets(have)
	a.opt.Probes.Set(targets)

	now := wallclock.Now().UnixMilli()
	health := a.health(targets)
	a.hooked.unstarted(have, health)
	facts := plan.Facts{Health: health, Images: a.images(), Busy: a.held(), Stale: a.stale(), Past: a.past(have), Now: now, Ring: a.ringTime(now)}
	if a.opt.Lease != nil {
		facts.Lease = a.opt.Lease.Lease(a.index)
	}
	facts.Unrendered = a.unopened(a.unrendered())
	steps, wake := plan.Steps(a.wants.Want, have, facts)
	a.noteWithheld(have, facts)
	for len(steps) > 0 {
		n := slices.IndexFunc(steps, func(s plan.Action) bool { return s.Pod != steps[0].Pod })
		if n < 0 {
			n = len(steps)
		}
		a.start(ctx, a.wants.Want[steps[0].Pod], steps[:n:n])
		steps = steps[n:]
	}
	for id, t := range a.retry {
		left := time.Until(t.at)
		switch {
		case left > 0:
			if at := now + (left + time.Millisecond - 1).Milliseconds(); wake == 0 || at < wake {
				wake = at
			}
		case !a.busy[id]: // its turn came, and there is nothing more to do
			delete(a.retry, id)
		}
	}
	a.report(have, health, now)
	a.last.Store(&Snapshot{Want: a.wants.Copy(), Have: have, Trouble: a.troubles(), At: time.UnixMilli(now)})
	return wake, wireErr
}

// refresh takes over what the ledger says now. It reports whether anything moved.
func (a *Agent) refresh() (changed bool) {
	a.opt.Ledger.View(func(s *cluster.State) {
		if s.Index() == a.index {
			return
		}
		a.ring = ringClock{time: s.Time(), at: time.Now(), fresh: a.index != 0}
		changed, a.index = true, s.Index()
		a.wants.Update(s, a.opt.Node, a.opt.Content)
		a.tables = wire.Compile(wire.FromState(s, a.opt.Node, a.opt.Content))
		a.fence.want(&a.tables)
	})
	return changed
}

// ringClock is ring time as it was when this node last heard of it.
type ringClock struct {
	time  int64     // ms since 1970
	at    time.Time // by the clock that does not jump
	fresh bool      // the entry that says so came while this agent ran: it was then just made
}

// ringTime is about what ring time is now: what it was at the newest entry, and the time since. Before this agent has seen an
// entry come that may be long ago, and this machine's clock, which says now, is believed as well.
func (a *Agent) ringTime(now int64) int64 {
	t := a.ring.time + time.Since(a.ring.at).Milliseconds()
	if a.ring.fresh {
		return t
	}
	return max(t, now)
}

// wire brings the packet filter and the names to the tables. Endpoints leave here, before any pod is stopped.
func (a *Agent) wire(ctx context.Context, changed, full bool) error {
	if full && a.wired && !changed {
		drift, err := a.opt.Firewall.Verify(ctx)
		if err != nil {
			return err
		}
		if len(drift) == 0 {
			return nil
		}
		a.drifted(ctx, "Node", drift)
		a.wired = false
		a.fence.fell()
	}
	if !changed && a.wired {
		return nil
	}
	a.opt.Names.Set(a.tables)
	if err := a.opt.Firewall.Apply(ctx, a.tables); err != nil {
		a.wired = false
		return err
	}
	a.fence.stands(&a.tables)
	if a.opt.Doors != nil {
		a.opt.Doors.Set(a.tables.Doors)
	}
	if err := a.opt.Links.Routes(ctx, a.tables); err != nil {
		a.wired = false // tried again, and what could be done is
		return err
	}
	a.wired = true
	tables := a.tables
	a.shown.Store(&tables)
	return nil
}

// links fills in which pods' links are whole. A full look asks the kernel; between those what was made is
// believed, for the kernel tells of what others take away.
func (a *Agent) links(ctx context.Context, have plan.Have, full bool) error {
	if full {
		drift, err := a.opt.Links.CheckNode(ctx)
		if err != nil {
			return err
		}
		if len(drift) > 0 {
			a.drifted(ctx, "Node", drift)
			if err := a.opt.Links.EnsureNode(ctx); err != nil {
				return err
			}
		}
	}
	for id, seen := range have {
		p := a.wants.Want[id]
		if full && p != nil && seen.Namespaces && !p.Spec.HostNetwork && !a.busy[id] && p.Deleting == 0 {
			drift, err := a.opt.Links.Check(ctx, p, a.opt.Containers.Netns(id))
			if err != nil {
				return err
			}
			if len(drift) > 0 && a.linked[id] {
				a.drifted(ctx, "Pod "+p.Namespace+"/"+p.Name, drift)
			}
			a.linked[id] = len(drift) == 0
		}
		seen.Linked = a.linked[id]
	}
	for id := range a.linked {
		if a.wants.Want[id] == nil {
			delete(a.linked, id)
			delete(a.shows, id)
		}
	}
	return nil
}

// drifted says what somebody else changed and is being put back.
func (a *Agent) drifted(ctx context.Context, object string, drift []string) {
	a.drifts.Add(1)
	a.opt.Log.WarnContext(ctx, "changed by someone else, repairing", "object", object, "drift", drift)
	a.journal.Add(Event{Object: object, Reason: "Drift", Message: strings.Join(drift, "; ")})
}

// stale are the pods with volumes that were not brought to the newest want.
func (a *Agent) stale() map[control.PodID]bool {
	out := map[control.PodID]bool{}
	for id, p := range a.wants.Want {
		if len(p.Spec.Volumes) > 0 && a.shows[id] != p {
			out[id] = true
		}
	}
	return out
}

// images says which images that are wanted here are on the node.
func (a *Agent) images() map[string]bool {
	out := map[string]bool{}
	for _, p := range a.wants.Want {
		for c := range p.Containers() {
			if key := p.ImageOf(c); !out[key] {
				out[key] = a.opt.Containers.Present(c.Image, p.Images[c.Image])
			}
		}
	}
	return out
}

// past is how often containers have run here of which nothing is here now.
func (a *Agent) past(have plan.Have) map[control.PodID]map[string]int {
	out := map[control.PodID]map[string]int{}
	for id, p := range a.wants.Want {
		seen := have[id]
		for c := range p.Containers() {
			if seen != nil && seen.Containers[c.Name] != nil {
				continue
			}
			if past := a.opt.Containers.Past(p); past != nil {
				out[id] = past
			}
			break
		}
	}
	return out
}

// probeTargets are the running containers that have probes.
func (a *Agent) probeTargets(have plan.Have) []ProbeTarget {
	var targets []ProbeTarget
	for id, p := range a.wants.Want {
		seen := have[id]
		if seen == nil || p.Deleting != 0 {
			continue
		}
		for c := range p.Containers() {
			if c.LivenessProbe == nil && c.ReadinessProbe == nil && c.StartupProbe == nil {
				continue
			}
			if got := seen.Containers[c.Name]; got != nil && got.State == plan.Running {
				targets = append(targets, ProbeTarget{Instance: got.ID, Pod: p, Container: c.Name, Started: got.Started})
			}
		}
	}
	slices.SortFunc(targets, func(x, y ProbeTarget) int { return cmp.Compare(x.Instance, y.Instance) })
	return targets
}

// health is what is known of the containers. One whose probes have not answered yet is as it was last reported, over
// a restart of the agent, and else neither started nor ready as far as there are probes for that.
func (a *Agent) health(targets []ProbeTarget) map[string]plan.Health {
	health := a.opt.Probes.Health()
	for _, t := range targets {
		if _, known := health[t.Instance]; known {
			continue
		}
		c := t.Pod.Container(t.Container)
		h := plan.Health{NotStarted: c.StartupProbe != nil, NotReady: c.ReadinessProbe != nil || c.StartupProbe != nil}
		for _, s := range t.Pod.Status.ContainerStatuses {
			if s.Name == t.Container && strings.HasSuffix(s.ContainerID, "//"+t.Instance) && s.State.Running != nil {
				h = plan.Health{NotStarted: s.Started != nil && !*s.Started, NotReady: !s.Ready}
			}
		}
		health[t.Instance] = h
	}
	return health
}

// report hands the status of each pod of which something was seen that is new to the reporter, which sends it where it
// differs from what the ledger has.
func (a *Agent) report(have plan.Have, health map[string]plan.Health, now int64) {
	for id, p := range a.wants.Want {
		_, withheld := a.waiting[id]
		trouble := a.retry[id] != nil || withheld
		if a.gone[id] || p.GivenUp || a.bases[id].holds(p, have[id], health, trouble) {
			continue
		}
		a.bases[id] = newBasis(p, have[id], health, trouble)
		a.reports.set(p, plan.Status(p, have[id], health, a.containerTroubles(id), now))
	}
	for id := range a.bases {
		if a.wants.Want[id] == nil {
			delete(a.bases, id)
		}
	}
}
