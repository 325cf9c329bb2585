//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// relay takes the bridge's place: it carries frames between the machines' cables, late, in another order, twice or not at
// all, by a seeded plan.
type relay struct {
	t      *testing.T
	r      *ring
	ports  []int // sockets, one at each cable
	delay  time.Duration
	jitter time.Duration // up to so much longer, so that frames overtake each other
	twice  int           // of a hundred
	random chan int      // seeded numbers below 1 << 30
	stop   context.CancelFunc
}

// relayed exchanges the bridge for a relay; unplug takes it back.
func (r *ring) relayed(t *testing.T, delay, jitter time.Duration, twice int) (unplug func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &relay{t: t, r: r, delay: delay, jitter: jitter, twice: twice, random: make(chan int, 64), stop: cancel}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed of the relay: %d", seed)
	go func() {
		for random := rand.New(rand.NewPCG(seed, 0)); ; {
			select {
			case l.random <- random.IntN(1 << 30):
			case <-ctx.Done():
				return
			}
		}
	}()
	for _, n := range r.nodes {
		if err := n.within(func() error { return wholeFrames("lan0") }); err != nil {
			t.Fatalf("offload of %s: %v", n.name, err)
		}
		r.inSwitch("ip", "link", "set", "port-"+n.name, "nomaster", "promisc", "on")
	}
	if err := r.atSwitch(l.open); err != nil {
		t.Fatal(err)
	}
	for i := range l.ports {
		go l.carry(ctx, i)
	}
	done := false
	unplug = func() {
		if done {
			return
		}
		done = true
		cancel()
		time.Sleep(delay + jitter) // what is under way
		for _, fd := range l.ports {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
			_ = unix.Close(fd)
		}
		for _, n := range r.nodes {
			r.inSwitch("ip", "link", "set", "port-"+n.name, "master", "br0", "promisc", "off")
		}
	}
	t.Cleanup(unplug)
	return unplug
}

// atSwitch runs f on a thread in the switch's network namespace.
func (r *ring) atSwitch(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", r.holder.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(ns, unix.CLONE_NEWNET)
			_ = unix.Close(ns)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (l *relay) open() error {
	for _, n := range l.r.nodes {
		link, err := net.InterfaceByName("port-" + n.name)
		if err != nil {
			return err
		}
		const all = 0x0300 // ETH_P_ALL in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}); err != nil {
			return err
		}
		l.ports = append(l.ports, fd)
	}
	return nil
}

// carry takes what comes from one cable to all others.
func (l *relay) carry(ctx context.Context, port int) {
	b := make([]byte, 70_000)
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(l.ports[port], b, 0)
		if a, ok := from.(*unix.SockaddrLinklayer); err != nil || !ok || a.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		frame := append([]byte(nil), b[:n]...)
		copies := 1
		if <-l.random%100 < l.twice {
			copies = 2
		}
		for range copies {
			wait := l.delay
			if l.jitter > 0 {
				wait += time.Duration(<-l.random) % l.jitter
			}
			time.AfterFunc(wait, func() {
				for i, fd := range l.ports {
					if i != port && ctx.Err() == nil {
						_ = unix.Send(fd, frame, 0) // a cable that is full loses frames, too
					}
				}
			})
		}
	}
}

// wholeFrames has a link send frames as they are on a cable: of its size, with checksums.
func wholeFrames(link string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, cmd := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SGSO, unix.ETHTOOL_STSO} {
		value := struct{ cmd, data uint32 }{cmd, 0}
		request := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&value)}
		copy(request.name[:], link)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 && cmd == unix.ETHTOOL_STXCSUM {
			return errno
		}
	}
	return nil
}

// loses has every machine lose so many of a hundred packets that come to it.
func (r *ring) loses(percent int) (mend func()) {
	for _, n := range r.nodes {
		n.must("nft", "add", "table", "ip", "chaos")
		n.must("nft", "add", "chain", "ip", "chaos", "in", "{ type filter hook prerouting priority -400; }")
		n.must("nft", "add", "rule", "ip", "chaos", "in", "iifname", "lan0", "numgen", "random", "mod", "100", "<", fmt.Sprint(percent), "drop")
	}
	return func() {
		for _, n := range r.nodes {
			n.hears()
		}
	}
}

// narrow has every machine send 1 Mbit/s at most, with a deep queue.
func (r *ring) narrow() (mend func()) {
	for _, n := range r.nodes {
		n.must("tc", "qdisc", "replace", "dev", "lan0", "root", "tbf", "rate", "1mbit", "burst", "32k", "latency", "400ms")
	}
	return func() {
		for _, n := range r.nodes {
			n.must("tc", "qdisc", "del", "dev", "lan0", "root")
		}
	}
}

// Networks that lose 5, 20 and 40 % of all packets, that take 300 ms, change their order and double them, and that carry 1 Mbit/s:
// machines that are there are taken for lost seldom, pods move no more often than that, what may run once is never there
// twice, and afterwards all is as it was.
func TestFault_N6(t *testing.T) {
	r, w := chaos(t)
	first := r.nodes[0]
	span := time.Duration(rounds(8, 20)) * time.Second
	for _, weather := range []struct {
		name   string
		begin  func() func()
		wrong  int // most times that a machine is taken for lost in a span
		always bool
	}{
		{"5 % lost", func() func() { return r.loses(5) }, 1, true},
		{"20 % lost", func() func() { return r.loses(20) }, 6, false},
		{"40 % lost", func() func() { return r.loses(40) }, 9, true},
		{"300 ms, other order, twice", func() func() { return r.relayed(t, 300*time.Millisecond, 150*time.Millisecond, 10) }, 6, true},
		{"5 ms, other order, twice", func() func() { return r.relayed(t, 2*time.Millisecond, 5*time.Millisecond, 20) }, 1, false},
		{"1 Mbit/s", r.narrow, 3, true},
	} {
		if rounds(0, 1) == 0 && !weather.always {
			continue
		}
		mend := weather.begin()
		begun := time.Now()
		last := map[string]string{}
		wrong, looks, leaderless := 0, 0, 0
		for time.Since(begun) < span {
			now := first.states()
			for name, state := range now {
				if state != last[name] && (state == "NotReady" || state == "Lost" && last[name] != "NotReady") {
					wrong++
				}
			}
			last = now
			looks++
			if _, err := first.leads(); err != nil {
				leaderless++
			}
			w.look()
			time.Sleep(200 * time.Millisecond)
		}
		mend()
		mended := time.Now()
		first.Eventually(90*time.Second, func() error { return r.whole(3) })
		t.Logf("%s for %s: %d times a machine was taken for lost (%.1f a machine and minute), nobody led in %d of %d looks; all agreed again after %s",
			weather.name, span, wrong, float64(wrong)/span.Minutes()/3, leaderless, looks, time.Since(mended).Round(100*time.Millisecond))
		if most := weather.wrong * int(1+span/(20*time.Second)); wrong > most {
			t.Errorf("%s: machines that are there were taken for lost %d times in %s", weather.name, wrong, span)
		}
	}
	first.Eventually(60*time.Second, func() error {
		for _, n := range r.nodes {
			if err := n.answers("http://"+n.address+":30080/env", "GREETING=one"); err != nil {
				return err
			}
		}
		return first.readyOff("", "one-", 1)
	})
	if moves := w.alone(t); moves > 4 {
		t.Errorf("what may run once was moved %d times: %v", moves, w.stints)
	}
}
