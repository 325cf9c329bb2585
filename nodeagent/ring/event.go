package ring

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/hashicorp/serf/serf"

	"github.com/shoal-dev/shoal/engine/place"
)

// Status is how the ring sees a member.
type Status string

// The states of a member.
const (
	Alive   Status = "alive"
	Leaving Status = "leaving"
	Left    Status = "left"
	Failed  Status = "failed"
)

// Member is one node of the ring.
type Member struct {
	ID      place.NodeID
	Address netip.AddrPort // where it gossips now
	Tags    map[string]string
	Status  Status
}

// Kind is what an Event tells.
type Kind string

// The kinds of events.
const (
	Joined  Kind = "joined"
	Gone    Kind = "left"   // of its own will
	Dead    Kind = "failed" // nobody reaches it
	Updated Kind = "updated"
	Message Kind = "message"
	Twin    Kind = "twin" // two machines claim to be one node: see Twins
	Lost    Kind = "lost" // events were dropped: look at Members

	forgotten Kind = "forgotten" // serf no longer remembers who failed or left long ago
)

// Event is something that happened in the ring.
type Event struct {
	Kind    Kind
	Members []Member // of the first four kinds
	Name    string   // of a Message
	Payload []byte
	Twins   *Twins // of a Twin
}

func (e Event) String() string {
	switch e.Kind {
	case Message:
		return fmt.Sprintf("message %s (%d bytes)", e.Name, len(e.Payload))
	case Lost:
		return "lost"
	case Twin:
		return "twin " + e.Twins.String()
	}
	var s strings.Builder
	s.WriteString(string(e.Kind))
	for _, m := range e.Members {
		s.WriteString(" " + string(m.ID))
	}
	return s.String()
}

func memberOf(m serf.Member) Member {
	addr, _ := netip.AddrFromSlice(m.Addr)
	status := Failed // none, and what serf may add
	switch m.Status {
	case serf.StatusAlive:
		status = Alive
	case serf.StatusLeaving:
		status = Leaving
	case serf.StatusLeft:
		status = Left
	case serf.StatusNone, serf.StatusFailed:
	}
	return Member{ID: place.NodeID(m.Name), Address: netip.AddrPortFrom(addr.Unmap(), m.Port), Tags: m.Tags, Status: status}
}

// eventOf translates serf's event; false if nobody needs to know.
func eventOf(e serf.Event) (Event, bool) {
	switch e := e.(type) {
	case serf.MemberEvent:
		kinds := map[serf.EventType]Kind{
			serf.EventMemberJoin: Joined, serf.EventMemberLeave: Gone,
			serf.EventMemberFailed: Dead, serf.EventMemberUpdate: Updated, serf.EventMemberReap: forgotten,
		}
		kind, ok := kinds[e.Type]
		out := Event{Kind: kind}
		for _, m := range e.Members {
			out.Members = append(out.Members, memberOf(m))
		}
		return out, ok
	case serf.UserEvent:
		return Event{Kind: Message, Name: e.Name, Payload: e.Payload}, true
	}
	return Event{}, false
}

// keepEvents is how many events wait for a slow consumer.
const keepEvents = 256

// events is the queue between serf, which must never wait, and the consumer.
type events struct {
	mu    sync.Mutex // guards queue
	queue []Event
	wake  chan struct{}
	out   chan Event
}

func newEvents() *events {
	return &events{wake: make(chan struct{}, 1), out: make(chan Event)}
}

// put queues e; once too many wait, they all become one Lost.
func (q *events) put(e Event) {
	q.mu.Lock()
	if q.queue = append(q.queue, e); len(q.queue) > keepEvents {
		q.queue = []Event{{Kind: Lost}}
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *events) take() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.queue
	q.queue = nil
	return all
}

// run hands the queue to out until stop is closed, and closes out then.
func (q *events) run(stop <-chan struct{}) {
	defer close(q.out)
	for {
		select {
		case <-stop:
			return
		case <-q.wake:
		}
		for _, e := range q.take() {
			select {
			case q.out <- e:
			case <-stop:
				return
			}
		}
	}
}
