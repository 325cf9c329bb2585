package enginetest

import (
	"cmp"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// faults has things go wrong, and be mended after a while. Several may be at a time.
type faults struct {
	w      *World
	on     bool
	active int
	at     int64 // of the next one
	mends  []*mend
}

type mend struct {
	fn   func()
	done bool
}

func (f *faults) begin() {
	f.on = true
	f.next()
}

// end mends all that is broken.
func (f *faults) end() {
	f.on = false
	for _, m := range f.mends {
		f.mend(m)
	}
	f.mends = nil
	for _, m := range f.w.nodes {
		m.skew, m.slow = 0, 0
		if m.drained {
			f.w.cordon(m, true)
		}
	}
}

// near tells whether something goes wrong in a moment.
func (f *faults) near() bool { return f.on && f.w.now+10*millisecond > f.at }

func (f *faults) next() {
	f.at = f.w.now + f.w.between(second, cmp.Or(f.w.Weather.Every, 40)*second)
	f.w.after(f.at-f.w.now, func() {
		if f.on {
			f.w.Stats.Faults++
			f.strike()
			f.next()
		}
	})
}

// last breaks something until it is mended, after a while.
func (f *faults) last(wait int64, fn func()) {
	m := &mend{fn: fn}
	f.active++
	f.mends = append(f.mends, m)
	f.w.after(wait, func() {
		f.mend(m)
		f.mends = slices.DeleteFunc(f.mends, func(o *mend) bool { return o.done })
	})
}

func (f *faults) mend(m *mend) {
	if m.done {
		return
	}
	m.done = true
	f.active--
	f.w.note("mended, %d faults are left", f.active)
	m.fn()
	f.w.topology()
}

// victim is a node; often it is the one that leads.
func (f *faults) victim() *machine {
	w := f.w
	if w.chance(350) {
		for _, m := range w.nodes[:w.voters] {
			if m.role == leader {
				return m
			}
		}
	}
	return w.nodes[w.rng.IntN(len(w.nodes))]
}

// Weather says what goes wrong. The zero Weather is all there is, in the usual mixture.
type Weather struct {
	Faults    []string // those of kinds that there are; nil: all
	Every     int64    // at most so long from one to the next, s; 0: 40
	Isolation int64    // a node is cut off for about so long, s; 0: of all lengths
	Latency   int64    // each message takes up to so much longer, ms
	Disk      int64    // each fsync takes up to so much longer, ms
	Pulls     int      // of 1000 images so many take long to come; 0: some
}

// kinds are what may go wrong, and how often of all.
var kinds = []struct {
	name  string
	share int
	fn    func(f *faults, m *machine)
}{
	{"crash", 10, (*faults).crash},
	{"power", 10, func(f *faults, m *machine) { f.cutPower(m, f.w.between(5*second, 2*minute)) }},
	{"freeze", 15, (*faults).freeze},
	{"halt", 5, (*faults).halt},
	{"split", 10, func(f *faults, _ *machine) { f.split() }},
	{"isolate", 12, func(f *faults, m *machine) { f.isolate(m, f.w.rng.IntN(3)) }},
	{"flap", 5, func(f *faults, m *machine) { f.flap(m, 4+f.w.rng.IntN(12)) }},
	{"storm", 5, func(f *faults, _ *machine) { f.storm() }},
	{"jump", 5, (*faults).jump},
	{"slow disk", 5, (*faults).slowDisk},
	{"suspicion", 5, (*faults).suspect},
	{"blackout", 1, func(f *faults, _ *machine) { f.blackout() }},
	{"restart", 3, (*faults).announce},
	{"drain", 2, (*faults).drain},
	{"full disk", 4, (*faults).fullDisk},
	{"rebalance", 4, (*faults).rebalance},
}

// strike does one thing that goes wrong.
func (f *faults) strike() {
	sum := 0
	may := func(name string) bool { return f.w.Weather.Faults == nil || slices.Contains(f.w.Weather.Faults, name) }
	for _, k := range kinds {
		if may(k.name) {
			sum += k.share
		}
	}
	at := f.w.rng.IntN(sum)
	m := f.victim()
	for _, k := range kinds {
		if !may(k.name) {
			continue
		}
		if at -= k.share; at < 0 {
			f.w.note("%s, %s", k.name, m.up.Name)
			k.fn(f, m)
			break
		}
	}
	f.w.topology()
}

// slowDisk has a disk take its time.
func (f *faults) slowDisk(m *machine) {
	m.slow = f.w.between(20*millisecond, second)
	f.last(f.w.between(5*second, minute), func() { m.slow = 0 })
}

// crash ends an agent; another one starts after a while.
func (f *faults) crash(m *machine) {
	if !m.alive || m.halted {
		return
	}
	m.stop()
	wait := f.w.between(100*millisecond, 10*second)
	if f.w.chance(200) {
		wait = f.w.between(10*second, 2*minute)
	}
	f.restart(m, wait)
}

func (f *faults) restart(m *machine, wait int64) {
	boot := m.boot
	f.last(wait, func() {
		if m.boot == boot && m.on {
			m.start()
		}
	})
}

// cutPower ends a machine.
func (f *faults) cutPower(m *machine, wait int64) {
	if !m.on {
		return
	}
	m.powerOff()
	f.last(wait, func() {
		m.powerOn()
		if !m.alive {
			m.start()
		}
	})
}

// blackout ends all machines at once.
func (f *faults) blackout() {
	for _, m := range f.w.nodes {
		f.cutPower(m, f.w.between(5*second, 40*second))
	}
}

// freeze has an agent stand still.
func (f *faults) freeze(m *machine) {
	if !m.there() {
		return
	}
	w := f.w
	wait := w.between(200*millisecond, 4*second)
	if w.chance(600) {
		wait = w.between(4*second, 40*second)
	}
	m.freeze()
	boot := m.boot
	f.last(wait, func() {
		if m.boot == boot && m.frozen {
			m.thaw(wait > leaderLease)
		}
	})
}

// halt has all of a machine stand still. What may run once stands still, too, and when the machine goes on its guard is
// the first to run: that it is not always is the documented limit of the fence.
func (f *faults) halt(m *machine) {
	if !m.there() || m.halted {
		return
	}
	w := f.w
	wait := w.between(500*millisecond, 30*second)
	m.freeze()
	m.halted = true
	boot := m.boot
	var stood []*proc
	for _, id := range m.ids() {
		if q := m.procs[id]; q.running() {
			w.seen.stopped(q)
			stood = append(stood, q)
		}
	}
	power := m.power
	f.last(wait, func() {
		if !m.halted || m.power != power {
			return
		}
		m.halted = false
		over := m.killAt != 0 && m.clock() >= m.killAt && w.Plant != NoGuard
		for _, q := range stood {
			if !q.running() {
				continue
			}
			if over && q.pod.Fenced && !q.pod.Kept {
				w.Stats.Killed++
				q.exit(137)
				continue
			}
			w.seen.started(q)
		}
		paused := m.paused
		m.paused = nil
		for _, fn := range paused {
			m.outside(w.between(0, 20*millisecond), fn)
		}
		if m.boot == boot && m.frozen {
			m.thaw(wait > leaderLease)
		}
	})
}

// cut cuts the way from one node to another, once more or once less.
func (f *faults) cut(from, to *machine, by int) { f.w.net.cut[from.n][to.n] += by }

// split parts the ring in two, of any sizes.
func (f *faults) split() {
	w := f.w
	var side []bool
	part := 100 + w.rng.IntN(500)
	for range w.nodes {
		side = append(side, w.chance(part))
	}
	part2 := func(by int) {
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if side[a.n] != side[b.n] {
					f.cut(a, b, by)
				}
			}
		}
	}
	w.note("split: %v", side)
	part2(1)
	f.last(w.between(second, 90*second), func() {
		part2(-1)
		for _, m := range w.nodes {
			if w.chance(200) {
				f.behind(m)
			}
		}
	})
}

