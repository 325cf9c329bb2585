package nettest_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
	"github.com/shoal-dev/shoal/nodeagent/tunnel"
)

// tunnelRole has this binary be the process of a tunnel.
const tunnelRole = "tunnel-child"

// tunnelMain is that process. It would outlive a test that is killed, and so looks after it.
func tunnelMain(args []string) int {
	go func() {
		test, _ := strconv.Atoi(os.Getenv("SHOAL_TUNNEL_TEST"))
		for unix.Kill(test, 0) == nil {
			time.Sleep(500 * time.Millisecond)
		}
		os.Exit(0)
	}()
	return tunnel.Main(args)
}

const tunnelPort = 51820

// end is a node's tunnel, and what the others know of it.
type end struct {
	*tunnel.Tunnel
	known   cluster.Tunnel
	options tunnel.Options
}

// anew is another agent's.
func (e *end) anew() *end {
	return &end{tunnel.New(e.options), e.known, e.options}
}

// encrypted gives nodes a tunnel each.
func encrypted(t testing.TB) func(*links.Options) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SHOAL_TUNNEL_TEST", strconv.Itoa(os.Getpid()))
	return func(o *links.Options) {
		dir, err := os.MkdirTemp("", "wg") // sockets want short names
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		seed := sha256.Sum256([]byte(o.Instance))
		key, err := tunnel.PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			t.Fatal(err)
		}
		e := &end{known: cluster.Tunnel{Key: tunnel.PublicKey(key), Port: tunnelPort}, options: tunnel.Options{
			Device: links.TunnelName(o.Instance), Command: []string{self, tunnelRole}, RunDir: filepath.Join(dir, "run"), Sockets: dir, Key: key, Port: tunnelPort,
		}}
		e.Tunnel = tunnel.New(e.options)
		o.Tunnel, o.Encrypt = e, true
	}
}

func (m *member) wg() string { return links.TunnelName(m.instance) }

func (m *member) end() *end { return m.options.Tunnel.(*end) }

// reopen is another agent on the machine, with other options perhaps.
func (m *member) reopen(change func(*links.Options)) {
	m.Helper()
	m.links.Close()
	o := m.options
	if e, ok := o.Tunnel.(*end); ok {
		e.Close()
		o.Tunnel = e.anew()
	}
	if change != nil {
		change(&o)
	}
	m.options = o
	m.within(func() (err error) {
		if m.links, err = links.Open(o); err != nil {
			return err
		}
		return m.links.EnsureNode(m.Context())
	})
}

// capture counts what passes through the networks of a namespace: packets of pods as they are, alone or wrapped, and
// encrypted ones.
type capture struct {
	plain, sealed, marked atomic.Int64
	socket                *os.File
}

func newCapture(t testing.TB, netns string) *capture {
	t.Helper()
	c := &capture{}
	nettest.In(t, netns, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})))
		if err != nil {
			t.Error(err)
			return
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		c.socket = os.NewFile(uintptr(fd), "packets")
	})
	t.Cleanup(func() { c.socket.Close() })
	go func() {
		b := make([]byte, 70<<10)
		for {
			n, err := c.socket.Read(b)
			if err != nil {
				return
			}
			c.see(b[:n])
		}
	}()
	return c
}

func (c *capture) see(frame []byte) {
	if bytes.Contains(frame, []byte("shoal---shoal---")) || bytes.Contains(frame, []byte("hello")) {
		c.marked.Add(1)
	}
	if len(frame) < 34 || frame[12] != 8 || frame[13] != 0 {
		return
	}
	ip := frame[14:]
	udp := ip[(ip[0]&15)*4:]
	switch {
	case ip[12] == 10 && ip[13] == 42, ip[16] == 10 && ip[17] == 42:
		c.plain.Add(1)
	case ip[9] == unix.IPPROTO_UDP && len(udp) >= 8 && binary.BigEndian.Uint16(udp[2:]) == 4789:
		c.plain.Add(1)
	case ip[9] == unix.IPPROTO_UDP && len(udp) >= 8 && binary.BigEndian.Uint16(udp[2:]) == tunnelPort:
		c.sealed.Add(1)
	}
}

