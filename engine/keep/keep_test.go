package keep_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/keep"
	"github.com/shoal-dev/shoal/engine/place"
)

// play has a Keeper of n1 look, at times of its clock; what it says is applied unless apply is false.
type play struct {
	r     *enginetest.Ring
	k     *keep.Keeper
	alive map[place.NodeID]bool
	heard map[place.NodeID]int64
	ahead map[place.NodeID]int64
	apply bool
}

func (p *play) look(term uint64, now int64) string {
	inputs, wait := p.k.Look(keep.Facts{
		State: p.r.State, Term: term, Alive: p.alive, Heard: p.heard, Ahead: p.ahead, Now: now, Wall: enginetest.Epoch + now,
		Up: func() *cluster.NodeUp { return enginetest.Node(1) },
	})
	var said []string
	for _, in := range inputs {
		word := strings.ReplaceAll(in.String(), "00000000000000", "")
		if in.NodeDown != nil {
			word += fmt.Sprintf(" fenced %v term %d", in.NodeDown.Fenced, in.NodeDown.Term)
		}
		said = append(said, word)
		if p.apply {
			p.r.Now = enginetest.Epoch + now
			p.r.Step(in)
			p.k.Taken(in)
		}
	}
	return fmt.Sprintf("%s; again after %d", strings.Join(said, ", "), wait)
}

// Whoever begins to lead says so, and grants leases once that is applied.
func TestLead(t *testing.T) {
	p := &play{r: enginetest.NewRing(t), k: keep.New(enginetest.Node(1).ID), apply: true}
	p.r.Up(2)
	n1, n2 := enginetest.Node(1).ID, enginetest.Node(2).ID
	p.alive = map[place.NodeID]bool{n1: true, n2: true}
	is := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	granted := func(term uint64, now int64) string { return fmt.Sprint(p.k.Received(n2, term, now)) }
	is("follows", p.look(0, 1000), "; again after 3600000")
	is("follows", granted(0, 1000), "false")
	p.apply = false
	is("leads", p.look(4, 2000), "lead in term 4; again after 3600000")
	is("it is not applied", granted(4, 2000), "false")
	p.apply = true
	is("still", p.look(4, 3000), "lead in term 4; again after 3600000")
	is("not looked at", granted(4, 3000), "false")
	is("applied", p.look(4, 4000), "; again after 5000")
	is("of another term", granted(3, 5000), "false")
	is("granted", granted(4, 5000), "true")
	is("leads again, in another term", p.look(6, 6000), "lead in term 6; again after 3600000")
	is("leads again", granted(4, 6000), "false")
	is("all leases begin whole", p.look(6, 13_000), "; again after 5000")
	p.apply = false
	is("n2 has not renewed", p.look(6, 21_800), "node down 02 fenced false term 6, node down 02 fenced true term 6; again after 5000")
	is("its end is on its way", fmt.Sprint(p.k.MayAcknowledge(n2)), "false")
	p.apply = true
	is("it is said again", p.look(6, 22_000), "node down 02 fenced false term 6, node down 02 fenced true term 6; again after 5000")
	is("its end is applied", fmt.Sprint(p.k.MayAcknowledge(n2)), "true")
	is("leads no more", p.look(0, 23_000), "; again after 3600000")
	is("leads no more", fmt.Sprint(p.k.MayAcknowledge(n2)), "false")
}

// A ring of one says nothing, but that it knows a newer engine; and so does one of an older engine of who leads it.
func TestEngines(t *testing.T) {
	p := &play{r: enginetest.NewRing(t), k: keep.New(enginetest.Node(1).ID), alive: map[place.NodeID]bool{enginetest.Node(2).ID: true}}
	p.r.Up(1)
	if got := p.look(1, 1000); got != "; again after 3600000" {
		t.Errorf("alone: %s", got)
	}
	old := &enginetest.Ring{T: t, State: cluster.NewState(), Content: enginetest.Store{}, Now: enginetest.Epoch}
	g := enginetest.Genesis()
	g.Engine = 3
	old.Must(cluster.Input{Genesis: g})
	old.Up(1)
	up := enginetest.Node(2)
	up.Engine = 3
	old.Must(cluster.Input{NodeUp: up})
	p.r, p.k = old, keep.New(enginetest.Node(1).ID)
	if got := p.look(2, 1000); got != "; again after 8800" {
		t.Errorf("engine 3: %s", got)
	}
	if !p.k.Received(up.ID, 2, 1000) {
		t.Error("engine 3: it grants no leases")
	}
	p.apply = true
	old.Must(cluster.Input{NodeUp: enginetest.Node(2)})
	if got := p.look(2, 2000); got != "set engine; again after 7800" {
		t.Errorf("all know the new one: %s", got)
	}
	if got := p.look(2, 3000); got != "lead in term 2; again after 6800" || !p.k.Received(up.ID, 2, 3000) {
		t.Errorf("engine %d: %s", cluster.EngineVersion, got)
	}
}

