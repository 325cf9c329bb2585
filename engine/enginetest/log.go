package enginetest

import (
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// The model of the replicated log: raft with terms, votes, pre-votes, a leader's lease, and a disk under each node that
// takes its time. Messages for heartbeats are not sent: whether a leader and a follower reach each other is known
// whenever that changes, and then the time-outs begin.

// batch is one entry of raft's log: inputs of one node that come into the log together, or the nothing with which a
// leader begins.
type batch struct {
	term   uint64
	inputs []stamped
}

// stamped is an input with the clock of the leader that took it.
type stamped struct {
	time int64
	in   cluster.Input
}

type role int

const (
	follower role = iota
	candidate
	leader
)

// member is a node's part in the log.
type member struct {
	// On disk. Of the log the first synced entries are certain to survive a power loss.
	term   uint64
	voted  int // for whom in that term, number+1; 0: for nobody
	log    []*batch
	synced int

	role    role
	chief   *machine // who leads, as far as is known
	commit  int      // entries of raft's log that are known to be committed, and applied
	ready   bool     // a leader that has applied all before its term
	first   int      // its first entry
	votes   uint32   // who has voted for it
	waiting []proposal
	peers   []peer // by number, of a leader
	missed  bool   // a time-out runs
	round   *round // of Verify
	asked   []func(bool)
}

// peer is how far a leader knows another member to be.
type peer struct {
	next, match, told int
	busy              bool
}

// proposal is a batch that waits for its commit.
type proposal struct {
	index int
	term  uint64
	done  func(err error)
}

func (m *machine) votesHere() bool { return m.n < m.w.voters }
func (m *machine) majority() int   { return m.w.voters/2 + 1 }

// leads tells whether the node leads and has applied all before its term.
func (m *machine) leads() bool { return m.role == leader && m.ready }

// propose puts a batch into the log of a leader; done is told once it is committed, or nobody here can know.
func (m *machine) propose(inputs []cluster.Input, done func(error)) {
	if m.role != leader {
		done(errNotSent)
		return
	}
	b := &batch{term: m.term}
	for _, in := range inputs {
		b.inputs = append(b.inputs, stamped{m.ringClock(), in})
	}
	m.waiting = append(m.waiting, proposal{len(m.log) + 1, m.term, done})
	m.put(b)
}

func (m *machine) put(b *batch) {
	m.log = append(m.log, b)
	at := len(m.log)
	m.after(m.fsync(), func() {
		if at <= len(m.log) && m.log[at-1] == b {
			m.synced = max(m.synced, at)
			m.advance()
		}
	})
	if m.w.Plant == EarlyAcknowledge {
		m.committed(at)
	}
	for _, o := range m.w.nodes[:m.w.voters] {
		m.replicate(o)
	}
}

// advance commits what a majority has on disk, if it is of this leader's term.
func (m *machine) advance() {
	if m.role != leader {
		return
	}
	have := make([]int, 0, 8)
	for _, o := range m.w.nodes[:m.w.voters] {
		if o == m {
			have = append(have, m.synced)
		} else {
			have = append(have, m.peers[o.n].match)
		}
	}
	slices.Sort(have)
	if at := have[len(have)-m.majority()]; at > m.commit && m.log[at-1].term == m.term {
		m.committed(at)
	}
}

// committed is what a leader does with what it holds for committed.
func (m *machine) committed(to int) {
	for i := m.commit + 1; i <= to; i++ {
		m.w.chain.commit(i, m.log[i-1])
		if m.w.wrong != nil {
			return
		}
	}
	m.apply(to)
	if m.role != leader {
		return
	}
	if !m.ready && m.commit >= m.first {
		m.ready = true
		m.roleChanged()
	}
	for len(m.waiting) > 0 && m.waiting[0].index <= m.commit {
		p := m.waiting[0]
		m.waiting = m.waiting[1:]
		p.done(nil)
	}
	m.replicateAll()
}

// reconnect sends again what may have been lost with a connection.
func (m *machine) reconnect() {
	for i := range m.peers {
		m.peers[i].busy, m.peers[i].told = false, 0
	}
	m.replicateAll()
}

func (m *machine) replicateAll() {
	for _, o := range m.w.nodes {
		if m.role == leader {
			m.replicate(o)
		}
	}
}

// replicate sends a member what it lacks. Who does not vote gets what is committed.
func (m *machine) replicate(o *machine) {
	if o == m || m.role != leader || !m.w.reaches(m, o) || !o.alive {
		return
	}
	p := &m.peers[o.n]
	to := len(m.log)
	if !o.votesHere() {
		to = m.commit
	}
	if p.busy || p.match >= to && p.told >= min(m.commit, p.match) && p.told > 0 {
		return
	}
	p.busy = p.next <= to || p.match == 0
	from := p.next
	entries := slices.Clone(m.log[from-1 : max(to, from-1)])
	var before uint64
	if from > 1 {
		before = m.log[from-2].term
	}
	term, commit := m.term, m.commit
	p.told = commit
	if !p.busy {
		m.w.stream(m, o, func() { o.append(m, term, from, before, nil, commit, nil) })
		return
	}
	m.w.stream(m, o, func() {
		o.append(m, term, from, before, entries, commit, func(match int) {
			m.w.stream(o, m, func() { m.answered(o, term, match) })
		})
	})
}

// append takes entries of a leader; done is told how much of the log is the leader's, negative where it must look
// further back, once that is on disk.
func (m *machine) append(l *machine, term uint64, from int, before uint64, entries []*batch, commit int, done func(match int)) {
	if term < m.term {
		if done != nil {
			done(-1 << 40)
		}
		return
	}
	m.follow(term, l)
	if from > len(m.log)+1 || from > 1 && m.log[from-2].term != before {
		if done != nil {
			done(-min(len(m.log), from-2) - 1)
		}
		return
	}
	for i, b := range entries {
		at := from + i
		if at <= len(m.log) {
			if m.log[at-1] == b {
				continue
			}
			if at <= m.commit {
				m.w.violated("I4", "node %s is to forget entry %d of raft's log, which it has applied", m.up.Name, at)
				return
			}
			m.log = slices.Clone(m.log[:at-1])
			m.synced = min(m.synced, at-1)
		}
		m.log = append(m.log, b)
	}
	match := from + len(entries) - 1
	finish := func() {
		if m.term != term {
			return
		}
		m.apply(min(commit, match))
		if done != nil {
			done(match)
		}
	}
	if m.synced >= match || m.w.Plant == NoSync {
		finish()
		return
	}
	m.after(m.fsync(), func() {
		if match <= len(m.log) && m.term == term {
			m.synced = max(m.synced, match)
		}
		finish()
	})
}

// answered is what a member says that it has.
func (m *machine) answered(o *machine, term uint64, match int) {
	if m.role != leader || m.term != term {
		return
	}
	p := &m.peers[o.n]
	p.busy = false
	if match == -1<<40 { // it knows a newer term
		m.follow(o.term, nil)
		return
	}
	if match < 0 {
		p.next = max(1, -match-1)
		p.told = 0
		m.replicate(o)
		return
	}
	if match > p.match {
		p.match = match
	}
	p.next = max(p.next, match+1)
	m.advance()
	m.replicate(o)
}

// fsync is how long a disk takes.
func (m *machine) fsync() int64 {
	d := m.w.between(300, 3000)
	if slow := m.slow + m.w.Weather.Disk*millisecond; slow > 0 {
		d += m.w.between(0, slow)
	}
	return d
}
