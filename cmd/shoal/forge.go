package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// A ring that follows a forge: two nodes look at it regularly (source.Pollers), and the others take from them what they
// have read, at once when one of them says that there is news, and otherwise by asking one of them each interval. Who has
// heard nothing for three intervals looks for itself.
//
// Which of two nodes has seen the forge later is told by how long ago that was, by the clock of the one that is asked, which
// counts since its machine was started: what time it is has no part in it. The node that asks counts back from when it
// asked, so that what it takes over is never held for newer than it is.

const (
	forgeAgain  = 10 * time.Second // between askings of all nodes, while no poller has an answer
	forgeAsk    = 3 * time.Second  // how long one node may take to answer
	forgeAtOnce = 8                // nodes that are asked at once
)

// forgeSight is what a node has seen of the forge.
type forgeSight struct {
	Ago  *int64       `json:"ago"` // ms since it, or the node it took this from, looked; nil: it never did
	Refs []source.Ref `json:"refs"`

	Claim source.Claim `json:"claim"` // whose the repository is; not read: by a node that does not know claims yet
}

// forgeMirror is the mirror, as a forge needs it.
type forgeMirror interface {
	Refs() []source.Ref
	Claim() source.Claim
	TakeClaim(c source.Claim, at int64) error
	Seen() (begun int64, reads bool)
	Wake()
	Adopt(refs, stand []source.Ref) error
}

// forgeParts are what a forge works with.
type forgeParts struct {
	self     place.NodeID
	ring     string // the order of the pollers depends on it
	interval time.Duration
	mirror   forgeMirror
	others   func() []source.Reader // that are up
	ask      func(ctx context.Context, node place.NodeID) (forgeSight, error)
	take     func(ctx context.Context, node place.NodeID, ids []source.ID) error // brings commits
	tell     func(reads bool) error                                              // says to all whether this node reads the forge
	news     func()                                                              // refs have moved
	claim    func()                                                              // the claim may be another
	now      func() int64                                                        // ms since this machine was started
	log      *slog.Logger
}

// forge keeps this node up with a forge.
type forge struct {
	forgeParts
	wake chan struct{}

	mu    sync.Mutex // guards what follows
	taken int64      // when what was taken from another node was seen, by now; 0: nothing was
	from  place.NodeID
	turn  source.Turn
	hint  place.NodeID // a node that has news; "": none is known
	soon  bool         // another is to be asked although it is not time yet

	round forgeRound
}

// forgeRound is what run keeps from one round to the next.
type forgeRound struct {
	told     bool  // something, and
	reads    bool  // what
	since    int64 // when this node began to poll
	lapsed   int64 // a look that worked, after which this node polled and none did for too long; 0: none is known
	look     int64 // when to look alone; 0: that is not planned
	asked    int64 // a poller
	askedAll int64
}

func newForge(p forgeParts) *forge {
	return &forge{forgeParts: p, wake: make(chan struct{}, 1), turn: source.Turn{Every: p.interval, Polls: true}}
}

// nudge has a round begin.
func (f *forge) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// every is how often the mirror is to look.
func (f *forge) every() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turn.Every
}

// announced notes that a node has news; which one, if it said so.
func (f *forge) announced(node place.NodeID) {
	if node == f.self {
		return
	}
	f.mu.Lock()
	f.hint, f.soon = node, true
	f.mu.Unlock()
	f.nudge()
}

// want has what is new fetched soon, from wherever this node has it.
func (f *forge) want() {
	f.mu.Lock()
	polls := f.turn.Polls
	f.soon = true
	f.mu.Unlock()
	if polls {
		f.mirror.Wake()
		return
	}
	f.nudge()
}

// seen is when the forge was in the state that the mirror has, at the latest, by now, and who looked then: 0 if nobody has.
func (f *forge) seen() (at int64, by place.NodeID) {
	own, _ := f.mirror.Seen()
	f.mu.Lock()
	defer f.mu.Unlock()
	if own >= f.taken {
		return own, f.self
	}
	return f.taken, f.from
}

// standing is when the forge was seen and by whom, as seen has it, and whose turn it is to look.
func (f *forge) standing() (at int64, by place.NodeID, turn source.Turn) {
	at, by = f.seen()
	f.mu.Lock()
	defer f.mu.Unlock()
	return at, by, f.turn
}