// isolate cuts one node off: what it sends (0), what it gets (1), or both (2).
func (f *faults) isolate(m *machine, way int) {
	cut := func(by int) {
		for _, o := range f.w.nodes {
			if o == m {
				continue
			}
			if way != 1 {
				f.cut(m, o, by)
			}
			if way != 0 {
				f.cut(o, m, by)
			}
		}
	}
	cut(1)
	wait := f.w.between(second, minute)
	if f.w.chance(100) {
		wait = f.w.between(5*minute, 20*minute) // long enough for addresses that were given up to be given out again
	}
	if long := f.w.Weather.Isolation * second; long != 0 {
		wait = f.w.between(long*8/10, long*12/10)
	}
	f.last(wait, func() {
		cut(-1)
		f.behind(m)
	})
}

// behind has a node that is back take its time with what it missed; sometimes its agent ends meanwhile.
func (f *faults) behind(m *machine) {
	if !f.on || m.slow > 0 || f.w.chance(500) {
		return
	}
	m.slow = f.w.between(100*millisecond, 3*second)
	f.last(10*second, func() { m.slow = 0 })
	if f.w.chance(300) {
		f.w.after(f.w.between(10*millisecond, 3*second), func() {
			if f.on && m.alive && !m.halted {
				m.stop()
				f.restart(m, f.w.between(50*millisecond, second))
			}
		})
	}
}

