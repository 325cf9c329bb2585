package agree_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/agree"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

var commit, older = source.ID(strings.Repeat("c", 40)), source.ID(strings.Repeat("d", 40))

func vote(d string, held ...string) agree.Vote {
	return agree.Vote{Environment: "dev", Commit: commit, D: desired.Digest(strings.Repeat(d, 64)), Held: held}
}

func TestJudge(t *testing.T) {
	const differ = "the voters' renders of it differ: "
	old := vote("a")
	old.Commit = older
	for _, c := range []struct {
		name   string
		voters int
		votes  map[place.NodeID]agree.Vote
		want   string
	}{
		{"nobody has voted", 1, nil, "wait, 0 of 1"},
		{"alone", 1, map[place.NodeID]agree.Vote{"a": vote("a")}, "agreed, 1 of 1"},
		{"a third is not enough", 3, map[place.NodeID]agree.Vote{"a": vote("a")}, "wait, 1 of 3"},
		{"a majority", 3, map[place.NodeID]agree.Vote{"a": vote("a"), "c": vote("a")}, "agreed, 2 of 3"},
		{"half is no majority", 2, map[place.NodeID]agree.Vote{"a": vote("a")}, "wait, 1 of 2"},
		{"who does not vote does not count", 3, map[place.NodeID]agree.Vote{"a": vote("a"), "z": vote("a"), "y": vote("b")}, "wait, 1 of 3"},
		{"of another commit", 3, map[place.NodeID]agree.Vote{"a": vote("a"), "b": old}, "wait, 1 of 3"},
		{"one differs", 3, map[place.NodeID]agree.Vote{"a": vote("a"), "b": vote("b")}, "wait, 1 of 3"},
		{"one differs, a majority agrees", 3, map[place.NodeID]agree.Vote{"a": vote("a"), "b": vote("b"), "c": vote("a")}, "agreed, 2 of 3"},
		{"most differ", 3, map[place.NodeID]agree.Vote{"b": vote("b"), "c": vote("e")}, differ + "aaaaaaaaaaaa on 0 of them, bbbbbbbbbbbb on node b, eeeeeeeeeeee on node c, 0 of 3"},
		{"another app is held back", 2, map[place.NodeID]agree.Vote{"a": vote("a"), "b": vote("a", "web")}, differ + "aaaaaaaaaaaa on 1 of them, aaaaaaaaaaaa on node b, 1 of 2"},
	} {
		v := agree.Judge(vote("a"), []place.NodeID{"a", "b", "c"}[:c.voters], c.votes)
		word := "wait"
		if v.Agreed {
			word = "agreed"
		}
		if v.Mismatch != "" {
			word = v.Mismatch
		}
		if got := fmt.Sprintf("%s, %d of %d", word, v.Same, v.Of); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestBox(t *testing.T) {
	var b agree.Box
	voters := []place.NodeID{"a", "b", "c"}
	b.Cast("a", vote("a"))
	b.Cast("b", vote("b"))
	b.Cast("b", vote("a")) // it has changed its mind: one vote a node
	if v := b.Judge(vote("a"), voters); !v.Agreed || v.Same != 2 {
		t.Errorf("judged %+v", v)
	}
	is := func(when string, c source.ID, want string) {
		t.Helper()
		if d, ok := b.Decided("dev", c); fmt.Sprintf("%v %v", ok, d.Activated) != want {
			t.Errorf("%s: %v %+v, want %s", when, ok, d, want)
		}
	}
	is("nothing is decided", commit, "false false")
	is("no commit", "", "false false")
	b.Decide("dev", commit, agree.Decision{Activated: true})
	is("decided", commit, "true true")
	is("another commit", older, "false false")
	b.Begin("dev", older)
	is("another commit is judged anew", commit, "true true")
	b.Begin("dev", commit)
	is("it is judged anew", commit, "false false")

	b.Decide("dev", commit, agree.Decision{Activated: true})
	for i := range 999 {
		b.Cast("a", agree.Vote{Environment: fmt.Sprintf("pr-%d", i)})
	}
	is("among a thousand", commit, "true true")
	b.Decide("dev", commit, agree.Decision{Activated: true}) // voted on last: kept
	b.Cast("a", agree.Vote{Environment: "one-more"})
	is("one too many", commit, "true true")
	if v := b.Judge(agree.Vote{Environment: "pr-0"}, voters[:1]); v.Same != 0 {
		t.Error("what was voted on first is kept for ever")
	}
}
