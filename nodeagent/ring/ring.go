package ring

import (
	"bytes"
	"cmp"
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
	Dir  string            // required: a directory of its own, for the keyring and the members last seen
	Node place.NodeID      // required
	Ring string            // required: the ring's identity; packets of another are dropped
	Bind netip.AddrPort    // default 127.0.0.1:7946; port 0 takes any
	Keys [][]byte          // of the ring, the one to encrypt with first, for a first start; default: a new one
	Tags map[string]string // told to all members; encoded at most 512 bytes
	Log  *slog.Logger      // default: discard
}

// Ring is this node's view of its ring. It is safe for concurrent use.
type Ring struct {
	opt     Options
	keys    *memberlist.Keyring
	in      chan serf.Event
	serf    atomic.Pointer[serf.Serf]
	events  *events
	stop    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex // guards below; held while serf is exchanged or shut down
	alone  bool       // serf runs with the settings of a ring of one
	moving bool       // serf is being started anew
	recent []said     // while alone or moving: what the others may have missed
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
	keys, err := loadKeyring(o.path("keyring"), o.Keys)
	if err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	seen, err := o.lastSeen()
	if err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	r := &Ring{opt: o, keys: keys, in: make(chan serf.Event, 64), events: newEvents(), stop: make(chan struct{}), alone: !seen}
	if err := r.create(); err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	r.opt.Bind = r.Address() // a port that was chosen for us stays ours
	r.running.Go(func() { r.events.run(r.stop) })
	r.running.Go(r.pump)
	return r, nil
}

// create starts serf with the settings for one node or for several.
func (r *Ring) create() error {
	s, err := serf.Create(r.opt.config(r.keys, r.in, r.alone))
	if err != nil {
		if strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) { // memberlist keeps the text alone
			return fmt.Errorf("%s is taken by another program: %w", r.opt.Bind, err)
		}
		return err
	}
	r.serf.Store(s)
	return nil
}

func (o Options) path(name string) string { return filepath.Join(o.Dir, name) }

// config are serf's settings. They are measured: see the package's comment. A node that is alone neither gossips nor
// probes: the 23 timers a second of the others' settings take 0.34 % of a core, and nobody is there to hear it.
func (o Options) config(keys *memberlist.Keyring, in chan serf.Event, alone bool) *serf.Config {
	lines := log.New(&lineLogger{log: o.Log}, "", 0)

	m := memberlist.DefaultLANConfig()
	m.BindAddr, m.BindPort = o.Bind.Addr().String(), int(o.Bind.Port())
	m.AdvertisePort = m.BindPort
	m.ProbeInterval, m.ProbeTimeout = 300*time.Millisecond, 150*time.Millisecond
	m.SuspicionMult, m.SuspicionMaxTimeoutMult = 3, 6
	m.GossipInterval = 50 * time.Millisecond
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
	c.KeyringFile = o.path("keyring")
	c.SnapshotPath = o.path("members")
	c.RejoinAfterLeave = true
	c.EnableNameConflictResolution = false // a majority vote may stop the older node
	c.DisableCoordinates = true
	c.UserEventSizeLimit = serf.UserEventSizeLimit
	c.MaxQueueDepth = 512 // announcements that wait to be told, of up to 9 KiB
	c.LeavePropagateDelay = 300 * time.Millisecond
	c.BroadcastTimeout = 2 * time.Second
	return c
}

// lastSeen says whether the file of members last seen names any but this node. A file that is none is quarantined:
// a power loss may leave one full of zeros.
func (o Options) lastSeen() (bool, error) {
	path := o.path("members")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read members: %w", err)
	}
	if bytes.ContainsFunc(b, func(r rune) bool { return r != '\n' && r != '\t' && (r < ' ' || r == utf8.RuneError) }) {
		to := path + ".damaged"
		if err := os.Rename(path, to); err != nil {
			return false, fmt.Errorf("quarantine members: %w", err)
		}
		o.Log.Error("list of members last seen is damaged, quarantined", "file", to)
		return false, nil
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "alive: "); ok && !strings.HasPrefix(rest, string(o.Node)+" ") {
			return true, nil
		}
	}
	return false, nil
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
			r.events.put(out)
			if out.Kind == Joined && slices.ContainsFunc(out.Members, func(m Member) bool { return m.ID != r.opt.Node }) {
				r.accompany()
			}
		}
	}
}

// accompany exchanges the settings of a ring of one for those of several, once another member came. serf cannot
// change them, so it is started anew, which takes some milliseconds and gives some events twice.
func (r *Ring) accompany() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.alone || r.closed {
		return
	}
	var others []netip.AddrPort
	for _, m := range r.Members() {
		if m.ID != r.opt.Node && m.Status == Alive {
			others = append(others, m.Address)
		}
	}
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
	if r.closed {
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

// Keys are the ring's, the one to encrypt with first.
func (r *Ring) Keys() [][]byte { return r.keys.GetKeys() }

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
	hosts := make([]string, len(addrs))
	for i, a := range addrs {
		hosts[i] = a.String()
	}
	n, err := r.serf.Load().Join(hosts, ignoreOld)
	if n == 0 && err != nil {
		return 0, fmt.Errorf("join ring: %w", err)
	}
	return n, nil
}

// Tell replaces the tags of this node.
func (r *Ring) Tell(tags map[string]string) error {
	if err := r.serf.Load().SetTags(tags); err != nil {
		return fmt.Errorf("tell tags: %w", err)
	}
	return nil
}

// Leave says goodbye, so that the others do not take this node for failed. Close follows.
func (r *Ring) Leave() error {
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