// flap cuts one node off again and again.
func (f *faults) flap(m *machine, times int) {
	if times == 0 || !f.on {
		return
	}
	w := f.w
	for _, o := range w.nodes {
		if o != m {
			f.cut(m, o, 1)
			f.cut(o, m, 1)
		}
	}
	f.last(w.between(500*millisecond, 4*second), func() {
		for _, o := range w.nodes {
			if o != m {
				f.cut(m, o, -1)
				f.cut(o, m, -1)
			}
		}
		w.after(w.between(500*millisecond, 4*second), func() { f.flap(m, times-1); w.topology() })
	})
}

// storm has the whole network lose and delay.
func (f *faults) storm() {
	w := f.w
	loss, delay := w.rng.IntN(400), w.between(0, 300*millisecond)
	w.net.loss += loss
	w.net.delay += delay
	f.last(w.between(5*second, 40*second), func() {
		w.net.loss -= loss
		w.net.delay -= delay
	})
}

// jump sets a wall clock.
func (f *faults) jump(m *machine) {
	w := f.w
	switch w.rng.IntN(4) {
	case 0:
		m.skew = w.between(1_000, 1_800_000)
	case 1:
		m.skew = -w.between(1_000, 86_400_000)
	default:
		m.skew = w.between(-5_000, 5_000)
	}
	f.last(w.between(5*second, minute), func() { m.skew = 0 })
}

// suspect has the gossip take a node for lost that is there.
func (f *faults) suspect(m *machine) {
	w := f.w
	for _, o := range w.nodes[:w.voters] {
		if o.there() && o != m {
			o.hint(m, false)
		}
	}
	f.last(w.between(200*millisecond, 4*second), func() {})
}

// announce restarts an agent that says so, and hands the leadership over.
func (f *faults) announce(m *machine) {
	if !m.there() {
		return
	}
	w := f.w
	m.submit(cluster.Input{Restarting: &cluster.Restarting{Until: m.wall() + 30_000}}, nil)
	boot := m.boot
	w.after(w.between(100*millisecond, 3*second), func() {
		if m.boot == boot && m.there() {
			if m.role == leader {
				m.stepDown()
			}
			m.stop()
			f.restart(m, w.between(500*millisecond, 45*second))
			w.topology()
		}
	})
}

// drain empties a node, for a while.
func (f *faults) drain(m *machine) {
	if m.drained {
		return
	}
	m.drained = true
	f.w.cordon(m, false)
	f.w.after(f.w.between(30*second, 5*minute), func() {
		if f.on && m.drained {
			f.w.cordon(m, true)
		}
	})
}

// rebalance is a command that is given to some node, and taken back now and then.
func (f *faults) rebalance(m *machine) {
	if m.there() {
		m.submit(cluster.Input{Rebalance: &cluster.Rebalance{Off: f.w.chance(100)}}, nil)
	}
}

// fullDisk has a disk run full, so that its node wants no more pods.
func (f *faults) fullDisk(m *machine) {
	if m.short {
		return
	}
	m.short = true
	if !m.watched {
		m.watched = true
		f.w.watchDisk(m)
	}
	f.last(f.w.between(20*second, 4*minute), func() { m.short = false })
}

// watchDisk has a node tell how its disk is, whenever the ledger, as it knows it, says otherwise.
func (w *World) watchDisk(m *machine) {
	w.after(10*second, func() { w.watchDisk(m) })
	if !m.there() || m.state == nil || m.reports {
		return
	}
	if n, ok := m.state.Nodes().Get(m.id); ok && (n.DiskPressure != "") != m.short {
		words := ""
		if m.short {
			words = "it is full"
		}
		m.reports = true
		m.submit(cluster.Input{Pressure: &cluster.Pressure{Disk: words}}, func(cluster.Outcome) { m.reports = false })
	}
}

// cordon is a command that is given to some node; it is given again until it is taken.
func (w *World) cordon(m *machine, off bool) {
	if off {
		m.drained = false
	}
	o := w.nodes[w.rng.IntN(len(w.nodes))]
	again := func() {
		if m.drained != off {
			w.cordon(m, off)
		}
	}
	if !o.there() {
		w.after(second, again)
		return
	}
	done := false
	o.submit(cluster.Input{Cordon: &cluster.Cordon{ID: m.id, Off: off, Drain: !off}}, func(cluster.Outcome) { done = true })
	w.after(minute, func() {
		if !done {
			again()
		}
	})
}
