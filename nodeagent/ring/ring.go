package ring

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/shoal-dev/shoal/engine/place"
)

// MaxMessage is the size of the largest Broadcast, name and payload together, in bytes.
const MaxMessage = serf.UserEventSizeLimit - 512 // less what serf puts around it

// ErrTooLarge says that a Broadcast is larger than MaxMessage.
var ErrTooLarge = errors.New("larger than the ring carries")

// Options say who this node is in which ring. Zero fields mean their defaults.
type Options struct {
	Dir       string                  // required: a directory of its own, for the keyring and the members last seen
	Node      place.NodeID            // required
	Ring      string                  // required: the ring's identity; packets of another are dropped
	Bind      netip.AddrPort          // default 127.0.0.1:7946; port 0 takes any
	Advertise netip.AddrPort          // where others reach this node; default: Bind, and a port of 0 is that of Bind
	Keys      [][]byte                // of the ring, for a first start: 1 or 2 of 32 bytes, the one to encrypt with first; default: those kept
	Join      []netip.AddrPort        // where others may be found as long as nobody is here
	Known     func() []netip.AddrPort // where the nodes that should be there gossip, as far as the ledger knows; default: none
	// Proves tells whether the machine that gossips at an address proves to be this very node, by its key. Before this node
	// ends its gossip because it is the second of two, it is asked; default: whoever says so is believed.
	Proves func(ctx context.Context, at netip.AddrPort) bool
	Tags   map[string]string // told to all members; encoded at most 512 bytes
	Log    *slog.Logger      // default: discard

	forget time.Duration // when serf forgets failed members; default 24 h
}

// Ring is this node's view of its ring. It is safe for concurrent use.
type Ring struct {
	opt     Options
	keys    *keyring
	lines   *lineLogger
	twins   *twins
	in      chan serf.Event
	serf    atomic.Pointer[serf.Serf]
	events  *events
	changed chan struct{} // somebody may be missing
	repeat  atomic.Int64  // until then this node's address is told again and again, ns: it was heard of at another one
	brought atomic.Int64  // bytes that open streams have brought
	fresh   atomic.Bool   // this node has not been in the ring yet
	second  chan struct{} // this node has an older twin
	stop    chan struct{}
	running sync.WaitGroup

	talking sync.Mutex // held while serf joins or leaves: a join that ends behind the goodbye would take it back

	mu     sync.Mutex // guards below; held while serf is exchanged or shut down
	alone  bool       // serf runs with the settings of a ring of one
	moving bool       // serf is being started anew
	silent bool       // this node has an older twin: it says nothing more
	recent []said     // while alone or moving: what the others may have missed
	seen   map[place.NodeID]netip.AddrPort
	closed bool
}

// said is a message that was broadcast.
type said struct {
	name    string
	payload []byte
	at      time.Time
}

const (
	keepSaid = 64               // messages
	saidFor  = 10 * time.Second // older ones are not repeated
)

