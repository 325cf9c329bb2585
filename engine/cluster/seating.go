package cluster

import (
	"errors"
	"maps"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// seating is the State's nodes and pods as a place.Board. It is no part of the State, from which it follows: it is made
// when a pod is to be placed, kept up to date by the Steps after that, and dropped when the nodes change, when something
// of a Step is taken back, and in snapshots.
type seating struct {
	board   *place.Board
	seats   map[control.PodID]place.Seat
	content desired.Content
}

// seated is the seating, which is made if there is none.
func (t *tx) seated() *seating {
	if t.s.seating == nil {
		t.s.seating = t.s.seat(t.content)
	}
	return t.s.seating
}

// seat makes a seating.
func (s *State) seat(content desired.Content) *seating {
	x := &seating{content: content, seats: map[control.PodID]place.Seat{}}
	x.board = place.NewBoard(func(yield func(*place.Node) bool) {
		for n := range s.nodes.Values() {
			if !yield(&n.Node) {
				return
			}
		}
	})
	for p := range s.pods.Values() {
		x.take(s, p)
	}
	return x
}

// take gives a pod its seat, if it has a node and has not ended.
func (x *seating) take(s *State, p *control.Pod) {
	if p.Node == "" || p.Finished != 0 {
		return
	}
	seat := place.Seat{Node: p.Node, Kind: x.kindOf(s, p), Owner: p.Owner.UID, Leaving: p.Deleting != 0}
	x.board.Add(seat)
	x.seats[p.ID] = seat
}

// reseat follows a change of a pod.
func (s *State) reseat(gone, came **control.Pod) {
	x := s.seating
	if x == nil || gone != nil && came != nil && sameSeat(*gone, *came) {
		return
	}
	if gone != nil {
		if seat, ok := x.seats[(*gone).ID]; ok {
			x.board.Remove(seat)
			delete(x.seats, (*gone).ID)
		}
	}
	if came != nil {
		x.take(s, *came)
	}
}

// sameSeat tells whether a pod that changed sits as it did.
func sameSeat(a, b *control.Pod) bool {
	return a.Node == b.Node && a.Finished == b.Finished && a.Deleting == b.Deleting && a.Owner == b.Owner && a.Object == b.Object && maps.Equal(a.Labels, b.Labels)
}

// kindOf is what decides where a pod may go. Pods of one template share one, and one address.
func (x *seating) kindOf(s *State, p *control.Pod) *place.Kind {
	o, err := s.load(p.Object, x.content)
	if why, ok := errors.AsType[stallError](err); ok {
		panic(stall(why))
	}
	if err != nil || o.template == nil {
		return place.KindOf(place.Pod{Namespace: p.Namespace, Labels: p.Labels, Requests: p.Requests, HostPorts: p.HostPorts})
	}
	key := string(p.Object) + "/" + p.Revision + "/" + p.Index
	if p.Owner.Key.Kind == "Job" {
		key += "/" + p.Owner.UID // which is in its labels
	}
	return s.objectCache.kind(key, func() *place.Kind {
		return place.KindOf(place.Pod{Namespace: p.Namespace, Labels: p.Labels, Spec: &o.template.Spec, Requests: p.Requests, HostPorts: p.HostPorts})
	})
}