func (c *capture) String() string {
	time.Sleep(100 * time.Millisecond) // until what was sent was read
	return fmt.Sprintf("%d packets of pods in clear, %d with their words, %d encrypted", c.plain.Load(), c.marked.Load(), c.sealed.Load())
}

func (c *capture) reset() { c.plain.Store(0); c.marked.Store(0); c.sealed.Store(0) }

// secret wants that there was something to see, and that none of it could be read.
func (c *capture) secret(t testing.TB, what string) {
	t.Helper()
	if s := c.String(); c.plain.Load() != 0 || c.marked.Load() != 0 || c.sealed.Load() == 0 {
		t.Errorf("%s: %s", what, s)
	}
}

// Every pod reaches every pod, and whoever listens to the network reads nothing of it: on one network, behind a router, and
// where packets were wrapped else. So do large packets, those of pods that were made with a larger MTU too.
func TestFeature_Wireguard_NothingIsSentInClear(t *testing.T) {
	for _, c := range []struct {
		name    string
		routed  bool
		overlay links.Overlay
	}{{"one network", false, links.Auto}, {"router between", true, links.Auto}, {"everything wrapped", false, links.Always}, {"nothing wrapped", true, links.Never}} {
		t.Run(c.name, func(t *testing.T) {
			with := encrypted(t)
			town := newTown(t, c.routed, func(o *links.Options) { with(o); o.Overlay = c.overlay })
			seen := newCapture(t, town.lan.Netns)
			var pods []pod
			for _, n := range town.nodes {
				pods = append(pods, n.pod(2)) // before its node knows of others
			}
			meet(town.nodes...)
			for _, n := range town.nodes {
				pods = append(pods, n.pod(3))
			}
			for _, from := range pods {
				for _, to := range pods {
					for _, network := range []string{"tcp4", "udp4"} {
						if got, want := ask(t, from.netns, network, to.ip.String()+":8080"), to.name+" "+from.ip.String(); got != want {
							t.Errorf("%s to %s over %s: %q, want %q", from.name, to.name, network, got, want)
						}
					}
					if from == to {
						continue
					}
					if err := exchange(t, from.netns, "tcp4", to.ip, 1<<20); err != nil {
						t.Errorf("%s to %s, 1 MiB over tcp: %v", from.name, to.name, err)
					}
					if err := exchange(t, from.netns, "udp4", to.ip, 4000); err != nil {
						t.Errorf("%s to %s, 4000 bytes over udp: %v", from.name, to.name, err)
					}
				}
				for _, n := range town.nodes {
					want := from.name + " " + n.podIP(1).String()
					if got := ask(t, n.netns, "tcp4", from.ip.String()+":8080"); got != want {
						t.Errorf("node %d to %s: %q, want %q", n.number, from.name, got, want)
					}
				}
			}
			for _, n := range town.nodes {
				if d := n.drift(); d != nil {
					t.Errorf("node %d: %v", n.number, d)
				}
				if out := nettest.RunIn(t, n.netns, "ip", "-br", "link"); strings.Contains(out, "-vx") {
					t.Errorf("node %d wraps:\n%s", n.number, out)
				}
			}
			if got := nettest.RunIn(t, pods[3].netns, "ip", "-o", "link", "show", "eth0"); !strings.Contains(got, "mtu 1440 ") {
				t.Errorf("a new pod: %s, want MTU 1440", got)
			}
			seen.secret(t, "all to all")
		})
	}
}

// The test above would see it: a route beside the tunnel lets nothing out as long as the firewall stands, and words of pods
// when it is gone too.
func TestFeature_Wireguard_ARouteBesideItLetsNothingOut(t *testing.T) {
	town := newTown(t, false, encrypted(t))
	meet(town.nodes...)
	seen := newCapture(t, town.lan.Netns)
	a, b := town.nodes[0], town.nodes[1]
	client, server := a.pod(2), b.pod(2)
	for _, n := range []*member{a, b} {
		other := map[*member]*member{a: b, b: a}[n]
		nettest.RunIn(t, n.netns, "ip", "route", "add", other.cidr().String(), "via", other.address.String(), "dev", "eth0") // of metric 0
	}
	ask(t, client.netns, "udp4", server.ip.String()+":8080")
	if s := seen.String(); seen.plain.Load() != 0 {
		t.Errorf("with a route before ours: %s", s)
	}
	a.within(func() error { return a.rules.Purge(t.Context()) })
	ask(t, client.netns, "udp4", server.ip.String()+":8080")
	if s := seen.String(); seen.marked.Load() == 0 {
		t.Errorf("without rules: %s, want to see some: the test is blind", s)
	}
}

