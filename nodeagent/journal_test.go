package nodeagent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// newTestJournal has a clock that goes on by a second an event.
func newTestJournal() *Journal {
	at := time.Unix(0, 0).UTC()
	return &Journal{now: func() time.Time { at = at.Add(time.Second); return at }}
}

func (j *Journal) text(object string) string {
	var lines []string
	for _, e := range j.Events(object) {
		lines = append(lines, fmt.Sprintf("%d %s %s %s x%d", e.Time.Unix(), e.Object, e.Reason, e.Message, e.Count))
	}
	return strings.Join(lines, "\n")
}

// What happens again is counted and is news; what happened long before is not counted, and the oldest goes first.
func TestJournal(t *testing.T) {
	j := newTestJournal()
	add := func(object, message string) { j.Add(Event{Object: object, Reason: "R", Message: message}) }
	add("Pod a", "x")
	add("Pod b", "x")
	add("Pod a", "x")
	add("Pod a", "y")
	add("Pod a", "x")
	expect(t, "all", j.text(""), "2 Pod b R x x1\n4 Pod a R y x1\n5 Pod a R x x3")
	expect(t, "of one", j.text("Pod a"), "4 Pod a R y x1\n5 Pod a R x x3")
	expect(t, "of none", j.text("Pod"), "")

	for i := range 50 {
		add("Pod c", fmt.Sprint(i))
	}
	add("Pod a", "x")
	expect(t, "long after", j.text("Pod a"), "4 Pod a R y x1\n5 Pod a R x x3\n56 Pod a R x x1")
	add("Pod c", "1")
	if e := j.Events("Pod c"); len(e) != 50 || e[49].Count != 2 {
		t.Errorf("the fiftieth from the end is counted on: %+v", e[len(e)-1])
	}

	for i := range 2 * journalEvents {
		add("Pod d", fmt.Sprint(i))
		if n := len(j.events); n > journalEvents {
			t.Fatalf("%d events are kept", n)
		}
	}
	all := j.Events("")
	if last := all[len(all)-1]; len(all) < journalEvents*8/10 || last.Message != fmt.Sprint(2*journalEvents-1) || all[0].Object != "Pod d" {
		t.Errorf("%d events from %+v to %+v", len(all), all[0], last)
	}
}

// What was done to a pod is noted in kubectl's manner; steps that only prepare others are not.
func TestJournalOfActions(t *testing.T) {
	j := newTestJournal()
	p := &plan.Pod{Pod: control.Pod{Namespace: "dev", Name: "web"}}
	for _, op := range []plan.Op{plan.Pull, plan.Sandbox, plan.Relink, plan.Refresh, plan.Start, plan.Stop, plan.Remove, plan.Teardown} {
		a := plan.Action{Op: op, Why: "because"}
		if op == plan.Start || op == plan.Stop {
			a.Container = "app"
		}
		j.did(p, a)
	}
	expect(t, "journal", j.text("Pod dev/web"), `1 Pod dev/web Pulled because x1
2 Pod dev/web Sandbox because x1
3 Pod dev/web Repaired because x1
4 Pod dev/web Started container app: because x1
5 Pod dev/web Stopped container app: because x1
6 Pod dev/web Removed because x1`)
}
