package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// seatsOf reads seats from words: the leader is in brackets; * votes, + is ready, ! is lost, - is not wanted, -- is gone
// for good, ? is no member yet, ~ is about to leave.
func seatsOf(text string) (seats []seat) {
	for w := range strings.FieldsSeq(text) {
		s := seat{wanted: true, member: true}
		s.self = strings.Contains(w, "[")
		w = strings.Trim(strings.Replace(w, "]", "", 1), "[")
		s.voter, s.ready, s.lost = strings.Contains(w, "*"), strings.Contains(w, "+") || s.self, strings.Contains(w, "!")
		s.wanted, s.gone, s.member = !strings.Contains(w, "-"), strings.Contains(w, "--"), !strings.Contains(w, "?")
		s.yields = strings.Contains(w, "~")
		s.node = place.NodeID(w[:1])
		seats = append(seats, s)
	}
	return seats
}

func TestNextMove(t *testing.T) {
	for _, test := range []struct{ name, seats, want string }{
		{"one", "[a*]", ""},
		{"nothing is known", "[a*]- b+-", ""},
		{"two are one voter", "[a*] b+", ""},
		{"a node that comes", "[a*] b+ c?", "add c"},
		{"two voters would be worse than one", "[a*] b+ c", ""},
		{"to three", "[a*] b+ c+", "promote b"},
		{"on the way to three", "[a*] b*+ c+", "promote c"},
		{"stuck on the way to three", "[a*] b*+ c", "demote b"},
		{"three", "[a*] b*+ c*+", ""},
		{"four are three", "[a*] b*+ c*+ d+", ""},
		{"to five", "[a*] b*+ c*+ d+ e+", "promote d"},
		{"six are five", "[a*] b*+ c*+ d*+ e*+ f+", ""},
		{"seven are five", "[a*] b*+ c*+ d*+ e*+ f+ g+", ""},
		{"a lost voter, nobody to succeed", "[a*] b*+ c*!", ""},
		{"a lost voter, a successor that is behind", "[a*] b*+ c*! d", ""},
		{"a lost voter, a successor", "[a*] b*+ c*! d+", "promote d"},
		{"its seat is free", "[a*] b*+ c*! d*+", "demote c"},
		{"it came back", "[a*] b*+ c+ d*+", ""},
		{"one of three left", "[a*] b*+ c*+--", "demote c"},
		{"two are one voter again", "[a*] b*+ c+--", "demote b"},
		{"who left is removed", "[a*] b+ c+--", "remove c"},
		{"who is on its way in is not", "[a*] b+ c+-", ""},
		{"the leader left, a successor comes first", "[a*]-- b*+ c*+ d+", "promote d"},
		{"then it hands over", "[a*]-- b*+ c*+ d*+", "yield "},
		{"the new leader takes its seat", "a*+-- [b*] c*+ d*+", "demote a"},
		{"the leader of two left", "[a*]-- b+", "promote b"},
		{"and hands over", "[a*]-- b*+", "yield "},
		{"to nobody that is lost", "[a*]-- b*!", "demote b"},
		{"the only voter of two is about to leave", "[a*]~ b+", "promote b"},
		{"it hands over", "[a*]~ b*+", "yield "},
		{"it gives up its seat", "a*+~ [b*]", "demote a"},
		{"it waits for its leave as a member", "a+~ [b*]", ""},
		{"its successor is not there", "[a*]~ b", ""},
		{"a voter of three is about to leave", "[a*] b*+~ c*+", "demote b"},
		{"then two are one voter", "[a*] b+~ c*+", "demote c"},
		{"a voter of four is about to leave", "[a*] b*+~ c*+ d+", "promote d"},
		{"and makes room", "[a*] b*+~ c*+ d*+", "demote b"},
		{"the last two want to leave at once", "[a*]~ b*+~ c*+~", ""},
		{"too many voters: the lost one goes first", "[a*] b*! c*+", ""},
		{"shrink to three", "[a*] b*+ c*+ d*+-- e*!", "demote d"},
		{"shrink on", "[a*] b*+ c*+ d+-- e*!", "demote e"},
	} {
		what, node := nextMove(seatsOf(test.seats))
		got := ""
		if what != opNone {
			got = fmt.Sprintf("%s %s", what, node)
		}
		if got != test.want {
			t.Errorf("%s (%s): %q, want %q", test.name, test.seats, got, test.want)
		}
	}
}

// seated opens a ring whose nodes know who is wanted, and says who failed.
func seated(t *testing.T, names ...place.NodeID) *testRing {
	r := newTestRing(t, names...)
	r.edit = func(_ place.NodeID, o *Options[*toy, string]) {
		o.joinPatience, o.Heartbeat = time.Second, 150*time.Millisecond
		o.Wanted = func() (in []place.NodeID) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, n := range names {
				if !r.left[n] {
					in = append(in, n)
				}
			}
			return in
		}
		o.Alive = func() map[place.NodeID]bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			up := map[place.NodeID]bool{}
			for n := range r.nodes {
				up[n] = !r.down[n]
			}
			return up
		}
	}
	return r
}

func (r *testRing) join(names ...place.NodeID) {
	for _, n := range names {
		r.open(n)
		r.mu.Lock()
		delete(r.left, n)
		r.mu.Unlock()
	}
	for _, n := range r.up() {
		r.node(n).changed()
	}
}

// become waits until the leader has these members.
func (r *testRing) become(want string) {
	r.t.Helper()
	began := time.Now()
	r.await("members "+want, func() bool { return members(r.node(r.leader())) == want })
	r.t.Logf("%s after %v", want, time.Since(began).Round(time.Millisecond))
}