// Nodes without WireGuard are reached as before, and named; a strict node has nothing to do with them.
func TestFeature_Wireguard_NodesWithoutIt(t *testing.T) {
	for _, routed := range []bool{false, true} {
		t.Run(fmt.Sprintf("routed %v", routed), func(t *testing.T) {
			with := encrypted(t)
			town := newTown(t, routed, func(o *links.Options) {
				if o.Instance != "ab12c3" {
					with(o)
				}
			})
			a, b, bare := town.nodes[0], town.nodes[1], town.nodes[2]
			meet(town.nodes...)
			pods := []pod{a.pod(2), b.pod(2), bare.pod(2)}
			for _, from := range pods {
				for _, to := range pods {
					if got, want := ask(t, from.netns, "tcp4", to.ip.String()+":8080"), to.name+" "+from.ip.String(); got != want {
						t.Errorf("%s to %s: %q, want %q", from.name, to.name, got, want)
					}
				}
			}
			if got := fmt.Sprint(a.links.Clear(), bare.links.Clear()); got != "[{n3 false}] []" {
				t.Errorf("nodes that nothing is encrypted for: %s", got)
			}
			for _, n := range []*member{a, b} {
				n.tables.Strict = true
				n.apply()
			}
			for _, c := range []struct {
				from, to pod
				want     string
			}{{pods[0], pods[1], pods[1].name}, {pods[1], pods[0], pods[0].name}, {pods[0], pods[2], "error"}, {pods[2], pods[0], "error"}} {
				if got := ask(t, c.from.netns, "tcp4", c.to.ip.String()+":8080"); !strings.HasPrefix(got, c.want) {
					t.Errorf("strict, %s to %s: %q, want %s", c.from.name, c.to.name, got, c.want)
				}
			}
			if got := ask(t, pods[0].netns, "tcp4", pods[2].ip.String()+":8080"); !strings.HasSuffix(got, "no route to host") {
				t.Errorf("strict, to a node without it: %q, want to hear so at once", got)
			}
			if got := fmt.Sprint(a.links.Clear()); got != "[{n3 true}]" {
				t.Errorf("strict, nodes that are not reached: %s", got)
			}
			for _, n := range town.nodes {
				if d := n.drift(); d != nil {
					t.Errorf("node %d: %v", n.number, d)
				}
			}
		})
	}
}

// A strict node drops what says that it comes from another node's pods and did not come encrypted.
func TestFeature_Wireguard_StrictDropsWhatIsForged(t *testing.T) {
	town := newTown(t, false, encrypted(t))
	meet(town.nodes...)
	a, third := town.nodes[0], town.nodes[2]
	server := third.pod(2)
	var heard net.PacketConn
	nettest.In(t, server.netns, func() {
		var err error
		if heard, err = net.ListenPacket("udp4", ":9999"); err != nil {
			t.Error(err)
		}
	})
	defer func() { _ = heard.Close() }()
	nettest.RunIn(t, town.outside, "ip", "route", "add", third.cidr().String(), "via", third.address.String())
	nettest.RunIn(t, town.outside, "ip", "addr", "add", "10.42.1.9/32", "dev", "lo")
	arrives := func(from string) bool {
		nettest.In(t, town.outside, func() {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
			c, err := d.Dial("udp4", server.ip.String()+":9999")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = c.Write([]byte("x"))
		})
		_ = heard.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, _, err := heard.ReadFrom(make([]byte, 100))
		return err == nil
	}
	third.within(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0) })
	if !arrives("10.42.1.9") {
		t.Fatal("what is not strict lets it through: the test is wrong")
	}
	for _, n := range town.nodes {
		n.tables.Strict = true
		n.apply()
	}
	if arrives("10.42.1.9") {
		t.Error("a packet in the name of another node's pod arrives")
	}
	if !arrives("192.0.2.9") {
		t.Error("one of a machine beside the ring does not")
	}
	client := a.pod(2)
	if got := ask(t, client.netns, "tcp4", server.ip.String()+":8080"); !strings.HasPrefix(got, server.name) {
		t.Errorf("encrypted: %q", got)
	}
}

