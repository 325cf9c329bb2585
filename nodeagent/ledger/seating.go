package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

const (
	// seatPause is how long changes of the state are gathered before the leader looks who should vote.
	seatPause = 250 * time.Millisecond
	// joinPatience is how long a member that Options.Wanted never named may be on its way into the ring.
	joinPatience = 20 * time.Second
	// catchUp is how many entries of raft's log a node may be behind, with the last ones under way, to become a voter.
	catchUp = 512
	// answered is for how many heartbeats' times a node is there by its own answer. It is asked every third.
	answered = 5
	// clockLimit is how far the leader's clock may be off the voters' median, and clockPause how long a leader that is
	// off and was elected again keeps its seat.
	clockLimit = 5 * time.Second
	clockPause = time.Minute
)

// seating is what the leader remembers of who should vote.
type seating struct {
	term     uint64
	down     map[place.NodeID]time.Time // since when it was not heard of
	unwanted map[place.NodeID]time.Time // since when it is not wanted
	listed   map[place.NodeID]bool      // was wanted once
	yielded  time.Time                  // for its clock
	slowed   time.Time                  // for its disk
}

// keepSeats lets the leader decide who gets the log and who votes, one change after the other. It sleeps where there
// is nothing but this node. (hashicorp/raft-autopilot is not used: it asks every server for its figures over calls of
// its own, each few seconds, on a ring of one too; it knows nothing of odd numbers; and its sweep of dead servers would
// have to be kept from working.)
func (l *Ledger[S, O]) keepSeats(ctx context.Context, changes <-chan struct{}) {
	var mem seating
	timer := time.NewTimer(0)
	defer timer.Stop()
	for waiting := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			if !waiting {
				timer.Reset(seatPause)
				waiting = true
			}
			continue
		case <-timer.C:
		}
		wait := l.seatOne(ctx, &mem)
		if waiting = wait > 0; waiting {
			timer.Reset(wait)
		}
	}
}

// seatOne makes the next change, if there is one, and returns when to look again; 0 is when something changed.
func (l *Ledger[S, O]) seatOne(ctx context.Context, mem *seating) time.Duration {
	lead, leads := l.Leadership()
	if !leads {
		return 0
	}
	now := time.Now()
	if mem.term != lead.Term {
		*mem = seating{
			term: lead.Term, yielded: mem.yielded, slowed: mem.slowed,
			down: map[place.NodeID]time.Time{}, unwanted: map[place.NodeID]time.Time{}, listed: map[place.NodeID]bool{},
		}
	}
	seats := l.look(lead.Term, mem, now)
	if len(seats) < 2 {
		return 0
	}
	l.hasten() // asks each where it stands, for the next look
	every := 3 * l.opt.Heartbeat
	if l.opt.ClockOff != nil && now.Sub(mem.yielded) > clockPause {
		if off, known := l.opt.ClockOff(); known && off.Abs() > clockLimit && len(l.successors()) > 0 {
			mem.yielded = now
			l.opt.Log.Warn("leader's clock is off the voters' median, leadership is handed over", "off", off)
			return l.moved(l.StepDown(ctx), every)
		}
	}
	if long, slow := l.disk.pace.slow(); slow && now.Sub(mem.slowed) > slowPause && len(l.successors()) > 0 {
		mem.slowed = now
		l.opt.Log.Warn("leader's disk is slow, leadership is handed over", "write", long)
		return l.moved(l.StepDown(ctx), every)
	}
	what, node := nextMove(seats)
	if what == opNone {
		return every
	}
	ctx, cancel := context.WithTimeout(ctx, reconfigurePatience)
	defer cancel()
	l.opt.Log.Info("members of the ledger change", "op", string(what), "node", string(node))
	return l.moved(l.move(ctx, what, node), every)
}

// moved returns when to look again after a change was tried.
func (l *Ledger[S, O]) moved(err error, every time.Duration) time.Duration {
	if err != nil {
		l.opt.Log.Info("members of the ledger did not change, will retry", "err", err)
		return every
	}
	l.changed()
	return time.Millisecond
}

func (l *Ledger[S, O]) move(ctx context.Context, what op, node place.NodeID) error {
	id, at := raft.ServerID(node), raft.ServerAddress(node)
	switch what {
	case opAdd:
		return l.AddMember(ctx, node)
	case opPromote:
		return l.reconfigure(ctx, l.raft.AddVoter(id, at, 0, reconfigurePatience))
	case opDemote:
		return l.reconfigure(ctx, l.raft.DemoteVoter(id, 0, reconfigurePatience))
	case opRemove:
		return l.RemoveMember(ctx, node)
	case opYield:
		return l.StepDown(ctx)
	}
	return fmt.Errorf("no such change of members: %q", what)
}

// look returns the seats of all members and of all that are wanted.
func (l *Ledger[S, O]) look(term uint64, mem *seating, now time.Time) []seat {
	byNode := map[place.NodeID]*seat{}
	of := func(n place.NodeID) *seat {
		if byNode[n] == nil {
			byNode[n] = &seat{node: n, self: n == l.opt.Node}
		}
		return byNode[n]
	}
	for _, s := range l.servers() {
		m := of(place.NodeID(s.ID))
		m.member, m.voter = true, s.Suffrage == raft.Voter
		m.wanted = l.opt.Wanted == nil
	}
	if l.opt.Wanted != nil {
		for _, n := range l.opt.Wanted() {
			of(n).wanted = true
			mem.listed[n] = true
		}
	}
	var alive map[place.NodeID]bool
	if l.opt.Alive != nil && len(byNode) > 1 {
		alive = l.opt.Alive()
	}
	var seats []seat
	for n, s := range byNode {
		heard, has := l.known(term, n)
		up, told := alive[n]
		silent := now.Sub(heard)
		fresh := silent < 10*l.opt.Heartbeat
		if silent < answered*l.opt.Heartbeat { // whatever the gossip says: any member may say anything there
			up = true
		}
		s.ready = s.self || fresh && has && (up || !told)
		s.lost = !s.self && since(mem.down, n, !fresh || told && !up, now) > 10*l.opt.Heartbeat
		away := since(mem.unwanted, n, !s.wanted, now)
		s.yields = l.yields(n, now)
		s.gone = !s.wanted && (mem.listed[n] || away > l.opt.joinPatience)
		seats = append(seats, *s)
	}
	return seats
}

// since notes whether something holds of a node, and returns for how long it has.
func since(m map[place.NodeID]time.Time, n place.NodeID, holds bool, now time.Time) time.Duration {
	if !holds {
		delete(m, n)
		return 0
	}
	if m[n].IsZero() {
		m[n] = now
	}
	return now.Sub(m[n])
}

// known is when a follower was heard of last, and whether it has what is committed.
func (l *Ledger[S, O]) known(term uint64, node place.NodeID) (heard time.Time, has bool) {
	l.followers.mu.Lock()
	defer l.followers.mu.Unlock()
	f := l.followers.ofLocked(term, raft.ServerID(node))
	return f.heard, f.has > 0 && f.has+catchUp >= l.followers.last.index
}
