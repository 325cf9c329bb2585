package links

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

func open(t testing.TB, instance string) *Links {
	t.Helper()
	nettest.Root(t)
	l, err := Open(Options{
		Instance: instance, PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
		DNS: netip.MustParseAddr("10.43.0.10"), Record: filepath.Join(t.TempDir(), "sysctls"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Purge(context.Background()); err != nil {
			t.Error(err)
		}
		l.Close()
	})
	return l
}

func makePod(t testing.TB, n int) Pod {
	return Pod{
		ID:    control.PodID(fmt.Sprintf("00000000-0000-0000-0000-%012d", n)),
		Netns: nettest.Netns(t),
		IP:    netip.AddrFrom4([4]byte{10, 42, 0, byte(n)}),
	}
}

func ensure(t testing.TB, l *Links, p Pod) {
	t.Helper()
	if err := l.Ensure(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func wrong(t testing.TB, l *Links, p Pod) []string {
	t.Helper()
	w, err := l.Check(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// dial connects from the namespace at from ("" is the node's) and says what went wrong.
func dial(t testing.TB, from, address string) error {
	t.Helper()
	var err error
	try := func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", address, 2*time.Second); err == nil {
			err = c.Close()
		}
	}
	if from == "" {
		try()
	} else {
		nettest.In(t, from, try)
	}
	return err
}

// listen accepts connections in the namespace at path until the test ends.
func listen(t testing.TB, path, address string) {
	t.Helper()
	nettest.In(t, path, func() {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		}()
	})
}

func TestPodsReachEachOtherAndTheNode(t *testing.T) {
	l := open(t, "aaaaaa")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b := makePod(t, 2), makePod(t, 3)
	ensure(t, l, a)
	ensure(t, l, b)
	listen(t, a.Netns, ":8080")
	for _, c := range []struct{ what, from string }{{"node to pod", ""}, {"pod to pod", b.Netns}, {"pod to itself", a.Netns}} {
		if err := dial(t, c.from, "10.42.0.2:8080"); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	for _, p := range []Pod{a, b} {
		if w := wrong(t, l, p); w != nil {
			t.Errorf("check of %s: %v", p.ID, w)
		}
	}
	if w, err := l.CheckNode(t.Context()); err != nil || w != nil {
		t.Errorf("check of the node: %v, %v", w, err)
	}
}

func TestEverythingTakenAwayIsRepaired(t *testing.T) {
	l := open(t, "bbbbbb")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := makePod(t, 2)
	ensure(t, l, p)
	listen(t, p.Netns, ":8080")
	name := linkName("bbbbbb", p.ID, 0)
	inPod := func(args ...string) []string { return append([]string{"nsenter", "--net=" + p.Netns, "ip"}, args...) }
	for _, c := range []struct {
		damage []string
		report string
	}{
		{[]string{"ip", "link", "del", name}, "link of pod " + string(p.ID) + " is missing"},
		{[]string{"ip", "link", "set", name, "down"}, "link " + name + " is down"},
		{[]string{"ip", "link", "set", name, "address", "02:00:00:00:00:01"}, "hardware address of " + name},
		{[]string{"ip", "route", "del", "10.42.0.2"}, "route to 10.42.0.2 by " + name + " is missing"},
		{[]string{"ip", "neigh", "del", "10.42.0.2", "dev", name}, "neighbour entry 10.42.0.2 on"},
		{[]string{"sysctl", "-q", "-w", "net.ipv4.conf." + name + ".route_localnet=0"}, "sysctl route_localnet"},
		{inPod("addr", "del", "10.42.0.2/32", "dev", "eth0"), "addresses of eth0"},
		{inPod("addr", "add", "10.42.0.9/32", "dev", "eth0"), "addresses of eth0"},
		{inPod("link", "set", "eth0", "down"), "eth0 is down"},
		{inPod("link", "del", "eth0"), "link of pod " + string(p.ID) + " is missing"},
		{inPod("route", "del", "default"), "route 0.0.0.0/0 in the pod"},
		{inPod("neigh", "del", "169.254.1.1", "dev", "eth0"), "neighbour entry 169.254.1.1"},
	} {
		what := strings.Join(c.damage, " ")
		nettest.Run(t, c.damage[0], c.damage[1:]...)
		if w := strings.Join(wrong(t, l, p), "\n"); !strings.Contains(w, c.report) {
			t.Errorf("after %q: check says %q, want %q", what, w, c.report)
		}
		ensure(t, l, p)
		if w := wrong(t, l, p); w != nil {
			t.Errorf("after %q and Ensure: %v", what, w)
		}
		if err := dial(t, "", "10.42.0.2:8080"); err != nil {
			t.Errorf("after %q and Ensure: %v", what, err)
		}
	}
}

func TestTheNodesOwnLinkIsRepaired(t *testing.T) {
	l := open(t, "cccccc")
	name := "sh-cccccc-node"
	for _, damage := range [][]string{
		nil,
		{"ip", "link", "del", name},
		{"ip", "link", "set", name, "down"},
		{"ip", "addr", "del", "10.43.0.10/32", "dev", name},
		{"ip", "addr", "del", "10.42.0.1/32", "dev", name},
		{"ip", "route", "del", "10.43.0.0/16"},
		{"ip", "route", "del", "unreachable", "10.42.0.0/24"},
		{"sysctl", "-q", "-w", "net.ipv4.ip_forward=0"},
	} {
		what := strings.Join(damage, " ")
		if damage != nil {
			nettest.Run(t, damage[0], damage[1:]...)
		}
		if w, err := l.CheckNode(t.Context()); err != nil || len(w) == 0 {
			t.Errorf("after %q: nothing reported, %v", what, err)
		}
		if err := l.EnsureNode(t.Context()); err != nil {
			t.Fatalf("after %q: %v", what, err)
		}
		if w, err := l.CheckNode(t.Context()); err != nil || w != nil {
			t.Errorf("after %q and EnsureNode: %v, %v", what, w, err)
		}
	}
}

func TestPurgeLeavesNothing(t *testing.T) {
	nettest.Root(t)
	state := func() string {
		return nettest.Run(t, "ip", "-o", "addr") + nettest.Run(t, "ip", "route", "show", "table", "all") + nettest.Run(t, "sysctl", "net.ipv4.ip_forward")
	}
	nettest.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
	before := state()
	l := open(t, "dddddd")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	ensure(t, l, makePod(t, 2))
	if state() == before {
		t.Fatal("nothing changed")
	}
	if err := l.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := state(); after != before {
		t.Errorf("after Purge:\n%s\nbefore:\n%s", after, before)
	}
}

func TestEventsTellOfOthersDeedsOnly(t *testing.T) {
	l := open(t, "eeeeee")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := makePod(t, 2)
	told := func(wait time.Duration) bool {
		select {
		case <-l.Events():
			return true
		case <-time.After(wait):
			return false
		}
	}
	ensure(t, l, p)
	if err := l.Remove(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	ensure(t, l, p)
	if told(300 * time.Millisecond) {
		t.Error("our own deeds are told as events")
	}
	name := linkName("eeeeee", p.ID, 0)
	for _, damage := range [][]string{
		{"ip", "route", "del", "10.42.0.2"},
		{"ip", "link", "set", name, "down"},
		{"ip", "link", "del", name},
		{"ip", "addr", "del", "10.43.0.10/32", "dev", "sh-eeeeee-node"},
	} {
		nettest.Run(t, damage[0], damage[1:]...)
		if !told(5 * time.Second) {
			t.Errorf("no event after %v", damage)
		}
		ensure(t, l, p)
		for told(50 * time.Millisecond) {
		}
	}
}

func TestRemoveAndList(t *testing.T) {
	l := open(t, "ffffff")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b := makePod(t, 2), makePod(t, 3)
	ensure(t, l, a)
	ensure(t, l, b)
	ensure(t, l, b)
	list := func() string {
		links, err := l.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, k := range links {
			ids = append(ids, string(k.Pod)[34:])
		}
		return strings.Join(ids, " ")
	}
	if got := list(); got != "02 03" && got != "03 02" {
		t.Errorf("List = %q", got)
	}
	for range 2 {
		if err := l.Remove(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(); got != "03" {
		t.Errorf("List after Remove = %q", got)
	}
}

func BenchmarkEnsureNew(b *testing.B) {
	l := open(b, "999999")
	if err := l.EnsureNode(b.Context()); err != nil {
		b.Fatal(err)
	}
	p := makePod(b, 2)
	for b.Loop() {
		ensure(b, l, p)
		b.StopTimer()
		if err := l.Remove(b.Context(), p.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkEnsureAgain(b *testing.B) {
	l := open(b, "999998")
	if err := l.EnsureNode(b.Context()); err != nil {
		b.Fatal(err)
	}
	p := makePod(b, 2)
	for b.Loop() {
		ensure(b, l, p)
	}
}

func BenchmarkCheck(b *testing.B) {
	l := open(b, "999997")
	if err := l.EnsureNode(b.Context()); err != nil {
		b.Fatal(err)
	}
	p := makePod(b, 2)
	ensure(b, l, p)
	for b.Loop() {
		if w := wrong(b, l, p); w != nil {
			b.Fatal(w)
		}
	}
}

// When the kernel drops notifications there is one event all the same, and looking at everything finds what is wrong.
func TestFault_W25_LostNotificationsAreAnEvent(t *testing.T) {
	l := open(t, "abcabc")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := makePod(t, 2)
	ensure(t, l, p)
	l.watch.stop() // nobody reads: the socket's buffer fills
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetReceiveBufferSize(1024, true); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		nettest.Run(t, "ip", "route", "add", fmt.Sprintf("198.51.100.%d/32", i%250), "dev", "lo", "metric", fmt.Sprint(i))
	}
	nettest.Run(t, "ip", "link", "del", linkName("abcabc", p.ID, 0))
	for i := range 300 {
		nettest.Run(t, "ip", "route", "del", fmt.Sprintf("198.51.100.%d/32", i%250), "dev", "lo", "metric", fmt.Sprint(i))
	}
	l.watch = &watcher{socket: s, done: make(chan struct{})}
	go l.run(l.watch)
	select {
	case <-l.Events():
	case <-time.After(10 * time.Second):
		t.Fatal("no event although notifications were lost")
	}
	if w := wrong(t, l, p); len(w) == 0 {
		t.Error("the lost link is not reported")
	}
	ensure(t, l, p)
	if w := wrong(t, l, p); w != nil {
		t.Error(w)
	}
}

// Two pods whose links would have the same name both get one.
func TestNamesThatCollide(t *testing.T) {
	l := open(t, "abcabd")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := makePod(t, 2)
	nettest.Run(t, "ip", "link", "add", linkName("abcabd", p.ID, 0), "type", "veth", "peer", "name", "sh-abcabd-zzzzz")
	nettest.Run(t, "ip", "link", "set", linkName("abcabd", p.ID, 0), "alias", "another-pod")
	ensure(t, l, p)
	if w := wrong(t, l, p); w != nil {
		t.Error(w)
	}
	if err := l.Remove(t.Context(), "another-pod"); err != nil {
		t.Fatal(err)
	}
	ensure(t, l, p) // stays where it is
	if got, _ := l.List(t.Context()); len(got) < 1 || !strings.Contains(fmt.Sprint(got), linkName("abcabd", p.ID, 1)) {
		t.Errorf("List = %v", got)
	}
}

// A maker that died between making the link and marking it, and a pod whose namespace is a new one.
func TestHalfMadeAndForeignLinksAreReplaced(t *testing.T) {
	l := open(t, "abcabe")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := makePod(t, 2)
	nettest.Run(t, "ip", "link", "add", linkName("abcabe", p.ID, 0), "type", "veth", "peer", "name", "eth0", "netns", p.Netns)
	ensure(t, l, p)
	if w := wrong(t, l, p); w != nil {
		t.Error(w)
	}
	p.Netns = nettest.Netns(t) // the pod's sandbox was made anew
	if w := wrong(t, l, p); len(w) == 0 {
		t.Error("a link into another namespace is not reported")
	}
	ensure(t, l, p)
	if w := wrong(t, l, p); w != nil {
		t.Error(w)
	}
	nettest.Run(t, "ip", "link", "set", linkName("abcabe", p.ID, 0), "name", "renamed")
	if w := wrong(t, l, p); len(w) == 0 {
		t.Error("a renamed link is not reported")
	}
	ensure(t, l, p)
	if w := wrong(t, l, p); w != nil {
		t.Error(w)
	}
}

func TestRefusals(t *testing.T) {
	l := open(t, "abcabf")
	if err := l.EnsureNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := makePod(t, 2)
	for _, c := range []struct {
		change func(*Pod)
		want   string
	}{
		{func(p *Pod) { p.IP = netip.MustParseAddr("192.0.2.1") }, "want one of 10.42.0.0/24"},
		{func(p *Pod) { p.IP = netip.MustParseAddr("10.42.0.1") }, "but the first two"},
		{func(p *Pod) { p.Netns = "/nowhere" }, "open network namespace"},
		{func(p *Pod) { p.Netns = "/etc/passwd" }, "enter network namespace"},
	} {
		bad := p
		c.change(&bad)
		if err := l.Ensure(t.Context(), bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if got, _ := l.List(t.Context()); len(got) != 0 {
		t.Errorf("something was half done: %v", got)
	}
	_, err := Open(Options{Instance: "Xyz", MTU: 5})
	for _, want := range []string{"instance", "pod CIDR", "service CIDR", "DNS address", "MTU", "record"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to name %s", err, want)
		}
	}
}

// With many pods a look at one costs what it costs with few.
func BenchmarkCheckAmong100(b *testing.B) {
	l := open(b, "999996")
	if err := l.EnsureNode(b.Context()); err != nil {
		b.Fatal(err)
	}
	var pods []Pod
	for i := range 100 {
		p := makePod(b, 2+i)
		ensure(b, l, p)
		pods = append(pods, p)
	}
	for i := 0; b.Loop(); i++ {
		if w := wrong(b, l, pods[i%len(pods)]); w != nil {
			b.Fatal(w)
		}
	}
}