// Who has not the key that the ledger says gets nothing, and can say nothing.
func TestFeature_Wireguard_WrongKey(t *testing.T) {
	town := newTown(t, false, encrypted(t))
	a, b := town.nodes[0], town.nodes[1]
	seed := sha256.Sum256([]byte("somebody else"))
	other, err := tunnel.PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	right := b.tables.Tunnel
	b.tables.Tunnel.Key = tunnel.PublicKey(other) // as a knows it
	meet(a, b)
	client, server := a.pod(2), b.pod(2)
	for _, c := range []struct{ from, to pod }{{client, server}, {server, client}} {
		if got := ask(t, c.from.netns, "udp4", c.to.ip.String()+":8080"); !strings.HasPrefix(got, "error") {
			t.Errorf("%s to %s: %q", c.from.name, c.to.name, got)
		}
	}
	b.tables.Tunnel = right
	meet(a, b)
	if got := ask(t, client.netns, "tcp4", server.ip.String()+":8080"); !strings.HasPrefix(got, server.name) {
		t.Errorf("with the right key: %q", got)
	}
}

// flow is a connection over which lines go and come until it is told to end; it fails when one does not come back.
func flow(t testing.TB, from string, to netip.Addr) (end func() flowed) {
	t.Helper()
	c, err := connect(t, from, "tcp4", to.String()+":8081")
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	var f flowed
	go func() {
		defer close(done)
		defer c.Close()
		b := make([]byte, 16)
		for {
			select {
			case <-stop:
				f.again = retransmitted(c)
				return
			case <-time.After(2 * time.Millisecond):
			}
			begun := time.Now()
			_ = c.SetDeadline(begun.Add(20 * time.Second))
			if _, err := c.Write([]byte("0123456789abcdef")); err != nil {
				t.Errorf("after %d lines: %v", f.lines, err)
				return
			}
			for got := 0; got < len(b); {
				n, err := c.Read(b[got:])
				if err != nil {
					t.Errorf("after %d lines: %v", f.lines, err)
					return
				}
				got += n
			}
			f.lines++
			f.slowest = max(f.slowest, time.Since(begun))
		}
	}()
	return func() flowed { close(stop); <-done; return f }
}

// flowed is what became of a flow.
type flowed struct {
	lines   int
	again   int // packets that were sent again
	slowest time.Duration
}

func (f flowed) String() string {
	return fmt.Sprintf("%d lines, %d packets sent again, the slowest took %v", f.lines, f.again, f.slowest.Round(time.Millisecond))
}

func retransmitted(c net.Conn) (packets int) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				packets = int(info.Total_retrans)
			}
		})
	}
	return packets
}

// Another agent finds the process, and no packet is lost by that; one that was killed is replaced, and connections go on.
func TestFeature_Wireguard_TheProcessOutlivesItsAgent(t *testing.T) {
	town := newTown(t, false, encrypted(t))
	meet(town.nodes...)
	a, b := town.nodes[0], town.nodes[1]
	client, server := a.pod(2), b.pod(2)
	seen := newCapture(t, town.lan.Netns)
	pid := a.end().pid()
	if pid == 0 {
		t.Fatal("nobody holds the lock")
	}
	ended := flow(t, client.netns, server.ip)
	for range 3 {
		a.reopen(nil)
		meet(town.nodes...)
		if now := a.end().pid(); now != pid {
			t.Errorf("process %d was replaced by %d", pid, now)
		}
		if d := a.drift(); d != nil {
			t.Errorf("another agent: %v", d)
		}
	}
	if f := ended(); f.again > 0 {
		t.Errorf("while agents came and went: %s", f)
	}
	ended = flow(t, client.netns, server.ip)
	time.Sleep(100 * time.Millisecond)
	for len(a.links.Events()) > 0 {
		<-a.links.Events()
	}
	killed(t, a.end())
	select {
	case <-a.links.Events():
	case <-time.After(3 * time.Second):
		t.Error("no event when the process was killed")
	}
	if d := a.drift(); !slices.Equal(d, []string{"WireGuard's process is gone"}) {
		t.Errorf("drift: %q", d)
	}
	a.ensureNode()
	if d := a.drift(); d != nil {
		t.Errorf("drift after the repair: %q", d)
	}
	if now := a.end().pid(); now == pid || now == 0 {
		t.Errorf("process %d after %d", now, pid)
	}
	time.Sleep(500 * time.Millisecond)
	t.Log(ended())
	seen.secret(t, "a process that is killed")
	// One of another version is replaced, too.
	pid = a.end().pid()
	if err := os.WriteFile(filepath.Join(a.end().options.RunDir, "lock"), []byte("999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.reopen(nil)
	meet(town.nodes...)
	if now := a.end().pid(); now == pid || now == 0 {
		t.Errorf("a process of another version: %d, now %d", pid, now)
	}
	if got := ask(t, client.netns, "tcp4", server.ip.String()+":8080"); !strings.HasPrefix(got, server.name) {
		t.Error(got)
	}
}

// killed kills the process of a tunnel, and waits until it is gone.
func killed(t testing.TB, e *end) {
	t.Helper()
	_ = unix.Kill(e.pid(), unix.SIGKILL)
	for begun := time.Now(); e.pid() != 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the process does not end")
		}
	}
}

