package enginetest

import (
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/keep"
	"github.com/shoal-dev/shoal/engine/lease"
	"github.com/shoal-dev/shoal/engine/place"
)

// machine is one node: a machine with a disk, clocks and processes, a guard, and an agent that may be there or not.
type machine struct {
	w  *World
	n  int // 0 is n1
	id place.NodeID
	up *cluster.NodeUp

	on      bool    // it has power
	power   int     // counts how often it lost it
	drained bool    // somebody has emptied it
	short   bool    // its disk is
	watched bool    // its disk is looked at
	reports bool    // how its disk is: that is on its way
	halted  bool    // all of it stands still
	alive   bool    // its agent runs, or is frozen
	frozen  bool    // its agent stands still
	boot    int     // counts agents
	held    []event // of a frozen agent, for when it goes on
	paused  []func()

	rate, since int64 // of the clock of this boot of the machine: parts in a million that it is fast, ms at true time 0
	skew        int64 // of the wall clock, ms
	slow        int64 // the disk takes up to so much longer, µs

	member
	outbox outbox
	ring   ringClock

	state *cluster.State // as applied by this agent
	index uint64         // of its last entry
	own   *replica       // nil: it goes by the others' steps

	keeper   *keep.Keeper
	sees     map[place.NodeID]bool // the gossip's hints
	keeping  bool                  // an entry of the keeper is under way
	again    bool                  // the keeper is to look again then
	looking  bool                  // a look of the keeper is to come
	ledIn    uint64                // the last term in which the keeper looked as that of the leader
	ledAt    int64                 // when it did last
	keepLook int                   // counts the keeper's timers
	tickAt   int64                 // no Tick before
	ticking  bool
	tickLook int

	holder   lease.Holder
	killAt   int64 // what the guard knows: by when, on this machine's clock, what may run once is dead; it outlives the agent
	renewing bool

	runner
	deployer
}

var (
	errNotSent = errors.New("not in the log")
	errLost    = errors.New("nobody knows whether it is in the log")
)

func newMachine(w *World, n int) *machine {
	up := Node(n + 1)
	return &machine{
		w: w, n: n, id: up.ID, up: up, runner: runner{procs: map[control.PodID]*proc{}},
		rate: w.between(-10_000, 10_000), since: w.between(1_000, 1_000_000),
	}
}

// after runs fn on this agent later, if it is there then.
func (m *machine) after(wait int64, fn func()) {
	m.w.events.push(event{at: m.w.now + wait, n: m, boot: m.boot, fn: fn})
}

// outside runs fn on this machine later, whatever becomes of its agent; while all of it stands still nothing happens.
func (m *machine) outside(wait int64, fn func()) {
	power := m.power
	m.w.after(wait, func() {
		if m.power != power {
			return
		}
		if m.halted {
			m.paused = append(m.paused, fn)
			return
		}
		fn()
	})
}

// clock is ms of the machine's clock that goes on while it sleeps.
func (m *machine) clock() int64 { return m.clockAt(m.w.now) }

func (m *machine) clockAt(now int64) int64 {
	return m.since + (now+now/millisecond*m.rate/1000)/millisecond
}

// until is how long it is, in true time, until the machine's clock shows at; at least 1 ms.
func (m *machine) until(at int64) int64 {
	return max((at-m.clock())*millisecond*1000/(1000+m.rate/1000)+millisecond, millisecond)
}

// wall is the machine's time of day, ms since 1970.
func (m *machine) wall() int64 { return max(m.w.wall()+m.skew, 1) }

// ringClock is what a node proposes as ring time, as the ledger's clock has it: the wall clock, and where that is behind
// the newest entry, half its pace.
type ringClock struct{ base, at int64 }

func (m *machine) ringClock() int64 { return max(m.wall(), m.slowClock()) }

func (m *machine) slowClock() int64 {
	if m.ring.base == 0 {
		return 0
	}
	return m.ring.base + (m.w.now-m.ring.at)/millisecond/2
}

// start starts an agent: it knows what is on the disk, and finds the processes that there are.
func (m *machine) start() {
	w := m.w
	w.note("%s: its agent starts", m.up.Name)
	m.boot++
	w.mixed.started(m)
	m.alive, m.frozen, m.held = true, false, nil
	m.role, m.chief, m.ready, m.missed = follower, nil, false, false
	m.waiting, m.peers, m.round, m.asked = nil, nil, nil, nil
	m.outbox = outbox{by: map[uint64]*parcel{}}
	m.reports = false
	m.keeping, m.again, m.looking, m.ticking, m.renewing = false, false, false, false, false
	m.tickAt = 0
	m.ring = ringClock{}
	m.keeper = keep.New(m.id)
	m.sees = map[place.NodeID]bool{}
	if m.commit > len(m.log) {
		panic("it knows more to be committed than it has")
	}
	last, at := m.state, m.index
	m.state, m.own = nil, nil
	if m.commit = max(m.commit, 1); last != nil && at == w.chain.end(m.commit) {
		m.state = last
	} else {
		m.take(m.commit)
	}
	if m.index > uint64(len(w.nodes))+1 && (w.chance(50) || w.mixed != nil) {
		own, err := newReplica(m.state)
		if err == nil {
			err = w.mixed.check(m.state)
		}
		if err != nil {
			w.violated("I5", "node %s: a snapshot of its State: %v", m.up.Name, err)
			return
		}
		m.own = own
	}
	m.runner.begin(m)
	m.deployer.begin(m)
	m.resume()
	m.after(w.between(1, lease.RenewEvery*millisecond), m.renew)
	m.lookAtRing()
	m.lookAtPods()
	m.lookAtCommits()
	m.after(w.between(5*second, 10*second), m.refresh)
}