// The voters follow who belongs to the ring and who is there, while inputs flow.
func TestVotersFollowTheRing(t *testing.T) {
	t.Parallel()
	r := seated(t, "n1", "n2", "n3", "n4", "n5", "n6")
	edit := r.edit
	r.edit = func(n place.NodeID, o *Options[*toy, string]) { edit(n, o); often(n, o) }
	r.open("n1")
	r.join("n2")
	r.become("n1* n2")
	r.join("n3")
	r.become("n1* n2* n3*")
	c := r.clients(1, "n2", "n3")
	r.join("n4")
	r.become("n1* n2* n3* n4")
	r.set(r.down, "n2", true)
	r.cut("n2", true)
	r.become("n1* n2 n3* n4*")
	r.join("n5", "n6")
	r.become("n1* n2 n3* n4* n5* n6*")
	r.cut("n2", false)
	r.set(r.down, "n2", false)
	r.set(r.left, "n6", true)
	r.become("n1* n2* n3* n4* n5*")
	r.set(r.left, "n1", true) // who leads
	r.await("the node that left to be no member", func() bool {
		got := members(r.node(r.leader()))
		return !strings.Contains(got, "n1") && strings.Count(got, "*") == 3
	})
	r.set(r.left, "n1", false) // it comes again
	r.become("n1* n2* n3* n4* n5*")
	c.progress()
	c.end("n1", "n2", "n3", "n4", "n5")
}

func (r *testRing) set(m map[place.NodeID]bool, n place.NodeID, v bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m[n] = v
}

// TestFault_L12 adds, removes and replaces members while the ring is split and members crash in the middle of it: one
// change at a time, and every node ends with the same members and the same state.
func TestFault_L12(t *testing.T) {
	t.Parallel()
	r := seated(t, "n1", "n2", "n3", "n4")
	edit := r.edit
	r.edit = func(n place.NodeID, o *Options[*toy, string]) { edit(n, o); often(n, o) }
	r.open("n1")
	r.join("n2", "n3")
	r.become("n1* n2* n3*")
	c := r.clients(1, three...)
	r.cut("n3", true)
	r.set(r.down, "n3", true)
	r.join("n4")
	for range 4 { // whoever leads crashes somewhere in the replacement
		leader := r.leader()
		r.kill(leader)
		time.Sleep(time.Duration(len(r.up())*100) * time.Millisecond)
		r.open(leader)
		c.progress()
	}
	r.become("n1* n2* n3 n4*")
	r.cut("n3", false)
	r.set(r.down, "n3", false)
	r.set(r.left, "n2", true)
	r.become("n1* n3* n4*")
	r.set(r.left, "n2", false)
	r.become("n1* n2 n3* n4*")
	c.progress()
	c.end("n1", "n2", "n3", "n4")
	for _, n := range r.up() {
		if got := members(r.node(n)); got != "n1* n2 n3* n4*" {
			t.Errorf("node %s knows the members %s", n, got)
		}
	}
}

// A leader that is told that its clock is off hands over.
func TestLeaderWhoseClockIsOffYields(t *testing.T) {
	r := threeVoters(t, func(n place.NodeID, o *Options[*toy, string]) {
		o.ClockOff = func() (time.Duration, bool) {
			return map[place.NodeID]time.Duration{"n1": -6 * time.Second, "n2": 4 * time.Second}[n], n != "n3"
		}
	})
	r.await("another leader", func() bool { return r.leader() != "n1" })
}

// An announced stop of the leader costs no election time-out.
func TestStepDown(t *testing.T) {
	r := threeVoters(t, often)
	c := r.clients(2, three...)
	for range 5 {
		c.progress()
		leader := r.leader()
		began := time.Now()
		if err := r.node(leader).StepDown(t.Context()); err != nil {
			t.Fatal(err)
		}
		handed := time.Since(began)
		c.progress()
		t.Logf("%s handed over after %v, went on after %v", leader, handed, time.Since(began))
		if r.node(leader).Leading() {
			t.Errorf("%s leads still", leader)
		}
		r.kill(leader)
		r.open(leader)
	}
	c.end(three...)
	l := openToy(t, toyOptions(t.TempDir()))
	if err := l.StepDown(t.Context()); err != nil || !l.Leading() {
		t.Errorf("a ring of one: %v, leading %t", err, l.Leading())
	}
}

// The only voter of two, and later a voter of three, gives up its seat before it leaves; who said that it leaves and does
// not is a voter again.
func TestYieldBeforeLeaving(t *testing.T) {
	t.Parallel()
	r := seated(t, "n1", "n2", "n3")
	r.mu.Lock()
	r.left["n3"] = true
	r.mu.Unlock()
	r.open("n1")
	r.join("n2")
	r.become("n1* n2")
	yields := func(name place.NodeID) {
		t.Helper()
		r.await(string(name)+" gives up its seat", func() bool {
			leader := r.node(r.leader())
			leader.Yield(name, 2*time.Second)
			for _, m := range leader.Members() {
				if m.ID == name && m.Voter {
					return false
				}
			}
			return r.leader() != name
		})
	}
	yields("n1")
	r.become("n1 n2*")
	r.mu.Lock()
	delete(r.left, "n3")
	r.mu.Unlock()
	r.join("n3")
	r.become("n1* n2* n3*") // it did not leave after all
	yields("n2")
	r.agree("n1", "n2", "n3")
}