// What others do to the device and its peers is told and put back.
func TestFeature_Wireguard_IsRepaired(t *testing.T) {
	town := newTown(t, true, encrypted(t))
	meet(town.nodes...)
	a := town.nodes[0]
	client := a.pod(2)
	servers := []pod{town.nodes[1].pod(2), town.nodes[2].pod(2)}
	wg := a.wg()
	uapi := func(lines string) func() {
		return func() {
			c, err := net.Dial("unix", filepath.Join(a.end().options.Sockets, wg+".sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "set=1\n%s\n\n", lines)
			b := make([]byte, 100)
			if n, _ := c.Read(b); !strings.HasPrefix(string(b[:n]), "errno=0") {
				t.Errorf("%s: %s", lines, b[:n])
			}
		}
	}
	run := func(command string) func() {
		args := strings.Fields(command)
		return func() { nettest.RunIn(t, a.netns, args[0], args[1:]...) }
	}
	key := hexKey(t, town.nodes[1].tables.Tunnel.Key)
	for _, d := range []struct {
		name   string
		damage func()
		report string
	}{
		{"link", func() {
			run("ip link del " + wg)()
			time.Sleep(300 * time.Millisecond) // its process ends
		}, "link " + wg + " is missing"},
		{"down", run("ip link set " + wg + " down"), "link " + wg + " is down"},
		{"address", run("ip addr del 169.254.1.3/32 dev " + wg), "address 169.254.1.3/32 of " + wg + " is missing"},
		{"mtu", run("ip link set " + wg + " mtu 1000"), "MTU of " + wg + " is 1000, want 1440"},
		{"sysctl", run("sysctl -q -w net.ipv4.conf." + wg + ".rp_filter=1"), "sysctl rp_filter of " + wg},
		{"route", run("ip route del 10.42.2.0/24"), "route to the pods of node n2, 10.42.2.0/24, is missing"},
		{"detour", run("ip route replace 10.42.2.0/24 via 192.0.2.254 proto 83 metric 11211457"), "route to the pods of node n2, 10.42.2.0/24, leads elsewhere"},
		{"peer removed", uapi("public_key=" + key + "\nremove=true"), "WireGuard peer of node n2 is missing"},
		{"peer added", uapi("public_key=" + strings.Repeat("ab", 32) + "\nallowed_ip=10.42.9.0/24"), "WireGuard peer q6urq6ur is not wanted"},
		{"allowed", uapi("public_key=" + key + "\nallowed_ip=10.42.0.0/16"), "WireGuard peer of node n2 was changed"},
		{"keepalive", uapi("public_key=" + key + "\npersistent_keepalive_interval=25"), "WireGuard peer of node n2 was changed"},
		{"preshared", uapi("public_key=" + key + "\npreshared_key=" + strings.Repeat("12", 32)), "WireGuard peer of node n2 was changed"},
		{"port", uapi("listen_port=5555"), "WireGuard's port is 5555, want 51820"},
		{"key", uapi("private_key=" + strings.Repeat("18", 32)), "WireGuard's key was changed"},
		{"socket", func() { _ = os.Remove(filepath.Join(a.end().options.Sockets, wg+".sock")) }, "WireGuard's process does not answer"},
		{"process", func() { killed(t, a.end()) }, "WireGuard's process is gone"},
		{"no device", func() { run("ip link del " + wg)(); run("ip link add " + wg + " type bridge")() }, "link " + wg + " is no TUN device"},
	} {
		d.damage()
		got := a.drift()
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, d.report) }) {
			t.Errorf("%s: %q, want %q", d.name, got, d.report)
		}
		a.ensureNode()
		if got := a.drift(); got != nil {
			t.Errorf("%s, after its repair: %q", d.name, got)
		}
		for _, s := range servers {
			// A greeting that crosses another one is repeated by WireGuard after 5 s, as when the key was exchanged twice.
			var got string
			want := s.name + " 10.42.1.2"
			for begun := time.Now(); got != want && time.Since(begun) < 15*time.Second; {
				got = ask(t, client.netns, "tcp4", s.ip.String()+":8080")
			}
			if got != want {
				t.Errorf("%s, after its repair: %q, want %q", d.name, got, want)
			}
		}
	}
}