// refresh is the look again that everything gets although nothing was reported.
func (m *machine) refresh() {
	m.lookAtPods()
	m.lookAtCommits()
	m.after(30*second, m.refresh)
	if m.w.Plant == Chatty {
		m.chat()
	}
}

// chat is a bug that is planted.
func (m *machine) chat() {
	for _, id := range m.ids() {
		m.submit(cluster.Input{Phase: &cluster.Phase{Pod: id, Epoch: m.procs[id].pod.Epoch}}, nil)
	}
	m.after(50*millisecond, m.chat)
}

// stop ends the agent; what it started goes on.
func (m *machine) stop() {
	m.w.note("%s: its agent ends", m.up.Name)
	m.alive, m.frozen, m.held = false, false, nil
	m.role, m.chief = follower, nil
	m.boot++
}

// powerOff ends all of it. What was not synced is lost, or a part of it.
func (m *machine) powerOff() {
	m.w.note("%s: power cut", m.up.Name)
	m.on, m.halted, m.paused, m.guarding = false, false, nil, false
	m.power++
	m.stop()
	m.synced = min(m.synced, len(m.log))
	if lost := len(m.log) - m.synced; lost > 0 {
		m.log = m.log[:m.synced+m.w.rng.IntN(lost+1)]
		m.synced = len(m.log)
	}
	m.commit = min(m.commit, m.synced)
	m.killAll()
	m.killAt = 0
	m.since += m.w.between(1_000, 1_000_000) - m.clock() // another boot, another clock
}

// powerOn starts it again; its agent comes after a while.
func (m *machine) powerOn() { m.on = true }

// freeze has the agent stand still, as a stopped process does.
func (m *machine) freeze() {
	m.w.note("%s: its agent stands still", m.up.Name)
	m.frozen = true
}

// thaw has it go on: all that was due meanwhile happens at once, in no order.
func (m *machine) thaw(long bool) {
	m.w.note("%s: its agent goes on", m.up.Name)
	m.frozen = false
	for _, e := range m.held {
		m.w.events.push(event{at: m.w.now + m.w.between(0, 20*millisecond), n: m, boot: m.boot, fn: e.fn})
	}
	m.held = nil
	if m.role == leader && long && m.w.Plant != NoVerify {
		m.after(m.w.between(0, 20*millisecond), func() {
			if m.role == leader {
				m.stepDown()
			}
		})
	}
}

// apply takes over what is known to be committed, up to an entry of raft's log.
func (m *machine) apply(to int) {
	if to <= m.commit || m.w.wrong != nil {
		return
	}
	m.take(to)
}

// take has the State after an entry of raft's log.
func (m *machine) take(to int) {
	w := m.w
	c := w.chain
	from := m.index
	fresh := m.state == nil
	if fresh {
		from = 0
	}
	m.commit = to
	m.index = c.end(to)
	m.state = c.state(m.index)
	if t := m.state.Time(); t > m.slowClock() {
		m.ring = ringClock{t, w.now}
	}
	if m.own != nil {
		if err := m.own.follow(c, m.index, m); err != nil {
			w.violated("I2", "node %s steps to another State: %v", m.up.Name, err)
			return
		}
		if m.own.left <= 0 {
			m.own = nil
		}
	}
	if fresh {
		return
	}
	var pods, nodes, commits bool
	bit := uint32(1) << m.n
	boot := m.bootName()
	for i := from; i < m.index; i++ {
		l := &c.links[i]
		pods = pods || l.touched&bit != 0
		nodes = nodes || l.nodes
		commits = commits || l.commits
		if f := c.log[i].Input.From; f.Node == m.id && f.Boot == boot {
			m.outbox.applied(f.Seq, l.out)
		}
	}
	if pods || m.waits {
		m.lookAtPods()
	}
	if nodes || m.role == leader {
		m.lookAtRing()
	}
	if commits {
		m.lookAtCommits()
	}
	m.lookAtTime()
}

func (m *machine) bootName() string { return fmt.Sprintf("b%d", m.boot) }

// roleChanged is called when the node leads, leads no more, or follows another.
func (m *machine) roleChanged() {
	m.outbox.routed(m)
	m.lookAtRing()
	m.lookAtTime()
	m.judge("")
}

// lookAtTime has the leader append a Tick when the State's own next wake is due, at most four a second.
func (m *machine) lookAtTime() {
	if m.role != leader || m.ticking {
		return
	}
	m.tickLook++
	look := m.tickLook
	wait := 10 * second
	if wake := m.state.Wake(); wake != 0 {
		wait = min(wait, max(wake-m.ringClock(), 0)*millisecond)
	}
	wait = max(wait, m.tickAt-m.w.now, 0)
	m.after(wait, func() {
		if look != m.tickLook || m.role != leader || m.ticking {
			return
		}
		if wake := m.state.Wake(); wake == 0 || wake > m.ringClock() {
			m.lookAtTime()
			return
		}
		if !m.w.pass(beforeRecord, m, nil) {
			return
		}
		m.tickAt = m.w.now + 250*millisecond
		m.ticking = true
		m.submit(cluster.Input{Tick: &cluster.Tick{}}, func(cluster.Outcome) {
			m.ticking = false
			if !m.w.pass(afterRecord, m, nil) {
				return
			}
			m.lookAtTime()
		})
	})
}