// sight is what this node has seen of the forge. The time is read first: the refs are at least as new, and whose the
// repository is is read last: a commit is never told without it.
func (f *forge) sight() forgeSight {
	at, _ := f.seen()
	s := forgeSight{Refs: f.mirror.Refs()}
	s.Claim = f.mirror.Claim()
	if at != 0 {
		ago := max(f.now()-at, 0)
		s.Ago = &ago
	}
	return s
}

// run keeps up until ctx ends. A node that is alone has nothing to do here.
func (f *forge) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.wake:
		case <-timer.C:
		}
		timer.Stop()
		if wait := f.step(ctx); wait > 0 {
			timer.Reset(wait)
		}
	}
}

// step does what is due, and returns the wait until the next; 0: nothing will be before something happens.
func (f *forge) step(ctx context.Context) time.Duration {
	now, r := f.now(), &f.round
	own, reads := f.mirror.Seen()
	f.mu.Lock()
	was, hint, soon := f.turn, f.hint, f.soon
	f.hint, f.soon = "", false
	f.mu.Unlock()

	w := source.Watch{Repository: f.ring, Others: f.others(), Interval: f.interval, Heard: -1}
	if was.Polls && !was.Alone && now-max(own, r.since) > w.Patience().Milliseconds() {
		r.lapsed = own // what it says of its reach is from before it was relied on
	}
	reads = reads && own > r.lapsed
	w.Self = source.Reader{Node: string(f.self), Reads: reads}
	if at, _ := f.seen(); at != 0 {
		w.Heard = max(time.Duration(now-at)*time.Millisecond, 0)
	}
	if !r.told || r.reads != reads {
		if err := f.tell(reads); err != nil {
			f.log.WarnContext(ctx, "other nodes are not told whether this one reads the forge, will retry", "err", err)
		} else {
			r.told, r.reads = true, reads
		}
	}
	turn := w.Turn()
	f.mu.Lock()
	f.turn = turn
	f.mu.Unlock()
	if turn.Alone && r.look != 0 && now >= r.look { // the first of those that look alone have done so for all
		took, err := f.askFor(ctx, all(w.Others)...)
		if at, _ := f.seen(); took && err == nil && now-at <= w.Patience().Milliseconds() {
			r.look = 0
			return time.Millisecond
		}
	}
	f.follow(now, was, turn)
	if len(w.Others) == 0 {
		return 0
	}
	if err := f.askOthers(ctx, now, w, turn, hint, soon); err != nil && ctx.Err() == nil {
		f.log.WarnContext(ctx, "what other nodes have seen of the forge not taken over, will retry", "err", err)
	}
	wait := f.interval*9/10 + rand.N(f.interval/5+1)
	if left := w.Patience() - w.Heard; !turn.Polls && left > 0 {
		wait = min(wait, left+time.Millisecond)
	}
	if r.look != 0 {
		wait = min(wait, max(time.Duration(r.look-now)*time.Millisecond, time.Millisecond))
	}
	return wait
}

// follow has the mirror look when that has become this node's turn: at once, or if it is not the only one that found that
// others do not, some time within an interval.
func (f *forge) follow(now int64, was, turn source.Turn) {
	r := &f.round
	switch {
	case !turn.Polls:
		r.look = 0
	case !turn.Alone:
		if r.look = 0; !was.Polls || was.Alone {
			r.since = now
			f.mirror.Wake()
		}
	case !was.Alone && !was.Polls:
		r.look = now + rand.N(f.interval.Milliseconds()+1)
	case r.look != 0 && now >= r.look:
		r.look = 0
		f.mirror.Wake()
	}
}