// Open starts to gossip. A node that was in the ring before tries the members it saw last, without waiting for them.
func Open(o Options) (*Ring, error) {
	if o.Dir == "" || o.Node == "" || o.Ring == "" {
		return nil, errors.New("open ring: Dir, Node and Ring are required")
	}
	if !o.Bind.IsValid() {
		o.Bind = netip.MustParseAddrPort("127.0.0.1:7946")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	if o.Known == nil {
		o.Known = func() []netip.AddrPort { return nil }
	}
	if o.Bind.Addr().IsUnspecified() && o.Bind.Addr().Is6() && !o.Advertise.IsValid() {
		return nil, fmt.Errorf("open ring: Bind %s needs an Advertise address, where others reach this node", o.Bind)
	}
	seen, err := o.lastSeen()
	if err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	alone := len(seen)+len(o.Join) == 0 && !slices.ContainsFunc(o.Known(), func(a netip.AddrPort) bool { return a != o.Bind && a != o.Advertise })
	keys, err := openKeyring(o.path("keyring"), o.Keys, alone) // who has others to talk to must not begin with a key of its own
	if err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	r := &Ring{
		opt: o, keys: keys, lines: &lineLogger{log: o.Log}, twins: newTwins(o.Node), in: make(chan serf.Event, 64),
		events: newEvents(), changed: make(chan struct{}, 1), second: make(chan struct{}, 1), stop: make(chan struct{}), seen: seen, alone: alone,
	}
	r.fresh.Store(len(seen) == 0)
	r.twins.told, r.twins.again = r.twin, func() {
		r.repeat.Store(time.Now().Add(twinAfter + 2*time.Second).UnixNano())
		r.Seek()
	}
	if err := r.create(); err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	r.running.Go(func() { r.events.run(r.stop) })
	r.running.Go(r.pump)
	r.running.Go(r.seek)
	return r, nil
}

// create starts serf with the settings for one node or for several. A port that was chosen for us stays ours.
func (r *Ring) create() error {
	lines := log.New(r.lines, "", 0)
	t, err := newTransport(r.opt.Bind.Addr().String(), int(r.opt.Bind.Port()), lines, &r.brought, &r.lines.refused)
	if err != nil {
		if strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) { // memberlist keeps the text alone
			return fmt.Errorf("%s is taken by another program: %w", r.opt.Bind, err)
		}
		return err
	}
	r.opt.Bind = netip.AddrPortFrom(r.opt.Bind.Addr(), uint16(t.GetAutoBindPort()))
	c := r.opt.config(r.keys.live, r.in, r.alone, lines)
	c.MemberlistConfig.Transport = t
	c.MemberlistConfig.Alive = r.twins
	r.twins.is(netip.AddrPort{}) // memberlist begins with saying that this node is alive
	s, err := serf.Create(c)
	if err != nil {
		return errors.Join(err, t.Shutdown())
	}
	r.serf.Store(s)
	r.twins.is(r.Address())
	return nil
}

func (o Options) path(name string) string { return filepath.Join(o.Dir, name) }

// config are serf's settings. They are measured: see the package's comment. A node that is alone neither gossips nor
// probes: the 23 timers a second of the others' settings take 0.34 % of a core, and nobody is there to hear it.
func (o Options) config(keys *memberlist.Keyring, in chan serf.Event, alone bool, lines *log.Logger) *serf.Config {
	m := memberlist.DefaultLANConfig()
	m.BindAddr, m.BindPort = o.Bind.Addr().String(), int(o.Bind.Port())
	m.AdvertisePort = m.BindPort
	if o.Advertise.IsValid() {
		m.AdvertiseAddr = o.Advertise.Addr().String()
		m.AdvertisePort = cmp.Or(int(o.Advertise.Port()), m.BindPort)
	}
	m.ProbeInterval, m.ProbeTimeout = 300*time.Millisecond, 150*time.Millisecond
	m.SuspicionMult, m.SuspicionMaxTimeoutMult = 3, 6
	m.GossipInterval = 50 * time.Millisecond
	m.TCPTimeout = 3 * time.Second
	if alone {
		m.ProbeInterval, m.GossipInterval, m.PushPullInterval = 0, 0, 0
	}
	m.DeadNodeReclaimTime = time.Millisecond // a member that failed may come back at another address
	m.Label = o.Ring
	m.Keyring = keys
	m.Logger = lines
	m.LogOutput = nil

	c := serf.DefaultConfig()
	c.NodeName = string(o.Node)
	c.Tags = o.Tags
	c.EventCh = in
	c.MemberlistConfig = m
	c.Logger, c.LogOutput = lines, nil
	c.SnapshotPath = o.path("members")
	c.RejoinAfterLeave = true
	c.EnableNameConflictResolution = false // a majority vote may stop the older node: see twin.go
	c.DisableCoordinates = true
	c.UserEventSizeLimit = serf.UserEventSizeLimit
	c.MaxQueueDepth = 512 // announcements that wait to be told, of up to 9 KiB
	c.LeavePropagateDelay = 300 * time.Millisecond
	c.BroadcastTimeout = 2 * time.Second
	if o.forget > 0 {
		c.ReconnectTimeout, c.TombstoneTimeout, c.ReapInterval = o.forget, o.forget, o.forget
	}
	return c
}

