package ring

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/shoal-dev/shoal/engine/place"
)

const (
	seekFirst   = 500 * time.Millisecond // after an attempt that found nobody; doubled up to
	seekAlone   = 5 * time.Second        // while nobody else is there, and up to
	seekMissing = time.Minute            // while some are
	seekAtOnce  = 8                      // addresses tried in one round, in turns
	renewEvery  = 10 * time.Second       // at most
)

// seek looks for the nodes that should be there and are not, for ever: those this node saw before, those its ledger
// knows, and, while it is alone, the addresses it was given. serf gives failed members up after a day. With nobody
// missing it sleeps until something changes.
func (r *Ring) seek() {
	wait, turn := seekFirst, 0
	var renewed time.Time
	for {
		missing, alone := r.missing()
		var pause <-chan time.Time
		switch {
		case r.besides(): // serf is being exchanged, and joins by itself
			pause = time.After(seekFirst)
		case r.erased():
			if time.Since(renewed) >= renewEvery {
				renewed = time.Now()
				r.opt.Log.Warn("a member that is there was struck off the list of members, as who holds the gossip's key may ask for; gossip begins anew")
				r.mu.Lock()
				r.renew()
				r.mu.Unlock()
			}
			pause = time.After(seekFirst)
		case time.Now().UnixNano() < r.repeat.Load(): // the others find out within seconds that the old address is dead
			r.tryJoin(r.here(3))
			pause = time.After(2 * seekFirst)
		case len(missing) > 0:
			turn++
			if r.tryJoin(round(missing, turn)) {
				wait = seekFirst
			}
			most := seekMissing
			if alone {
				most = seekAlone
			}
			wait = min(2*wait, most)
			pause = time.After(wait*4/5 + rand.N(wait*2/5)) // nodes that were started together do not stay in step
		}
		select {
		case <-r.stop:
			return
		case <-r.second:
			r.fallSilent()
			return
		case <-r.changed:
			if missing, _ := r.missing(); len(missing) == 0 {
				wait = seekFirst
			}
			select { // changes come in crowds, and must not make the pause shorter than this
			case <-r.stop:
				return
			case <-time.After(seekFirst):
			}
		case <-pause:
		}
	}
}

// round is the part of addrs that is tried in this turn.
func round(addrs []netip.AddrPort, turn int) []netip.AddrPort {
	if len(addrs) <= seekAtOnce {
		return addrs
	}
	from := turn * seekAtOnce % len(addrs)
	return slices.Concat(addrs[from:], addrs[:from])[:seekAtOnce]
}

// tryJoin asks the nodes at addrs to talk to this one again. What was said meanwhile is news here, but for a node that
// was never in the ring.
func (r *Ring) tryJoin(addrs []netip.AddrPort) bool {
	_, err := r.join(addrs, r.fresh.Load())
	if err != nil && len(addrs) > 0 {
		r.opt.Log.Debug("nodes not found, will retry", "addresses", fmt.Sprint(addrs), "err", err)
	}
	if err == nil && len(addrs) > 0 {
		r.fresh.Store(false)
	}
	return err == nil
}

// besides says whether serf is not to be disturbed.
func (r *Ring) besides() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moving || r.closed || r.silent
}

// erased says whether serf has forgotten somebody who is there. Who is told to prune a member that is just leaving does so
// 2.3 s later, be it back or not, and it would not be a member again before it has failed.
func (r *Ring) erased() bool {
	s := r.serf.Load()
	there := s.Memberlist().Members() // serf hears of each of them before it can be seen there
	known := map[string]bool{}
	for _, m := range s.Members() {
		known[m.Name] = true
	}
	return slices.ContainsFunc(there, func(m *memberlist.Node) bool { return !known[m.Name] })
}

// here are the addresses of so many members that are there.
func (r *Ring) here(most int) (addrs []netip.AddrPort) {
	for _, m := range r.Members() {
		if m.ID != r.opt.Node && m.Status == Alive && len(addrs) < most {
			addrs = append(addrs, m.Address)
		}
	}
	return addrs
}

// missing are the addresses at which somebody should answer, and whether nobody does at any.
func (r *Ring) missing() (addrs []netip.AddrPort, alone bool) {
	here := map[netip.AddrPort]bool{r.Address(): true}
	alone = true
	for _, m := range r.Members() {
		if m.ID != r.opt.Node && m.Status == Alive {
			here[m.Address] = true
			alone = false
		}
	}
	r.mu.Lock()
	for id, a := range r.seen {
		if id != r.opt.Node {
			addrs = append(addrs, a)
		}
	}
	r.mu.Unlock()
	addrs = append(addrs, r.opt.Known()...)
	if alone {
		addrs = append(addrs, r.opt.Join...)
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	addrs = slices.Compact(addrs)
	return slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return here[a] || !a.IsValid() }), alone
}

// Seek looks again who is missing, soon. To be called when the nodes that Known knows have changed.
func (r *Ring) Seek() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// maxSeen bounds the nodes that are remembered.
const maxSeen = 1000

// note remembers where members were; who left of its own will is not looked for.
func (r *Ring) note(kind Kind, members []Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range members {
		switch kind {
		case Joined, Updated:
			if _, old := r.seen[m.ID]; old || len(r.seen) < maxSeen {
				r.seen[m.ID] = m.Address
			}
		case Gone:
			delete(r.seen, m.ID)
		}
	}
}

// readSeen takes the members from the lines of serf's file: "alive: <name> <address>", and "not-alive: <name>" later.
func readSeen(text string, self place.NodeID) map[place.NodeID]netip.AddrPort {
	seen := map[place.NodeID]netip.AddrPort{}
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch kind {
		case "alive":
			name, at, _ := strings.Cut(rest, " ")
			addr, err := netip.ParseAddrPort(at)
			if err == nil && place.NodeID(name) != self && len(seen) < maxSeen {
				seen[place.NodeID(name)] = addr
			}
		case "not-alive":
			delete(seen, place.NodeID(rest))
		}
	}
	return seen
}
