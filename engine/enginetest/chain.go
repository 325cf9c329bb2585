package enginetest

import (
	"bytes"
	"fmt"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// chain is what the ring has committed, stepped once for all nodes: who has applied the same entries has the same State,
// and a State costs nothing to share. That a node which steps for itself comes to the same is tried out by those that
// start again (replica).
type chain struct {
	w       *World
	log     []cluster.Entry
	head    *cluster.State
	links   []link   // of each entry
	batches []*batch // as committed
	ends    []uint64 // the last entry of each batch
	dropped int      // links before this one have no State any more
}

// link is one entry that was stepped.
type link struct {
	state   *cluster.State // after it; nil once no node is that far behind
	out     cluster.Outcome
	touched uint32 // nodes whose pods changed, a bit each
	nodes   bool   // the list of nodes changed
	commits bool   // refs or environments changed
}

// keptStates is how many entries back a State is kept. Who is further behind has its own.
const keptStates = 512

// newChain has a ring of which all nodes have come.
func newChain(w *World) *chain {
	c := &chain{w: w, head: cluster.NewState()}
	b := &batch{term: 1}
	genesis := Genesis()
	genesis.Engine = w.mixed.first()
	b.inputs = append(b.inputs, stamped{Epoch, cluster.Input{Genesis: genesis}})
	for _, m := range w.nodes {
		b.inputs = append(b.inputs, stamped{Epoch, cluster.Input{NodeUp: m.up}})
	}
	c.commit(1, b)
	return c
}

func (c *chain) founding() []*batch { return []*batch{c.batches[0]} }

// commit takes a batch of which a leader says that it is committed at an index of raft's log.
func (c *chain) commit(index int, b *batch) {
	switch {
	case index <= len(c.batches):
		if c.batches[index-1] != b {
			c.w.violated("I4", "what was committed at %d of raft's log, in term %d, is not there any more: another was committed there in term %d", index, c.batches[index-1].term, b.term)
		}
		return
	case index != len(c.batches)+1:
		panic(fmt.Sprintf("batch %d is committed before %d", index, len(c.batches)+1))
	}
	c.batches = append(c.batches, b)
	for _, in := range b.inputs {
		c.step(cluster.Entry{Index: uint64(len(c.log)) + 1, Time: in.time, Input: in.in})
	}
	c.ends = append(c.ends, uint64(len(c.log)))
	for c.dropped < len(c.links)-keptStates {
		c.links[c.dropped].state = nil
		c.dropped++
	}
}

// step steps one entry for all, and holds the State to what must be.
func (c *chain) step(e cluster.Entry) {
	w := c.w
	was := c.state(uint64(len(c.log)))
	c.log = append(c.log, e)
	if w.Plant == NoDedupe {
		e.Input.From.Seq = 0
	}
	if d := e.Input.NodeDown; d != nil && w.Plant == LastWords {
		e.Input.NodeDown = &cluster.NodeDown{ID: d.ID, Fenced: d.Fenced, Term: 1 << 60}
	}
	out := cluster.Step(c.head, e, w.Content)
	w.mixed.stepped(w, c.head, e, out)
	if e.Input.Lead != nil && w.Plant == Amnesia {
		var err error
		if c.head, err = amnesia(c.head); err != nil {
			panic(err)
		}
	}
	if w.Story != nil {
		w.note("%s", entryLine(&e, out))
	}
	l := link{out: out, state: c.head.Snapshot()}
	for _, change := range out.Changed {
		switch change.Table {
		case "nodes":
			l.nodes = true
		case "refs", "environments":
			l.commits = true
		}
	}
	l.touched = w.seen.stepped(c.log[len(c.log)-1], out, was, l.state)
	c.links = append(c.links, l)
}

// entryLine is an entry for people.
func entryLine(e *cluster.Entry, out cluster.Outcome) string {
	line := fmt.Sprintf("entry %d of %s %s %d, ring time %s: %s", e.Index, e.Input.From.Node, e.Input.From.Boot, e.Input.From.Seq, Clock(e.Time), e.Input)
	switch {
	case e.Input.NodeDown != nil && e.Input.NodeDown.Fenced:
		line += ", its lease is over"
	case e.Input.Phase != nil && e.Input.Phase.Removed:
		line += " is gone"
	case e.Input.Phase != nil:
		line += " is " + string(e.Input.Phase.Status.Phase)
	}
	switch {
	case out.Duplicate:
		line += " (again)"
	case out.Rejected != "":
		line += " (rejected: " + out.Rejected + ")"
	}
	return line
}

// state is the State after an entry.
func (c *chain) state(index uint64) *cluster.State {
	if index == 0 {
		return cluster.NewState()
	}
	s := c.links[index-1].state
	if s == nil {
		panic(fmt.Sprintf("the State after entry %d is kept no more, the newest is %d", index, len(c.links)))
	}
	return s
}

// end is the last entry of a batch of raft's log.
func (c *chain) end(index int) uint64 {
	if index == 0 {
		return 0
	}
	return c.ends[index-1]
}

// replica is a node that steps for itself for a while: it has started again, from a snapshot.
type replica struct {
	state *cluster.State
	left  int // entries
}

// replicaSteps is how many entries a replica steps.
const replicaSteps = 60

func newReplica(s *cluster.State) (*replica, error) {
	var b bytes.Buffer
	if err := s.Encode(&b); err != nil {
		return nil, err
	}
	state, err := cluster.DecodeState(&b)
	if err != nil {
		return nil, err
	}
	return &replica{state: state, left: replicaSteps}, nil
}

// follow steps what the chain has, up to an entry, and compares.
func (r *replica) follow(c *chain, to uint64, m *machine) error {
	odd := c.w.Plant == OddStep
	for i := r.state.Index(); i < to; i++ {
		e, err := c.w.mixed.read(c.log[i], m.up.Engine)
		if err != nil {
			return err
		}
		if odd && e.Input.Phase != nil {
			e.Time++
		}
		cluster.Step(r.state, e, c.w.Content)
		r.left--
		c.w.Stats.Replayed++
	}
	if s := c.state(to); r.state.Index() == to && r.state.Hash() != s.Hash() {
		return fmt.Errorf("after entry %d it has hash %x, the others have %x", to, r.state.Hash(), s.Hash())
	}
	return nil
}
