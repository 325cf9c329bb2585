package cluster

import (
	"cmp"
	"errors"
	"slices"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

const (
	// RebalanceSince is the engine version from which pods are moved when that is asked for.
	RebalanceSince = 7
	// maxMoves is how many pods are on their way at a time.
	maxMoves = 64
	// moveTakes is how long pods may be on their way before it is given up, ms.
	moveTakes = 600_000
)

// Rebalancing is a rebalance that goes on. It goes in rounds: pods of different workloads are told to leave their nodes as
// by a drain, one of each, and when all of them have come to their new places, the next. It is over with a round that finds
// none to move. As each move has a gain (place.Gain), there is such a round.
type Rebalancing struct {
	Since int64           `json:"since"`          // ring time, ms
	Until int64           `json:"until"`          // ring time at which it is given up, ms
	Moved int             `json:"moved"`          // pods that were told to leave
	Pods  []control.PodID `json:"pods,omitempty"` // those of this round
	Keys  []desired.Key   `json:"keys,omitempty"` // and their owners, which must be whole again
}

// rebalancing stands for the rebalance among the objects whose rules are to be run.
var rebalancing = desired.Key{Kind: "Rebalance"}

// rebalance begins one, or ends the one that goes on.
func (t *tx) rebalance(in *Rebalance) error {
	ring, _ := t.s.Ring()
	switch {
	case in.Off && ring.Rebalance == nil:
		return errors.New("rebalance: none goes on")
	case in.Off:
		t.endRebalance(ring.Rebalance)
		return nil
	case ring.Rebalance != nil:
		return errors.New("rebalance: one goes on already")
	}
	t.setRebalance(&Rebalancing{Since: t.now, Until: t.now + moveTakes})
	t.balance = true
	return nil
}

func (t *tx) setRebalance(b *Rebalancing) {
	ring, _ := t.s.Ring()
	now := *ring
	now.Rebalance = b
	t.s.ring.set(&t.s, &now)
}

// endRebalance lets the pods stay that have not been told to stop yet: their substitutes are too many then.
func (t *tx) endRebalance(b *Rebalancing) {
	t.setRebalance(nil)
	t.wake(rebalancing, 0)
	for _, id := range b.Pods {
		p, there := t.s.pods.Get(id)
		if !there || p.Moving == "" || p.Deleting != 0 {
			continue
		}
		now := *p
		now.Moving = ""
		if n, ok := t.s.nodes.Get(p.Node); !ok || !n.Draining {
			now.Leaving = 0
		}
		t.s.pods.set(&t.s, &now)
		t.concern(&now)
	}
}

// runRebalance takes it further: it tells one more pod of this round to leave, and is asked again once the rules have made
// its substitute.
func (t *tx) runRebalance() {
	t.balance = false
	ring, _ := t.s.Ring()
	b := ring.Rebalance
	switch {
	case b == nil:
		return
	case t.round == nil && t.moving(b) && t.now >= b.Until:
		t.endRebalance(b)
		return
	case t.round == nil && t.moving(b):
		t.wake(rebalancing, b.Until)
		return
	case t.round == nil:
		t.round = t.newRound()
		b = &Rebalancing{Since: b.Since, Until: t.now + moveTakes, Moved: b.Moved}
	}
	if p, why := t.round.next(t, b); p != nil {
		now := *p
		now.Leaving, now.Moving = max(t.now, 1), why
		t.s.pods.set(&t.s, &now)
		t.concern(&now)
		more := *b
		more.Moved++
		more.Pods, more.Keys = append(slices.Clone(b.Pods), p.ID), append(slices.Clone(b.Keys), p.Owner.Key)
		t.setRebalance(&more)
		t.balance = true
		return
	}
	t.round = nil
	if len(b.Pods) == 0 {
		t.endRebalance(b)
		return
	}
	t.wake(rebalancing, b.Until)
}

// moving tells whether pods of a round are on their way. One whose node was lost is not waited for.
func (t *tx) moving(b *Rebalancing) bool {
	for i, id := range b.Pods {
		p, there := t.s.pods.Get(id)
		if there && p.Moving != "" && p.Lost == 0 || !t.isWhole(b.Keys[i]) {
			return true
		}
	}
	return false
}

// isWhole tells whether all pods of an owner are there and available, and none is on its way. An owner that is gone
// is nobody to wait for.
func (t *tx) isWhole(k desired.Key) bool {
	if k.Kind == "Pod" {
		p, there := t.s.PodNamed(k.Namespace, k.Name)
		_, wanted := t.s.objects.Get(k)
		return !wanted || there && p.IsReady() && p.Leaving == 0
	}
	rs, there := t.s.replicasets.Get(k)
	if !there {
		return true
	}
	if rs.Available < rs.Replicas {
		return false
	}
	for p := range t.s.PodsOf(rs.UID) {
		if p.Deleting != 0 || p.Leaving != 0 || p.Lost != 0 {
			return false
		}
	}
	return true
}

// round is one round at work.
type round struct {
	after *place.Board // the nodes as they will be once all that is on its way has come
	pods  []control.PodID
	busy  map[string]bool // owners of which no pod is to leave in this round
	once  bool            // one that may run once only has left: its successor is placed when nothing else has changed
}

// newRound lists the pods that may be moved: the newest first, so that those that have run for long stay.
func (t *tx) newRound() *round {
	r := &round{busy: map[string]bool{}}
	x := t.seated()
	r.after = place.NewBoard(func(yield func(*place.Node) bool) {
		for n := range t.s.nodes.Values() {
			if !yield(&n.Node) {
				return
			}
		}
	})
	var pods []*control.Pod
	for p := range t.s.pods.Values() {
		if seat, ok := x.seats[p.ID]; ok {
			r.after.Add(seat)
		}
		if t.mayMove(p) {
			pods = append(pods, p)
		}
	}
	t.spend(t.s.pods.Len() / 8)
	slices.SortFunc(pods, func(a, b *control.Pod) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, p := range pods {
		r.pods = append(r.pods, p.ID)
	}
	return r
}

// mayMove tells whether a pod is one to be moved, if its workload has nothing else to do: not one that waits for its node,
// nor one of a job, which ends by itself.
func (t *tx) mayMove(p *control.Pod) bool {
	if !p.Active() || p.Node == "" || p.Kept || p.Lost != 0 || p.Leaving != 0 {
		return false
	}
	if p.Named() {
		return p.Owner.Key == p.Source
	}
	return p.Owner.Key.Kind == "ReplicaSet"
}

// next is the next pod that is to leave, and why; nil if there is none in this round.
func (r *round) next(t *tx, b *Rebalancing) (*control.Pod, string) {
	x := t.seated()
	for len(r.pods) > 0 && len(b.Pods) < maxMoves && !r.once {
		p, there := t.s.pods.Get(r.pods[0])
		r.pods = r.pods[1:]
		if !there || !t.mayMove(p) || p.Fenced && len(b.Pods) > 0 || r.isBusy(t, p) {
			continue
		}
		seat := x.seats[p.ID]
		r.after.Remove(seat)
		to, why := r.better(t, p, seat)
		if to == "" {
			r.after.Add(seat)
			continue
		}
		seat.Node = to
		r.after.Add(seat)
		r.busy[t.workload(p)], r.once = true, p.Fenced
		n, _ := t.s.nodes.Get(to)
		return p, "to " + n.Name + ": " + why
	}
	return nil, ""
}

// better is a node on which a pod would clearly be better, and why; "" if there is none. Others find their places as by a
// drain: while it is still there, or if it may run once only, when it is gone.
func (r *round) better(t *tx, p *control.Pod, seat place.Seat) (to place.NodeID, why string) {
	board := t.seated().board
	if p.Fenced {
		board.Remove(seat)
		defer board.Add(seat)
	}
	v := board.Place(seat.Kind, seat.Owner)
	if v.Node == "" || v.Node == p.Node {
		return "", ""
	}
	if n, _ := t.s.nodes.Get(v.Node); !p.HostNet {
		if _, free := t.freeIP(n.PodCIDR); !free {
			return "", ""
		}
	}
	why, gains := r.after.Gain(seat.Kind, seat.Owner, p.Node, v.Node)
	if !gains {
		return "", ""
	}
	return v.Node, why
}

// workload names what a pod is of: pods of one workload leave one after the other.
func (t *tx) workload(p *control.Pod) string {
	if rs, ok := t.s.replicasets.Get(p.Owner.Key); ok && rs.Owner.UID != "" {
		return rs.Owner.UID
	}
	return p.Owner.UID
}

// isBusy tells whether a pod's workload has something else to do: it rolls out, or is not whole.
func (r *round) isBusy(t *tx, p *control.Pod) bool {
	name := t.workload(p)
	busy, known := r.busy[name]
	if known {
		return busy
	}
	busy = !t.isWhole(p.Owner.Key)
	if rs, ok := t.s.replicasets.Get(p.Owner.Key); ok && rs.Owner.UID != "" {
		for other := range t.s.Revisions(rs.Owner.Key) {
			busy = busy || other.Key != rs.Key && (other.Replicas > 0 || other.Pods > 0)
		}
	}
	r.busy[name] = busy
	return busy
}
