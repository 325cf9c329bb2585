package enginetest

import (
	"maps"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/keep"
	"github.com/shoal-dev/shoal/engine/lease"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/plan"
)

// A node's lease, the leader's grants of leases, and the guard: the true lease.Holder and keep.Keeper, driven by the
// machine's own clock.

// resume goes on with the lease of the agent before, by what the guard was told.
func (m *machine) resume() {
	m.holder = lease.Holder{}
	if m.killAt > 1 {
		if m.w.Plant == Forgetful {
			m.holder.Acknowledged(m.killAt-lease.KillAfter, m.clock(), 0)
		} else {
			m.holder.Resumed(m.killAt-lease.KillAfter, m.clock())
		}
	}
	m.watchLease()
}

// renew asks the leader once, and is called again a second later.
func (m *machine) renew() {
	m.after(m.until(m.clock()+lease.RenewEvery)-millisecond, m.renew)
	sent := m.clock()
	l := m.chief
	if l == nil {
		return
	}
	if m.renewQuietly(l, sent) {
		return
	}
	m.w.send(m, l, func() {
		l.grant(m, func(index uint64) {
			m.w.send(l, m, func() {
				if now := m.clock(); now-sent <= lease.RenewEvery || m.w.Plant == LateCount {
					if m.w.Plant == LateCount {
						sent = now
					}
					m.acknowledged(sent, now, index)
				}
			})
		})
	})
}

// renewQuietly does in one step what takes a millisecond or some, where nothing stands in the way: the node and a majority
// reach the leader, no message is lost or late, and nothing breaks meanwhile.
func (m *machine) renewQuietly(l *machine, sent int64) bool {
	w := m.w
	if w.faults.near() || w.net.loss > 0 || w.net.delay > 0 || w.Plant != NoPlant || !l.there() || !l.leads() || !w.reaches(m, l) || !l.supported() {
		return false
	}
	there := w.now + w.between(80, 900)
	if !l.keeper.Received(m.id, l.term, l.clockAt(there)) || !l.keeper.MayAcknowledge(m.id) {
		return false
	}
	back := there + w.between(200, 2500)
	m.acknowledged(sent, m.clockAt(back), l.index)
	return true
}

// grant is the leader's end of a renewal.
func (m *machine) grant(o *machine, yes func(index uint64)) {
	if !m.leads() || !m.keeper.Received(o.id, m.term, m.clock()) {
		return
	}
	answer := func(confirmed bool) {
		may := m.keeper.MayAcknowledge(o.id)
		if m.w.Plant == EagerGrant {
			may = true
		}
		if confirmed && may {
			yes(m.index)
		}
	}
	if m.w.Plant == NoVerify {
		answer(true)
		return
	}
	m.verify(answer)
}

// acknowledged takes a renewal that was granted, and tells the guard.
func (m *machine) acknowledged(sent, now int64, index uint64) {
	was := m.holder.Phase(now)
	if was != lease.Held {
		m.w.note("%s: its lease begins anew, entry %d is to be applied first", m.up.Name, index)
	}
	m.holder.Acknowledged(sent, now, index)
	m.killAt = max(m.holder.KillAt(now), 1)
	m.guard()
	if m.holder.Phase(now) != was || was != lease.Held {
		m.lookAtPods()
	}
	m.watchLease()
}

// watchLease has the agent look when the lease comes into its next phase. One timer is enough, as the end moves only
// back.
func (m *machine) watchLease() {
	if m.renewing {
		return
	}
	next := m.holder.Next(m.clock())
	if next == 0 {
		return
	}
	m.renewing = true
	m.after(m.until(next), func() {
		m.renewing = false
		if phase := m.holder.Phase(m.clock()); phase != lease.Held {
			m.w.note("%s: its lease is %s", m.up.Name, phase)
			m.lookAtPods()
		}
		m.watchLease()
	})
}

// allowed is what may be done under the lease.
func (m *machine) allowed() plan.Lease {
	now := m.clock()
	p := plan.Lease{NoStart: !m.holder.MayStart(now, m.index)}
	if m.w.Plant == StartAtOnce {
		p.NoStart = m.holder.Phase(now) != lease.Held
	}
	if m.holder.Phase(now) != lease.Held {
		p.Stop = true
		if at := m.holder.KillAt(now); at > now {
			p.Grace = (at - now) / 1000
		}
	}
	return p
}