// lastSeen reads who was there last, but this node. A file that is none is quarantined: a power loss may leave one
// full of zeros.
func (o Options) lastSeen() (map[place.NodeID]netip.AddrPort, error) {
	path := o.path("members")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read members: %w", err)
	}
	if bytes.ContainsFunc(b, func(r rune) bool { return r != '\n' && r != '\t' && (r < ' ' || r == utf8.RuneError) }) {
		to := path + ".damaged"
		if err := os.Rename(path, to); err != nil {
			return nil, fmt.Errorf("quarantine members: %w", err)
		}
		o.Log.Error("list of members last seen is damaged, quarantined", "file", to)
		b = nil
	}
	return readSeen(string(b), o.Node), nil
}

// pump translates serf's events until the ring is closed.
func (r *Ring) pump() {
	for {
		select {
		case <-r.stop:
			return
		case e := <-r.in:
			out, ok := eventOf(e)
			if !ok {
				continue
			}
			if out.Members != nil {
				r.note(out.Kind, out.Members)
				r.twins.note(out.Kind, out.Members)
				r.Seek()
			}
			if out.Kind == forgotten {
				continue
			}
			r.events.put(out)
			if out.Kind == Joined && slices.ContainsFunc(out.Members, func(m Member) bool { return m.ID != r.opt.Node }) {
				r.accompany()
			}
		}
	}
}

// accompany exchanges the settings of a ring of one for those of several, once another member came. serf cannot
// change them, so it is started anew.
func (r *Ring) accompany() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alone {
		r.renew()
	}
}

// renew starts serf anew and finds the others again, which takes some milliseconds and gives some events twice. mu is held.
func (r *Ring) renew() {
	if r.closed || r.silent || r.moving {
		return
	}
	others := r.here(maxSeen)
	r.alone, r.moving = false, true
	if err := r.serf.Load().Shutdown(); err != nil {
		r.opt.Log.Warn("gossip not stopped cleanly", "err", err)
	}
	r.running.Go(func() { r.rejoin(others) })
}

// rejoin starts serf anew and finds the others again; it tries until that worked or the ring is closed.
func (r *Ring) rejoin(others []netip.AddrPort) {
	const most = 5 * time.Second
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, most) {
		err := r.again(others)
		if err == nil {
			return
		}
		r.opt.Log.Warn("gossip not started again, will retry", "err", err)
		select {
		case <-r.stop:
			return
		case <-time.After(wait):
		}
	}
}

func (r *Ring) again(others []netip.AddrPort) error {
	r.mu.Lock()
	if r.closed || r.silent {
		r.mu.Unlock()
		return nil
	}
	if r.serf.Load().State() == serf.SerfShutdown {
		if err := r.create(); err != nil {
			r.mu.Unlock()
			return err
		}
	}
	r.mu.Unlock()
	if _, err := r.join(others, false); err != nil { // what was said meanwhile is news here
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moving = false
	for _, m := range r.recent {
		if time.Since(m.at) < saidFor {
			if err := r.serf.Load().UserEvent(m.name, m.payload, false); err != nil {
				r.opt.Log.Warn("message not repeated", "name", m.name, "err", err)
			}
		}
	}
	r.recent = nil
	return nil
}

// twin tells of two machines that claim one node, and ends the gossip of this one if it is the second. That any member may
// say: so the other is to prove it. The caller holds memberlist's lock.
func (r *Ring) twin(t Twins) {
	if t.Second && r.opt.Proves != nil {
		r.running.Go(func() { r.prove(t) })
		return
	}
	r.found(t)
}

const (
	proofs     = 5 // times that somebody is asked for it
	proofPause = 2 * time.Second
)

func (r *Ring) prove(t Twins) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for range proofs {
		if r.opt.Proves(ctx, t.Known) {
			r.found(t)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(proofPause):
		}
	}
	r.opt.Log.Error("a machine claims to be this node and cannot prove it: who holds the gossip's key may say so", "node", t.Node, "other", t.Known)
}