// A node that the gossip condemns is not lost while it answers the leader itself.
func TestHeard(t *testing.T) {
	p := &play{r: enginetest.NewRing(t), k: keep.New(enginetest.Node(1).ID), apply: true}
	p.r.Up(2)
	n2 := enginetest.Node(2).ID
	p.alive = map[place.NodeID]bool{n2: true}
	p.look(2, 1000)
	p.look(2, 2000)
	p.alive[n2] = false
	for _, step := range []struct {
		at, heard int64
		want      string
	}{
		{3000, 2990, "; again after 990"},
		{4000, 3970, "; again after 970"},
		{4969, 3970, "; again after 1"},
		{4970, 3970, "node down 02 fenced false term 2; again after 5000"},
	} {
		p.heard = map[place.NodeID]int64{n2: step.heard}
		if got := p.look(2, step.at); got != step.want {
			t.Errorf("at %d: %s, want %s", step.at, got, step.want)
		}
	}
}

// TestFault_J3 has clocks be wrong for a moment, and for long: the leader says so once, when it is certain, and again when
// they are right; of clocks that are not known, and near the limit, nothing is said. A ring of one has no wrong clock.
func TestFault_J3(t *testing.T) {
	p := &play{r: enginetest.NewRing(t), k: keep.New(enginetest.Node(1).ID), apply: true}
	p.r.Up(3)
	n1, n2, n3 := enginetest.Node(1).ID, enginetest.Node(2).ID, enginetest.Node(3).ID
	p.alive = map[place.NodeID]bool{n1: true, n2: true, n3: true}
	p.look(4, 1000)
	at := int64(1000)
	for i, step := range []struct {
		wait int64    // since the step before, ms
		of   [3]int64 // by how much they are ahead, s; 1000: not known
		said string
	}{
		{1000, [3]int64{0, 29, -30}, ""},
		{1000, [3]int64{0, 300, -30}, ""},
		{3000, [3]int64{0, 300, 0}, ""},
		{1000, [3]int64{0, 0, 0}, ""}, // it was set right
		{1000, [3]int64{0, 300, 0}, ""},
		{5000, [3]int64{0, 300, -31}, "clock is off on 02"},
		{4000, [3]int64{0, 300, -31}, ""},
		{1000, [3]int64{0, 300, -31}, "clock is off on 03"},
		{9000, [3]int64{0, 3600, 1000}, ""},
		{1000, [3]int64{0, 20, -9}, ""},
		{9000, [3]int64{0, 9, -9}, ""},
		{6000, [3]int64{0, 9, -9}, "clock is right on 03"},
		{5000, [3]int64{0, 11, 0}, ""},
		{9000, [3]int64{0, 1000, 0}, ""},
		{9000, [3]int64{0, 0, 0}, ""},
		{15000, [3]int64{0, 0, 0}, "clock is right on 02"},
		{9000, [3]int64{0, 0, 0}, ""},
	} {
		at += step.wait
		p.ahead = map[place.NodeID]int64{}
		for n, seconds := range step.of {
			if id := []place.NodeID{n1, n2, n3}[n]; seconds != 1000 {
				p.ahead[id] = seconds * 1000
			}
		}
		p.k.Received(n2, 4, at)
		p.k.Received(n3, 4, at)
		if said, _, _ := strings.Cut(p.look(4, at), ";"); said != step.said {
			t.Errorf("step %d: said %q, want %q", i, said, step.said)
		}
	}
	for id, want := range map[place.NodeID]string{n2: "[]", n3: "[]"} {
		if n, _ := p.r.State.Nodes().Get(id); fmt.Sprint(n.Taints) != want || n.ClockAhead != 0 {
			t.Errorf("%s: %v %d", n.Name, n.Taints, n.ClockAhead)
		}
	}
	if out := p.r.Step(cluster.Input{Clock: &cluster.Clock{ID: n2, Ahead: 300_000, Term: 3}}); !strings.Contains(out.Rejected, "a leader of term 3") {
		t.Errorf("by a leader of before: %q", out.Rejected)
	}
	p.r.Must(cluster.Input{Clock: &cluster.Clock{ID: n1, Ahead: 300_000, Term: 4}})
	p.r.Must(cluster.Input{Leave: &cluster.Leave{ID: n2}})
	p.r.Must(cluster.Input{Leave: &cluster.Leave{ID: n3}})
	if said, _, _ := strings.Cut(p.look(4, at+100), ";"); said != "clock is right on 01" {
		t.Errorf("alone: %q", said)
	}
}