// A router in the middle passes on less than the interfaces at both ends.
func TestFeature_Wireguard_ANarrowPath(t *testing.T) {
	town := newTown(t, true, encrypted(t))
	nettest.RunIn(t, town.far.Netns, "ip", "link", "set", "far", "mtu", "1300")
	early := town.nodes[0].pod(3)
	meet(town.nodes...)
	a, b := town.nodes[0].pod(2), town.nodes[2].pod(2)
	for what, where := range map[string][2]string{"device": {town.nodes[0].netns, town.nodes[0].wg()}, "a new pod": {a.netns, "eth0"}} {
		if got := nettest.RunIn(t, where[0], "ip", "-o", "link", "show", where[1]); !strings.Contains(got, "mtu 1232 ") {
			t.Errorf("%s: %s, want MTU 1232", what, got)
		}
	}
	for _, from := range []pod{a, early} {
		for network, size := range map[string]int{"tcp4": 1 << 20, "udp4": 4000} {
			if err := exchange(t, from.netns, network, b.ip, size); err != nil {
				t.Errorf("%d bytes over %s: %v", size, network, err)
			}
		}
	}
	// It becomes narrower still, which no probe has found out.
	nettest.RunIn(t, town.far.Netns, "ip", "link", "set", "far", "mtu", "1100")
	if err := exchange(t, a.netns, "tcp4", b.ip, 1<<20); err != nil {
		t.Errorf("1 MiB over a path that became narrower: %v", err)
	}
}

// A node's address changes: it is followed by what the ledger says of it.
func TestFeature_Wireguard_ANodeMoves(t *testing.T) {
	town := newTown(t, true, encrypted(t))
	meet(town.nodes...)
	a, b := town.nodes[0], town.nodes[1]
	client, server := a.pod(2), b.pod(2)
	town.far.Plug(b.netns, "eth1", "198.51.100.2/24")
	ended := flow(t, client.netns, server.ip)
	for _, at := range []struct{ address, leaves, enters, gateway string }{
		{"198.51.100.2", "eth0", "eth1", "198.51.100.254"}, {"192.0.2.2", "eth1", "eth0", "192.0.2.254"},
	} {
		nettest.RunIn(t, b.netns, "ip", "link", "set", at.leaves, "down")
		nettest.RunIn(t, b.netns, "ip", "link", "set", at.enters, "up")
		nettest.RunIn(t, b.netns, "ip", "route", "replace", "default", "via", at.gateway)
		b.address = netip.MustParseAddr(at.address)
		b.tables.Address = b.address
		meet(town.nodes...)
		if got, want := ask(t, client.netns, "tcp4", server.ip.String()+":8080"), server.name+" 10.42.1.2"; got != want {
			t.Errorf("node 2 at %s: %q, want %q", at.address, got, want)
		}
		for _, n := range town.nodes {
			n.ensureNode()
			if d := n.drift(); d != nil {
				t.Errorf("node 2 at %s, node %d: %v", at.address, n.number, d)
			}
		}
	}
	t.Log(ended())
}

