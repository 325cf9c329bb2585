package links

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/wire"
)

// Options says which node's links they are.
type Options struct {
	Instance    string       // required: 6 lower-case hex digits, the mark of all that is made
	PodCIDR     netip.Prefix // required, IPv4: of this node
	ServiceCIDR netip.Prefix // required, IPv4
	DNS         netip.Addr   // required: the address pods ask; within ServiceCIDR
	MTU         int          // of pods, 576 to 65535 bytes; default what reaches every node unwrapped or wrapped (see Routes)
	Overlay     Overlay      // when pods' packets are wrapped on their way to another node; default Auto
	NoOffload   bool         // the overlay's checksums are made by us, for network cards that spoil them
	Tunnel      Tunnel       // encrypts packets for other nodes; nil: no node is reached through it
	Encrypt     bool         // this node wants it; false: it is taken down once the others know that
	Record      string       // required: file for what sysctls were before; on a file system that a reboot empties
	Log         *slog.Logger // default: discard
}

// Check joins every fault of o into one error.
func (o Options) Check() error {
	var errs []error
	if !isInstance(o.Instance) {
		errs = append(errs, fmt.Errorf("instance %q: want 6 lower-case hex digits", o.Instance))
	}
	if !o.PodCIDR.Addr().Is4() || o.PodCIDR.Bits() > 30 {
		errs = append(errs, fmt.Errorf("pod CIDR %s: want an IPv4 prefix of at most 30 bits", o.PodCIDR))
	}
	if !o.ServiceCIDR.Addr().Is4() {
		errs = append(errs, fmt.Errorf("service CIDR %s: want an IPv4 prefix", o.ServiceCIDR))
	}
	if !o.ServiceCIDR.Contains(o.DNS) {
		errs = append(errs, fmt.Errorf("DNS address %s: want one in service CIDR %s", o.DNS, o.ServiceCIDR))
	}
	if o.MTU != 0 && (o.MTU < 576 || o.MTU > 65535) {
		errs = append(errs, fmt.Errorf("MTU %d: want 576 to 65535", o.MTU))
	}
	if o.Overlay != "" && o.Overlay != Auto && o.Overlay != Always && o.Overlay != Never {
		errs = append(errs, fmt.Errorf("overlay %q: want auto, always or never", o.Overlay))
	}
	if o.Encrypt && o.Tunnel == nil {
		errs = append(errs, errors.New("encrypt: want a tunnel"))
	}
	if o.Record == "" {
		errs = append(errs, errors.New("record: want a file name"))
	}
	return errors.Join(errs...)
}

func isInstance(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 6
}

// Pod is what a link needs to know of a pod.
type Pod struct {
	ID    control.PodID
	Netns string     // absolute path of its pinned network namespace
	IP    netip.Addr // IPv4, within the pod CIDR
}

// Link is a pod's host-side interface as it was found.
type Link struct {
	Name string
	Pod  control.PodID // "" when its maker died before it could write it down
	Up   bool
}

// Links makes and removes the links of one instance in the network namespace it was opened in. Its methods may
// be repeated and are safe for concurrent use; two calls for one pod wait for each other.
type Links struct {
	opt Options
	nl  *netlink.Handle          // route netlink in the node's namespace
	ask map[int]*nl.SocketHandle // the same, for what the library has no words for

	found atomic.Int32 // MTU of pods in bytes; 0: not looked for yet

	peers peers // the other nodes

	busy   [64]sync.Mutex // by hash of the pod: one piece of work on a pod at a time
	events chan struct{}
	watch  *watcher

	mu       sync.Mutex      // guards expected
	expected map[string]bool // links that we are removing ourselves, so that their end is no event
}

// Open opens a netlink socket and starts to watch; it changes nothing. Close gives both back.
func Open(opt Options) (*Links, error) {
	if err := opt.Check(); err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.PodCIDR, opt.ServiceCIDR = opt.PodCIDR.Masked(), opt.ServiceCIDR.Masked()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	l := &Links{
		opt: opt, nl: h, ask: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}},
		expected: make(map[string]bool), events: make(chan struct{}, 1),
	}
	if opt.Tunnel != nil {
		opt.Tunnel.OnEnd(l.signal)
	}
	if l.watch, err = l.startWatch(); err != nil {
		h.Close()
		s.Close()
		return nil, fmt.Errorf("watch netlink: %w", err)
	}
	return l, nil
}

// Close stops the watch and leaves every link as it is.
func (l *Links) Close() {
	l.watch.stop()
	l.nl.Close()
	l.ask[unix.NETLINK_ROUTE].Close()
}

// Events has a value whenever something of ours was removed or switched off by others, or events were lost
// (ENOBUFS): then Check everything. Any number of happenings are one value.
func (l *Links) Events() <-chan struct{} { return l.events }

// NodeAddress is the address the node has among pods: the source of what its own processes send to them.
func (l *Links) NodeAddress() netip.Addr { return wire.NodeAddress(l.opt.PodCIDR) }

// lock serialises work on one pod (and now and then on two that share a lock). The returned function unlocks.
func (l *Links) lock(id control.PodID) func() {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	m := &l.busy[h.Sum32()%uint32(len(l.busy))]
	m.Lock()
	return m.Unlock
}
