package enginetest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/place"
)

// World is a ring of several nodes under faults, driven by one seed: a run with the same seed is the same run. doc.go
// says what in it is the true code, what is a model, and what must hold.
type World struct {
	Seed    uint64
	Content Store
	Stats   WorldStats

	// Story gets what happens, a line each; nil: nobody reads it.
	Story io.Writer

	Weather Weather

	// Plant breaks something, to show that it is found.
	Plant Plant

	// passes is told that a machine is at a point at which it may be ended, with the pod that it is about; nil: nobody is.
	passes func(at point, m *machine, p *control.Pod)
	// lasts is how long a job's process runs, ms; nil, or 0: up to 50 s.
	lasts func(*control.Pod) int64

	mixed *mixed // members of two versions; nil: all are of today's

	rng    *rand.Rand
	now    int64 // true time since the beginning, µs
	events events
	nodes  []*machine // n1 is nodes[0]
	byID   map[place.NodeID]*machine
	voters int // the first so many
	net    network
	chain  *chain
	team   *team
	faults faults
	seen   *witness
	wrong  error // the first violation
}

// point is where a machine is on the way of a run, from its schedule to its process.
type point string

const (
	beforeRecord point = "before the run is recorded" // a Tick is due at the leader
	afterRecord  point = "after the run is recorded"  // the leader knows that the Tick is committed
	beforeStart  point = "before the run is started"  // on the pod's node
	afterStart   point = "after the run is started"
)

// pass tells of a point; false if the machine's agent did not survive it.
func (w *World) pass(at point, m *machine, p *control.Pod) bool {
	if w.passes == nil {
		return true
	}
	boot := m.boot
	w.passes(at, m, p)
	return m.boot == boot
}

// WorldStats is what a run did.
type WorldStats struct {
	Faulty, Quiet int64 // ms lived through under faults, and without
	Events        int
	Entries       int
	Rejected      int
	Repeated      int // inputs that came twice
	Leaders       int // that were elected
	Lost          int // nodes that the ledger took for lost
	Fenced        int // leases that the ledger ended
	Commits       int
	Mismatches    int // commits on which the renders differed
	Started       int // processes
	Killed        int // by the guard
	Runs          int // of CronJobs
	Replayed      int // entries that were stepped by a second node, too
	Faults        int
}

// Plus adds two.
func (a WorldStats) Plus(b WorldStats) WorldStats {
	return WorldStats{
		a.Faulty + b.Faulty, a.Quiet + b.Quiet, a.Events + b.Events, a.Entries + b.Entries, a.Rejected + b.Rejected, a.Repeated + b.Repeated,
		a.Leaders + b.Leaders, a.Lost + b.Lost, a.Fenced + b.Fenced, a.Commits + b.Commits, a.Mismatches + b.Mismatches, a.Started + b.Started,
		a.Killed + b.Killed, a.Runs + b.Runs, a.Replayed + b.Replayed, a.Faults + b.Faults,
	}
}

// Units of true time.
const (
	millisecond int64 = 1000
	second            = 1000 * millisecond
	minute            = 60 * second
)

// NewWorld begins a ring of so many nodes, of which the first voters vote.
func NewWorld(seed uint64, nodes, voters int) *World {
	w := &World{Seed: seed, Content: Store{}, rng: rand.New(rand.NewPCG(seed, 0x5A0A1)), voters: voters, byID: map[place.NodeID]*machine{}}
	w.seen = newWitness(w)
	w.team = newTeam(w)
	w.net = newNetwork(nodes)
	w.faults.w = w
	for i := range nodes {
		m := newMachine(w, i)
		w.nodes = append(w.nodes, m)
		w.byID[m.id] = m
	}
	return w
}

// Run lives through a time under faults, then through one without, ms, in which everything must come to rest. It returns
// the first violation of an invariant.
func (w *World) Run(faulty, quiet int64) error {
	if err := w.Faulty(faulty); err != nil || quiet == 0 {
		return err
	}
	return w.Calm(quiet)
}

// Faulty begins, and lives through a time under faults, ms. It returns the first violation of an invariant.
func (w *World) Faulty(ms int64) error {
	return w.live(ms, func(end int64) {
		w.begin()
		w.faults.begin()
		w.until(end)
		w.Stats.Faulty = ms
	})
}

// Calm mends everything, and lives through a time without faults, ms; half an hour is enough for everything to come to
// rest, but for what waits for ring time that has run ahead. It returns the first violation of an invariant.
func (w *World) Calm(ms int64) error {
	return w.live(ms, func(end int64) {
		w.faults.end()
		w.seen.calm = w.chain.head.Time()
		w.team.last()
		w.until(end)
		w.Stats.Quiet = ms
		if w.wrong == nil {
			w.seen.rested()
		}
	})
}

// Rest goes on without faults and commits, ms. It returns the first violation of an invariant.
func (w *World) Rest(ms int64) error {
	return w.live(ms, func(end int64) {
		w.until(end)
		w.Stats.Quiet += ms
	})
}

func (w *World) live(ms int64, do func(end int64)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("at %s, entry %d: panic: %v\n%s", Clock(w.wall()), len(w.chain.log), p, debug.Stack())
		}
		w.Stats.Entries = len(w.chain.log)
	}()
	do(w.now + ms*millisecond)
	return w.wrong
}

// begin has a ring whose nodes have all joined.
func (w *World) begin() {
	w.chain = newChain(w)
	for _, m := range w.nodes {
		m.log = w.chain.founding()
		m.synced = len(m.log)
		m.on = true
		m.start()
	}
	w.topology()
	w.team.begin()
}

// until lives through events up to a true time.
func (w *World) until(end int64) {
	for w.wrong == nil {
		e, ok := w.events.pop(end)
		if !ok {
			break
		}
		w.now = max(w.now, e.at)
		w.Stats.Events++
		if n := e.n; n != nil {
			if !n.alive || n.boot != e.boot {
				continue
			}
			if n.frozen {
				n.held = append(n.held, e)
				continue
			}
		}
		e.fn()
	}
	w.now = max(w.now, end)
}

// violated notes the first violation of an invariant.
func (w *World) violated(id, format string, args ...any) {
	if w.wrong == nil {
		w.wrong = fmt.Errorf("at %s, entry %d: %s: %s", Clock(w.wall()), len(w.chain.log), id, fmt.Sprintf(format, args...))
	}
}

// note tells the story.
func (w *World) note(format string, args ...any) {
	if w.Story != nil {
		fmt.Fprintf(w.Story, "%s %s\n", Clock(w.wall()), fmt.Sprintf(format, args...))
	}
}

// wall is the true time of day, ms since 1970.
func (w *World) wall() int64 { return Epoch + w.now/millisecond }

// after runs fn later, whatever becomes of the nodes.
func (w *World) after(wait int64, fn func()) { w.events.push(event{at: w.now + wait, fn: fn}) }

// between is from lo up to hi.
func (w *World) between(lo, hi int64) int64 { return lo + w.rng.Int64N(hi-lo+1) }

// chance is true in n of 1000 cases.
func (w *World) chance(n int) bool { return w.rng.IntN(1000) < n }

// find returns a node by its id.
func (w *World) find(id place.NodeID) *machine {
	return w.byID[id]
}