// A ring goes over node by node while requests go on: to it, to strictness, and back.
func TestFeature_Wireguard_ARingGoesOver(t *testing.T) {
	with := encrypted(t)
	town := newTown(t, false, func(o *links.Options) { with(o); o.Encrypt = false })
	meet(town.nodes...)
	seen := newCapture(t, town.lan.Netns)
	var pods []pod
	for _, n := range town.nodes {
		pods = append(pods, n.pod(2))
	}
	var flows []func() flowed
	for i := range pods {
		flows = append(flows, flow(t, pods[i].netns, pods[(i+1)%3].ip), flow(t, pods[i].netns, pods[(i+2)%3].ip))
	}
	for _, n := range town.nodes {
		n.reopen(func(o *links.Options) { o.Encrypt = true })
		meet(town.nodes...) // the agent is there, and the others do not know it yet
		n.tables.Tunnel = n.end().known
		slices.Reverse(town.nodes) // whoever hears of it first
		meet(town.nodes...)
		slices.Reverse(town.nodes)
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond)
	seen.reset()
	for _, n := range town.nodes {
		n.tables.Strict = true
		n.apply()
		time.Sleep(100 * time.Millisecond)
	}
	seen.secret(t, "strict")
	for _, n := range town.nodes {
		n.tables.Strict = false
		n.apply()
	}
	for _, n := range town.nodes {
		n.reopen(func(o *links.Options) { o.Encrypt = false })
		n.tables.Tunnel = cluster.Tunnel{}
		meet(town.nodes...)
		if pid := n.end().pid(); pid != 0 {
			t.Errorf("off, and process %d runs", pid)
		}
	}
	for _, f := range flows {
		if f := f(); f.slowest > 3*time.Second { // a greeting that was lost is repeated after 5 s
			t.Error(f)
		} else {
			t.Log(f)
		}
	}
	for _, n := range town.nodes {
		if s := n.state(); strings.Contains(s, n.wg()) {
			t.Errorf("off: node %d has still\n%s", n.number, s)
		}
		if d := n.drift(); d != nil {
			t.Errorf("off: node %d: %v", n.number, d)
		}
	}
}

// Nothing of it is left by Purge, and it can be done twice.
func TestFeature_Wireguard_PurgeLeavesNothing(t *testing.T) {
	town := newTown(t, false, encrypted(t))
	meet(town.nodes...)
	a := town.nodes[0]
	pid := a.end().pid()
	for range 2 {
		a.within(func() error { return a.links.Purge(context.Background()) })
	}
	if unix.Kill(pid, 0) == nil {
		t.Errorf("process %d lives", pid)
	}
	if s := a.state(); strings.Contains(s, a.wg()) {
		t.Errorf("left:\n%s", s)
	}
	if entries, _ := os.ReadDir(a.end().options.Sockets); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

// A port that is taken is said, and nothing goes out in clear because of it.
func TestFeature_Wireguard_PortIsTaken(t *testing.T) {
	nettest.Root(t)
	lan := nettest.NewSegment(t, "", "lan")
	with := encrypted(t)
	a := join(t, 1, lan.Machine("192.0.2.1/24", ""), "192.0.2.1", with)
	b := join(t, 2, lan.Machine("192.0.2.2/24", ""), "192.0.2.2", with)
	seen := newCapture(t, lan.Netns)
	nettest.In(t, a.netns, func() {
		taken, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", tunnelPort))
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { taken.Close() })
	})
	meet(b)
	a.tables.Routes = []wire.Route{{Node: b.id(), CIDR: b.cidr(), Via: b.address, Tunnel: b.tables.Tunnel}}
	a.within(func() error {
		if err := a.links.Routes(t.Context(), a.tables); err == nil || !strings.Contains(err.Error(), "UDP port 51820: ") || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("error %v", err)
		}
		return a.rules.Apply(t.Context(), a.tables)
	})
	client := a.pod(2)
	if got := ask(t, client.netns, "udp4", b.podIP(2).String()+":8080"); !strings.HasPrefix(got, "error") {
		t.Errorf("%q", got)
	}
	if s := seen.String(); seen.plain.Load() != 0 {
		t.Error(s)
	}
}
