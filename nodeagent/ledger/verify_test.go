package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// Many who ask at once share the rounds to the voters; each round begins after the question.
func TestRoundsAreShared(t *testing.T) {
	var q rounds
	var asked atomic.Int32
	first, answer := make(chan struct{}), make(chan struct{})
	ask := func() (uint64, uint64, error) {
		if asked.Add(1) == 1 {
			close(first)
		}
		<-answer
		return uint64(asked.Load()), 0, nil
	}
	one := q.join(ask)
	<-first
	var later []*round
	for range 100 {
		later = append(later, q.join(ask))
	}
	close(answer)
	<-one.done
	for _, r := range later {
		<-r.done
		if r == one || r.term != 2 {
			t.Fatalf("asked during round 1, answered by round %d", r.term)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("%d rounds, want 2", asked.Load())
	}
	if r := q.join(ask); r.done == later[0].done {
		t.Error("an old answer to a new question")
	}
}

func TestVerify(t *testing.T) {
	l := openToy(t, toyOptions(t.TempDir()))
	mustAppend(t, l, ref("a", "", "1"))
	lead, leads := l.Leadership()
	if term, index, err := l.Verify(t.Context()); err != nil || !leads || term != lead.Term || index != 2 {
		t.Errorf("a ring of one: term %d, entry %d, %v; leadership %+v %t", term, index, err, lead, leads)
	}
	r := threeVoters(t, nil)
	mustAppend(t, r.node("n2"), ref("a", "", "1"))
	leader := r.leader()
	term, index, err := r.node(leader).Verify(t.Context())
	if err != nil || term != r.node(leader).Term() || index != r.node(leader).Applied() {
		t.Errorf("term %d, entry %d, %v\n%s", term, index, err, r)
	}
	for _, n := range without(three, leader) {
		if _, _, err := r.node(n).Verify(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("node %s, which follows: %v", n, err)
		}
	}
}

// Who has no vote proves nothing: raft's own VerifyLeader counts it.
func TestVerifyCountsVotersAlone(t *testing.T) {
	names := []place.NodeID{"n1", "n2", "n3", "n4"}
	r := newTestRing(t, names...)
	r.begin(names...)
	r.vote("n1", "n2", "n3")
	r.await("three voters", func() bool { return members(r.node("n1")) == "n1* n2* n3* n4" })
	l := r.node("n1")
	term, _, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	for _, n := range []place.NodeID{"n2", "n3"} {
		r.cuts[[2]place.NodeID{"n1", n}] = true
		r.cuts[[2]place.NodeID{n, "n1"}] = true
	}
	r.wire()
	r.mu.Unlock()
	if err := l.majority(t.Context(), term); !errors.Is(err, ErrNotLeader) {
		t.Errorf("with nobody but a non-voter: %v", err)
	}
}

// A forwarded input costs about one round more than one on the leader, and is applied on its own node when Append
// returns.
func BenchmarkAppendForwarded(b *testing.B) {
	for _, from := range []place.NodeID{"n1", "n2"} {
		b.Run(map[place.NodeID]string{"n1": "leader", "n2": "follower"}[from], func(b *testing.B) {
			r := threeVoters(b, func(_ place.NodeID, o *Options[*toy, string]) { o.Machine.Step = stepFast })
			if r.leader() != "n1" {
				b.Skip("another node was elected")
			}
			n := 0
			for b.Loop() {
				n++
				mustAppend(b, r.node(from), ref("a", "", fmt.Sprint(n)))
			}
		})
	}
}

// BenchmarkElection is how long nothing is committed after the leader was killed.
func BenchmarkElection(b *testing.B) {
	r := threeVoters(b, often)
	var worst time.Duration
	for b.Loop() {
		leader := r.leader()
		began := time.Now()
		r.kill(leader)
		ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
		if _, err := r.node(without(three, leader)[0]).Append(ctx, ref(fmt.Sprint(began.UnixNano()), "", "x")); err != nil {
			b.Fatal(err)
		}
		cancel()
		worst = max(worst, time.Since(began))
		b.StopTimer()
		r.open(leader)
		r.agree(three...)
		b.StartTimer()
	}
	b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
}