// lookAtRing has the keeper look soon.
func (m *machine) lookAtRing() {
	if m.keeping {
		m.again = true
		return
	}
	if m.looking {
		return
	}
	m.looking = true
	m.after(m.w.between(50, 2*millisecond), m.keep)
}

// keep is a look of the keeper: it appends what is to be said, one after the other, and looks again later.
func (m *machine) keep() {
	m.looking = false
	if m.keeping {
		m.again = true
		return
	}
	m.keepLook++
	alive := m.sees
	if m.role != leader {
		alive = nil
	}
	now := m.clock()
	if m.w.Plant == NotWhole && m.leads() && !m.keeper.Received(m.id, m.term, 0) {
		now -= lease.OverAfter
	}
	term := uint64(0)
	if m.leads() {
		term = m.term
		m.ledIn, m.ledAt = m.term, m.w.now
	}
	if m.w.Plant == LastWords && term == 0 && m.w.now < m.ledAt+20*second {
		term = m.ledIn
	}
	inputs, wait := m.keeper.Look(keep.Facts{
		State: m.state, Term: term, Alive: alive, Heard: m.heard(now), Now: now, Wall: m.wall(), Ahead: m.ahead(),
		Up: func() *cluster.NodeUp { up := *m.up; up.Labels = maps.Clone(up.Labels); return &up },
	})
	m.say(inputs, wait)
}

// heard is who has answered this node itself: most answers are fresh, some are so late that the gossip's word counts.
func (m *machine) heard(now int64) map[place.NodeID]int64 {
	heard := map[place.NodeID]int64{}
	for _, o := range m.w.nodes {
		if o != m && o.there() && m.w.reaches(m, o) {
			heard[o.id] = now - m.w.between(0, 1500)
		}
	}
	return heard
}

// ahead is how far the clocks of the nodes that renew with this one are ahead of the median of the voters'.
func (m *machine) ahead() map[place.NodeID]int64 {
	if m.role != leader {
		return nil
	}
	var voters []int64
	ahead := map[place.NodeID]int64{}
	for i, o := range m.w.nodes {
		if o != m && (!o.there() || !m.w.reaches(o, m)) {
			continue
		}
		ahead[o.id] = o.skew
		if i < m.w.voters {
			voters = append(voters, o.skew)
		}
	}
	if 2*len(voters) <= m.w.voters {
		return nil
	}
	slices.Sort(voters)
	for id := range ahead {
		ahead[id] -= voters[len(voters)/2]
	}
	return ahead
}

// say appends the keeper's entries, and waits for each for 5 s at most.
func (m *machine) say(inputs []cluster.Input, wait int64) {
	if len(inputs) == 0 {
		m.keeping = false
		if m.again {
			m.again = false
			m.lookAtRing()
			return
		}
		look := m.keepLook
		m.after(m.until(m.clock()+wait), func() {
			if look == m.keepLook {
				m.lookAtRing()
			}
		})
		return
	}
	m.keeping = true
	in := inputs[0]
	if m.w.Plant == NoProof && in.NodeDown != nil {
		m.submit(in, nil)
		in = cluster.Input{NodeDown: &cluster.NodeDown{ID: in.NodeDown.ID, Fenced: true, Term: in.NodeDown.Term}}
	}
	over, leave := false, func() {}
	next := func(taken bool) {
		if over {
			return
		}
		over = true
		if !taken {
			wait = min(wait, keep.Pause)
		}
		m.say(inputs[1:], wait)
	}
	m.after(5*second, func() {
		if !over {
			over = true
			leave()
			if m.w.Plant == LastWords { // and it goes on to say what it had decided then
				m.say(inputs[1:], wait)
				return
			}
			m.say(nil, min(wait, keep.Pause))
		}
	})
	leave = m.submit(in, func(out cluster.Outcome) {
		m.keeper.Taken(in)
		next(out.Rejected == "")
	})
}

// guard kills what may run once when the lease is over, whatever becomes of the agent. It looks whenever it was told
// another time, and then.
func (m *machine) guard() {
	if m.guarding || m.w.Plant == NoGuard {
		return
	}
	m.guarding = true
	m.outside(m.until(m.killAt), func() {
		m.guarding = false
		if m.clock() < m.killAt {
			m.guard()
			return
		}
		m.outside(m.w.between(0, 100*millisecond), func() {
			if m.clock() < m.killAt {
				m.guard()
				return
			}
			m.killFenced()
		})
	})
}