func (r *Ring) found(t Twins) {
	r.opt.Log.Error("two machines claim to be one node", "node", t.Node, "known", t.Known, "other", t.Other, "second", t.Second)
	r.events.put(Event{Kind: Twin, Twins: &t})
	if t.Second {
		r.second <- struct{}{} // once at most
	}
}

func (r *Ring) fallSilent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.silent {
		return
	}
	r.silent = true
	if err := r.serf.Load().Shutdown(); err != nil {
		r.opt.Log.Warn("gossip not stopped cleanly", "err", err)
	}
}

// Refused counts what was dropped because it was not of this ring, or more than a ring has to say: packets and streams
// with another key or label, and what no one can read.
func (r *Ring) Refused() uint64 { return r.lines.refused.Load() }

// Address is where this node gossips.
func (r *Ring) Address() netip.AddrPort {
	m := r.serf.Load().LocalMember()
	addr, _ := netip.AddrFromSlice(m.Addr)
	return netip.AddrPortFrom(addr.Unmap(), m.Port)
}

// Members are all nodes the ring remembers, this one and failed ones included, by ID.
func (r *Ring) Members() []Member {
	var members []Member
	for _, m := range r.serf.Load().Members() {
		members = append(members, memberOf(m))
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

// Events gives what happens, in the order this node learns of it, from Open on. There is one consumer. The channel
// is closed by Close.
func (r *Ring) Events() <-chan Event { return r.events.out }

// Broadcast tells name and payload to every member, this node included. Nobody acknowledges it. The payload must not
// be changed afterwards.
func (r *Ring) Broadcast(name string, payload []byte) error {
	if len(name)+len(payload) > MaxMessage {
		return fmt.Errorf("broadcast %s, %d bytes: %w (%d)", name, len(payload), ErrTooLarge, MaxMessage)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alone || r.moving {
		if r.recent = append(r.recent, said{name, payload, time.Now()}); len(r.recent) > keepSaid {
			r.recent = slices.Delete(r.recent, 0, 1)
		}
	}
	if err := r.serf.Load().UserEvent(name, payload, false); err != nil {
		return fmt.Errorf("broadcast %s: %w", name, err)
	}
	return nil
}

// Join finds the ring through any of the addresses and returns how many answered; an error if none did.
func (r *Ring) Join(addrs ...netip.AddrPort) (int, error) {
	return r.join(addrs, true)
}

// join finds the ring; ignoreOld drops the messages that were broadcast before.
func (r *Ring) join(addrs []netip.AddrPort, ignoreOld bool) (int, error) {
	n := 0
	var errs []error
	for _, a := range addrs {
		r.talking.Lock()
		_, err := r.serf.Load().Join([]string{a.String()}, ignoreOld)
		r.talking.Unlock()
		if err == nil {
			n++
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); n == 0 && err != nil {
		return 0, fmt.Errorf("join ring: %w", err)
	}
	return n, nil
}

// Tell replaces the tags of this node. It may take two seconds, until some members have heard of it.
func (r *Ring) Tell(tags map[string]string) error {
	r.mu.Lock()
	r.opt.Tags = tags // for when serf is started anew
	r.mu.Unlock()
	if err := r.serf.Load().SetTags(tags); err != nil {
		return fmt.Errorf("tell tags: %w", err)
	}
	return nil
}

// Leave says goodbye, so that the others do not take this node for failed. Close follows.
func (r *Ring) Leave() error {
	r.talking.Lock()
	defer r.talking.Unlock()
	if err := r.serf.Load().Leave(); err != nil {
		return fmt.Errorf("leave ring: %w", err)
	}
	return nil
}

// Close stops gossiping without a word; the members last seen stay on disk.
func (r *Ring) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	err := r.serf.Load().Shutdown()
	r.mu.Unlock()
	close(r.stop)
	r.running.Wait()
	if err != nil {
		return fmt.Errorf("close ring: %w", err)
	}
	return nil
}
