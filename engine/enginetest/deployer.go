package enginetest

import (
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/agree"
	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// deployer is what an agent does with commits: it renders those that the ring's refs point to, gives its vote, and if it
// leads activates what a majority of the voters has rendered alike. The true agree.Box decides; how long a render takes,
// and what comes of it, is a model.
type deployer struct {
	box     agree.Box
	working map[string]source.ID // by environment: the commit being worked on
	refused map[string]source.ID // what the ring did not want
	judging map[string]*judging  // on the leader
	waiters []waiter             // on the leader: who waits for a decision
}

// judging is a render of the leader's own that waits for the others.
type judging struct {
	vote agree.Vote
	end  func()
}

type waiter struct {
	environment string
	commit      source.ID
	tell        func(agree.Decision)
}

// agreeFor bounds how long a node waits for the others.
const agreeFor = 20 * second

func (d *deployer) begin(*machine) {
	*d = deployer{working: map[string]source.ID{}, refused: map[string]source.ID{}, judging: map[string]*judging{}}
}

// lookAtCommits works on every environment whose ref has moved.
func (m *machine) lookAtCommits() {
	for _, environment := range environments {
		ref, ok := m.state.Refs().Get(refOf(environment))
		if !ok || m.working[environment] == ref.ID || m.refused[environment] == ref.ID {
			continue
		}
		if active, ok := m.state.Environments().Get(environment); ok && active.Commit == ref.ID {
			continue
		}
		commit := ref.ID
		m.working[environment] = commit
		wait := m.w.between(30*millisecond, 800*millisecond)
		if m.w.faults.on && m.w.chance(30) {
			wait = m.w.between(second, 15*second)
		}
		m.after(wait, func() {
			if m.working[environment] == commit {
				m.rendered(environment, commit)
			}
		})
	}
}

// lookAgain has a commit looked at again that came to nothing.
func (m *machine) lookAgain(environment string, commit source.ID) {
	m.after(m.w.between(second, 4*second), func() {
		if m.working[environment] == commit {
			delete(m.working, environment)
			m.lookAtCommits()
		}
	})
}

// rendered gives the vote of this node, and takes what comes of it.
func (m *machine) rendered(environment string, commit source.ID) {
	w := m.w
	v := agree.Vote{Environment: environment, Commit: commit, D: w.team.render(m, commit)}
	if m.role == leader {
		m.box.Begin(environment, commit)
		m.box.Cast(m.id, v)
		j := &judging{vote: v}
		j.end = func() { m.lookAgain(environment, commit) }
		m.judging[environment] = j
		m.after(agreeFor, func() {
			if m.judging[environment] == j {
				delete(m.judging, environment)
				j.end()
			}
		})
		m.judge(environment)
		return
	}
	l := m.chief
	if l == nil {
		m.lookAgain(environment, commit)
		return
	}
	answered := false
	w.send(m, l, func() {
		l.cast(m, v, func(d agree.Decision) {
			w.send(l, m, func() {
				if answered {
					return
				}
				answered = true
				if !d.Activated || d.D != v.D {
					m.refused[environment] = commit
				}
				if m.working[environment] == commit {
					delete(m.working, environment)
				}
				m.lookAtCommits()
			})
		})
	})
	m.after(agreeFor, func() {
		if !answered {
			answered = true
			m.lookAgain(environment, commit)
		}
	})
}

// cast takes the vote of another node, on the leader.
func (m *machine) cast(from *machine, v agree.Vote, tell func(agree.Decision)) {
	if m.role != leader {
		return
	}
	if active, ok := m.state.Environments().Get(v.Environment); ok && active.Commit == v.Commit {
		tell(agree.Decision{Activated: true, D: active.D})
		return
	}
	m.box.Cast(from.id, v)
	if d, ok := m.box.Decided(v.Environment, v.Commit); ok {
		tell(d)
		return
	}
	m.waiters = append(m.waiters, waiter{v.Environment, v.Commit, tell})
	if n := len(m.waiters); n > 64*len(m.w.nodes) {
		m.w.violated("I8", "%d votes wait for a decision on node %s", n, m.up.Name)
	}
	m.judge(v.Environment)
}

// judge holds the leader's renders to the votes.
func (m *machine) judge(environment string) {
	if m.role != leader {
		m.waiters = nil
		return
	}
	for _, name := range environments {
		j := m.judging[name]
		if j == nil || environment != "" && environment != name {
			continue
		}
		voters := make([]place.NodeID, m.w.voters)
		for i := range voters {
			voters[i] = m.w.nodes[i].id
		}
		v := m.box.Judge(j.vote, voters)
		if m.w.Plant == Minority {
			v.Agreed = v.Same >= 1
		}
		switch {
		case v.Agreed:
			delete(m.judging, name)
			m.activate(j.vote)
		case v.Mismatch != "":
			delete(m.judging, name)
			m.w.Stats.Mismatches++
			m.refused[name] = j.vote.Commit
			delete(m.working, name)
			m.decide(name, j.vote.Commit, agree.Decision{Refused: v.Mismatch})
		}
	}
}

// activate appends what was agreed on.
func (m *machine) activate(v agree.Vote) {
	var previous desired.Digest
	if active, ok := m.state.Environments().Get(v.Environment); ok {
		previous = active.D
	}
	a := &cluster.Activate{Environment: v.Environment, Namespace: v.Environment, Ref: refOf(v.Environment), Commit: v.Commit, Previous: previous, D: v.D}
	if m.up.Engine >= cluster.PromotionSince {
		a.Tree = source.ID(v.D[:40])
	}
	m.submit(cluster.Input{Activate: a}, func(out cluster.Outcome) {
		if out.Rejected != "" {
			m.refused[v.Environment] = v.Commit
		}
		delete(m.working, v.Environment)
		m.decide(v.Environment, v.Commit, agree.Decision{Activated: out.Rejected == "", D: v.D, Refused: out.Rejected})
	})
}

func (m *machine) decide(environment string, commit source.ID, d agree.Decision) {
	m.box.Decide(environment, commit, d)
	m.waiters = slices.DeleteFunc(m.waiters, func(w waiter) bool {
		if w.environment != environment || w.commit != commit {
			return false
		}
		w.tell(d)
		return true
	})
}

func refOf(environment string) string { return "refs/heads/" + environment }

// environments of every World.
var environments = []string{"dev", "prod"}

func commitID(n int) source.ID { return source.ID(fmt.Sprintf("%040x", n)) }
