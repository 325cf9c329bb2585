package nodeagent

import (
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/plan"
)

// Event is something that happened on this node, for people.
type Event struct {
	Time    time.Time `json:"time"` // of its last occurrence
	Object  string    `json:"object"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int       `json:"count"`
}

// Journal keeps the newest events in memory: journalEvents of them, repeated ones counted. Safe for concurrent use.
type Journal struct {
	mu     sync.Mutex
	events []Event // oldest first
	now    func() time.Time
}

const journalEvents = 2000

// NewJournal makes an empty one.
func NewJournal() *Journal { return &Journal{now: time.Now} }

// Add notes an event. The same object, reason and message as one of the last 50 is counted, not repeated.
func (j *Journal) Add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Time, e.Count = j.now(), 1
	for i := len(j.events) - 1; i >= max(0, len(j.events)-50); i-- {
		if old := j.events[i]; old.Object == e.Object && old.Reason == e.Reason && old.Message == e.Message {
			e.Count += old.Count
			j.events = append(append(j.events[:i:i], j.events[i+1:]...), e)
			return
		}
	}
	if len(j.events) >= journalEvents {
		j.events = append(j.events[:0:0], j.events[journalEvents/10:]...)
	}
	j.events = append(j.events, e)
}

// Events returns the events of an object, or all for "", oldest first.
func (j *Journal) Events(object string) []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Event
	for _, e := range j.events {
		if object == "" || e.Object == object {
			out = append(out, e)
		}
	}
	return out
}

// did notes an action that was carried out.
func (j *Journal) did(p *plan.Pod, s plan.Action) {
	reason := map[plan.Op]string{
		plan.Pull: "Pulled", plan.Sandbox: "Sandbox", plan.Relink: "Repaired", plan.Start: "Started", plan.Stop: "Stopped",
		plan.Release: "Released", plan.Teardown: "Removed",
	}[s.Op]
	if reason == "" {
		return
	}
	message := s.Why
	if s.Container != "" {
		message = "container " + s.Container + ": " + s.Why
	}
	j.Add(Event{Object: "Pod " + p.Namespace + "/" + p.Name, Reason: reason, Message: message})
}