// askOthers takes over what is newer elsewhere: on the node that says that it has news, on a poller when it is time, and on any
// node when the pollers have no answer.
func (f *forge) askOthers(ctx context.Context, now int64, w source.Watch, turn source.Turn, hint place.NodeID, soon bool) error {
	r := &f.round
	up := func(n place.NodeID) bool {
		return slices.ContainsFunc(w.Others, func(o source.Reader) bool { return o.Node == string(n) })
	}
	if hint != "" && up(hint) {
		if took, err := f.askFor(ctx, hint); took || err != nil {
			return err
		}
	}
	if turn.Polls && !turn.Alone {
		return nil
	}
	if soon || now-r.asked >= f.interval.Milliseconds()/2 {
		r.asked = now
		pollers := slices.DeleteFunc(slices.Clone(turn.Pollers), func(n string) bool { return n == string(f.self) })
		if len(pollers) > 1 && f.self[len(f.self)-1]%2 == 1 { // each is asked by half of the others
			slices.Reverse(pollers)
		}
		for _, n := range pollers {
			if took, err := f.askFor(ctx, place.NodeID(n)); took || err != nil {
				return err
			}
		}
	}
	if !turn.Alone || r.askedAll != 0 && now-r.askedAll < forgeAgain.Milliseconds() {
		return nil
	}
	r.askedAll = now
	_, err := f.askFor(ctx, all(w.Others)...)
	return err
}

func all(readers []source.Reader) (nodes []place.NodeID) {
	for _, r := range readers {
		nodes = append(nodes, place.NodeID(r.Node))
	}
	return nodes
}

// askFor asks nodes what they have seen, and takes over the newest of it if that is newer than what is here.
func (f *forge) askFor(ctx context.Context, nodes ...place.NodeID) (took bool, err error) {
	type answer struct {
		node place.NodeID
		forgeSight
		at int64
	}
	answers := make([]answer, len(nodes))
	var group errgroup.Group
	group.SetLimit(forgeAtOnce)
	for i, n := range nodes {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, forgeAsk)
			defer cancel()
			asked := f.now()
			s, err := f.ask(ctx, n)
			if err == nil && s.Ago != nil && *s.Ago >= 0 {
				answers[i] = answer{n, s, asked - *s.Ago}
			}
			return nil // who does not answer is not relied on
		})
	}
	_ = group.Wait()
	best := answer{}
	for _, a := range answers {
		if a.node != "" && (best.node == "" || a.at > best.at) {
			best = a
		}
	}
	if seen, _ := f.seen(); best.node == "" || seen != 0 && best.at <= seen {
		return false, nil
	}
	return true, f.takeOver(ctx, best.node, best.forgeSight, best.at)
}

// takeOver makes what another node has seen at a time that of this node.
func (f *forge) takeOver(ctx context.Context, from place.NodeID, theirs forgeSight, at int64) error {
	stand := f.mirror.Refs()
	if err := f.mirror.TakeClaim(theirs.Claim, at); err != nil {
		return fmt.Errorf("from node %s: %w", from, err)
	}
	f.claim()
	if refs := merged(stand, theirs.Refs); !slices.Equal(refs, stand) {
		var ids []source.ID
		for _, r := range theirs.Refs {
			ids = append(ids, r.ID)
		}
		if err := f.take(ctx, from, ids); err != nil {
			return err
		}
		if seen, _ := f.seen(); seen != 0 && seen >= at { // this node has looked meanwhile
			return nil
		}
		switch err := f.mirror.Adopt(refs, stand); {
		case errors.Is(err, gitsync.ErrMoved): // the same
			return nil
		case err != nil:
			return fmt.Errorf("from node %s: %w", from, err)
		}
		f.log.InfoContext(ctx, "commits of the forge were taken from another node", "node", from)
		f.news()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken, f.from = max(f.taken, at), from
	return nil
}

// merged is what stands with what another node has: nothing is taken away because another node lacks it, but for an approval
// that was withdrawn.
func merged(stand, theirs []source.Ref) []source.Ref {
	out := slices.DeleteFunc(slices.Clone(stand), func(r source.Ref) bool {
		return strings.HasPrefix(r.Name, trust.ApprovalRefs) && !slices.ContainsFunc(theirs, func(o source.Ref) bool { return o.Name == r.Name })
	})
	for _, r := range theirs {
		if i, found := slices.BinarySearchFunc(out, r.Name, func(o source.Ref, name string) int {
			return strings.Compare(o.Name, name)
		}); found {
			out[i] = r
		} else {
			out = slices.Insert(out, i, r)
		}
	}
	return out
}
