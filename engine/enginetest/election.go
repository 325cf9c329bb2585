package enginetest

// The model of the log's elections, and of the proof that a node still leads.

// Time-outs, µs, as the ledger has them.
const (
	heartbeatTimeout = 300 * millisecond
	leaderLease      = 300 * millisecond
)

// hears tells whether a follower hears of its leader.
func (m *machine) hears() bool {
	l := m.chief
	return l != nil && (l == m || l.there() && l.role == leader && l.term == m.term && m.w.reaches(l, m))
}

// missing begins time-outs where they are due.
func (m *machine) missing() {
	if m.missed || !m.votesHere() {
		return
	}
	switch {
	case m.role == leader:
		if m.supported() || m.w.Plant == NoVerify {
			return
		}
		m.missed = true
		term := m.term
		m.after(leaderLease, func() {
			m.missed = false
			if m.role == leader && m.term == term && !m.supported() {
				m.stepDown()
			}
		})
	case !m.hears():
		m.missed = true
		m.after(heartbeatTimeout+m.w.between(0, heartbeatTimeout), func() {
			m.missed = false
			if m.role != leader && !m.hears() {
				m.canvass()
			}
		})
	}
}

// supported tells whether a leader reaches a majority that takes it for the leader.
func (m *machine) supported() bool {
	n := 0
	for _, o := range m.w.nodes[:m.w.voters] {
		if o == m || o.there() && o.term <= m.term && m.w.reaches(m, o) {
			n++
		}
	}
	return n >= m.majority()
}

// canvass asks whether an election would do any good, and begins one if a majority thinks so.
func (m *machine) canvass() {
	if m.chief != nil {
		m.chief = nil
		m.roleChanged()
	}
	term, last, lastTerm := m.term, len(m.log), m.lastTerm()
	willing := uint32(1) << m.n
	m.role = candidate
	for _, o := range m.w.nodes[:m.w.voters] {
		if o == m {
			continue
		}
		m.w.send(m, o, func() {
			if o.role == leader || o.hears() || term+1 < o.term || !o.covers(last, lastTerm) {
				return
			}
			m.w.send(o, m, func() {
				if m.role != candidate || m.term != term {
					return
				}
				was := count(willing)
				willing |= 1 << o.n
				if n := count(willing); n > was && n == m.majority() {
					m.stand()
				}
			})
		})
	}
	m.missing() // again, if nothing comes of it
}

func (m *machine) lastTerm() uint64 {
	if len(m.log) == 0 {
		return 0
	}
	return m.log[len(m.log)-1].term
}

// covers tells whether a candidate's log has all that this node's has.
func (m *machine) covers(last int, lastTerm uint64) bool {
	return lastTerm > m.lastTerm() || lastTerm == m.lastTerm() && last >= len(m.log)
}

// stand stands for election.
func (m *machine) stand() {
	m.term++
	m.voted = m.n + 1
	m.votes = 1 << m.n
	term, last, lastTerm := m.term, len(m.log), m.lastTerm()
	m.after(m.fsync(), func() {
		for _, o := range m.w.nodes[:m.w.voters] {
			if o == m || m.term != term {
				continue
			}
			m.w.send(m, o, func() {
				if term < o.term || o.role == leader && o.term == term {
					return
				}
				o.follow(term, nil)
				if o.voted != 0 && o.voted != m.n+1 || !o.covers(last, lastTerm) {
					return
				}
				o.voted = m.n + 1
				o.after(o.fsync(), func() {
					if o.term != term {
						return
					}
					m.w.send(o, m, func() { m.elected(term, o) })
				})
			})
		}
	})
}

// elected counts a vote; with a majority the node leads.
func (m *machine) elected(term uint64, by *machine) {
	if m.term != term || m.role != candidate {
		return
	}
	m.votes |= 1 << by.n
	if count(m.votes) < m.majority() {
		return
	}
	m.w.Stats.Leaders++
	m.w.note("%s leads in term %d", m.up.Name, term)
	m.role, m.chief, m.ready = leader, m, false
	m.peers = make([]peer, len(m.w.nodes))
	for i := range m.peers {
		m.peers[i] = peer{next: len(m.log) + 1}
	}
	m.first = len(m.log) + 1
	m.roleChanged()
	m.put(&batch{term: term})
	m.w.topology()
}

// follow takes a term that is at least as new, and its leader if that is known.
func (m *machine) follow(term uint64, l *machine) {
	if term > m.term {
		m.term, m.voted = term, 0
		if m.role == leader {
			m.stepDown()
		}
		m.role = follower
	}
	if l != nil && (m.chief != l || m.role != follower) {
		m.role, m.chief = follower, l
		m.roleChanged()
	}
}

// stepDown ends a leader's time.
func (m *machine) stepDown() {
	m.w.note("%s leads no more", m.up.Name)
	m.role, m.ready, m.chief, m.round = follower, false, nil, nil
	waiting, asked := m.waiting, m.asked
	m.waiting, m.asked, m.peers = nil, nil, nil
	for _, p := range waiting {
		p.done(errLost)
	}
	for _, f := range asked {
		f(false)
	}
	m.roleChanged()
	m.missing()
}

// round is one proof that a node still leads.
type round struct {
	term uint64
	yes  uint32
	who  []func(bool)
}

// verify has a majority confirm, from now on, that the node leads.
func (m *machine) verify(done func(bool)) {
	if !m.leads() {
		done(false)
		return
	}
	m.asked = append(m.asked, done)
	if m.round == nil {
		m.prove()
	}
}

func (m *machine) prove() {
	r := &round{term: m.term, yes: 1 << m.n, who: m.asked}
	m.round, m.asked = r, nil
	end := func(yes bool) {
		if m.round != r {
			return
		}
		m.round = nil
		for _, f := range r.who {
			f(yes && m.leads() && m.term == r.term)
		}
		if len(m.asked) > 0 && m.leads() {
			m.prove()
		}
	}
	for _, o := range m.w.nodes[:m.w.voters] {
		if o == m {
			continue
		}
		m.w.send(m, o, func() {
			if o.term > r.term {
				return
			}
			m.w.send(o, m, func() {
				if r.yes |= 1 << o.n; count(r.yes) >= m.majority() {
					end(true)
				}
			})
		})
	}
	m.after(heartbeatTimeout, func() { end(false) })
}

func count(bits uint32) (n int) {
	for ; bits != 0; bits &= bits - 1 {
		n++
	}
	return n
}
