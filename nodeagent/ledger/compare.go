package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

// The nodes compare their states: after every thousandth entry each says in the log which hash its state had there, and
// each counts what it reads. The log gives all of them the same words in the same order. A node whose state differs from
// that of most voters halts: it applies nothing more, does not lead and does not vote, and says so; what runs on it
// stays. Such an entry is none of the numbered ones, and a ring of one writes none.
//
//	format  1 byte, 3
//	node    uvarint length, bytes
//	entry   uvarint, the number of the entry behind which the state was so
//	hash    32 bytes

const (
	hashFormat   = 3
	compareEvery = 1000 // entries
	keepCompared = 4    // comparisons that are remembered
)

// ErrDiverged says that this node's state differs from that of most voters.
var ErrDiverged = errors.New("the state of this node differs from that of most voters")

// said is what one node says of its state.
type said struct {
	node  place.NodeID
	entry uint64
	hash  [32]byte
}

func encodeSaid(s said) []byte {
	b := binary.AppendUvarint([]byte{hashFormat}, uint64(len(s.node)))
	b = binary.AppendUvarint(append(b, s.node...), s.entry)
	return append(b, s.hash[:]...)
}

// decodeSaid is the opposite of encodeSaid; false if b is something else.
func decodeSaid(b []byte) (said, bool) {
	if len(b) == 0 || b[0] != hashFormat {
		return said{}, false
	}
	node, b, ok := cutString(b[1:])
	entry, n := binary.Uvarint(b)
	if !ok || n <= 0 || len(b)-n != 32 {
		return said{}, false
	}
	return said{place.NodeID(node), entry, [32]byte(b[n:])}, true
}

// comparison is what was said of the latest entries.
type comparison struct {
	mu   sync.Mutex // guards below
	by   map[uint64]map[place.NodeID][32]byte
	own  map[uint64][32]byte
	last said // the newest of our own, to be told
	told uint64
}

// note remembers what a node said, and forgets the oldest.
func (c *comparison) note(s said) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[uint64]map[place.NodeID][32]byte{}
	}
	if c.by[s.entry] == nil {
		c.by[s.entry] = map[place.NodeID][32]byte{}
	}
	c.by[s.entry][s.node] = s.hash
	trim(c.by)
}

// noteOwn remembers this node's hash, and that it is to be told.
func (c *comparison) noteOwn(s said) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil {
		c.own = map[uint64][32]byte{}
	}
	c.own[s.entry] = s.hash
	c.last = s
	trim(c.own)
}

func trim[V any](m map[uint64]V) {
	if len(m) > keepCompared {
		delete(m, slices.Min(slices.Collect(maps.Keys(m))))
	}
}

// differs says whether most of the voters had another state than this node behind the entry.
func (c *comparison) differs(entry uint64, voters []place.NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, known := c.own[entry]
	if !known {
		return false
	}
	count := map[[32]byte]int{}
	for _, v := range voters {
		if h, ok := c.by[entry][v]; ok {
			count[h]++
		}
	}
	for h, n := range count {
		if h != own && 2*n > len(voters) {
			return true
		}
	}
	return false
}

// untold returns what this node has to say, once.
func (c *comparison) untold() (said, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last.entry <= c.told {
		return said{}, false
	}
	c.told = c.last.entry
	return c.last, true
}

// heard counts what a node said in the log.
func (l *Ledger[S, O]) heard(s said) {
	l.compared.note(s)
	l.judge(s.entry)
}

// judge halts this node if most voters say that it is wrong.
func (l *Ledger[S, O]) judge(entry uint64) {
	var voters []place.NodeID
	for _, s := range l.servers() {
		if s.Suffrage == raft.Voter {
			voters = append(voters, place.NodeID(s.ID))
		}
	}
	if l.compared.differs(entry, voters) {
		l.halt.Do(func() {
			l.opt.Log.Error("this node's state differs from that of most voters: it takes no part any more, and is to be replaced", "index", entry)
			close(l.halted)
		})
	}
}

// compareAt notes the hash of the state behind an entry that all nodes compare. The state's lock is held.
func (l *Ledger[S, O]) compareAt(entry uint64) {
	if entry%l.opt.compareEvery != 0 || len(l.servers()) < 2 {
		return
	}
	l.compared.noteOwn(said{l.opt.Node, entry, l.state.Hash()})
	l.judge(entry)
}

// speak puts what this node has to say into the log. If that fails it has nothing to say before the next comparison.
func (l *Ledger[S, O]) speak(ctx context.Context, changes <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
		s, ok := l.compared.untold()
		if !ok {
			continue
		}
		if err := l.say(ctx, encodeSaid(s)); err != nil {
			l.opt.Log.Debug("state of this node not compared", "index", s.entry, "err", err)
		}
	}
}

func (l *Ledger[S, O]) say(ctx context.Context, raw []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 10*l.opt.Heartbeat)
	defer cancel()
	leader, known := l.Leader()
	switch {
	case !known:
		return ErrNotLeader
	case leader == l.opt.Node:
		return l.propose(ctx, [][]byte{raw})
	case l.opt.Forward == nil:
		return fmt.Errorf("node %s leads: %w", leader, ErrNotLeader)
	}
	return l.opt.Forward(ctx, leader, [][]byte{raw})
}
