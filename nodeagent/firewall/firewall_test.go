package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

func TestMain(m *testing.M) {
	if os.Getenv(flipping) != "" { // the agent of TestFault_W3, which is in the namespaces already
		fmt.Fprintln(os.Stderr, "flip:", flip())
		os.Exit(1)
	}
	nettest.Main(m)
}

func openFirewall(t testing.TB, instance string) *Firewall {
	t.Helper()
	nettest.Root(t)
	f, err := Open(Options{Instance: instance})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Purge(context.Background()); err != nil {
			t.Error(err)
		}
		f.Close()
	})
	return f
}

func base(ports ...wire.Port) wire.Tables {
	return wire.Tables{
		PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), Cluster: netip.MustParsePrefix("10.42.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"), DNS: netip.MustParseAddrPort("10.43.0.10:53"), Domain: "cluster.local",
		Ports:   ports,
		Overlay: wire.Overlay{VNI: 0xab12cd, Port: 4789},
		Routes:  []wire.Route{{Node: "n2", CIDR: netip.MustParsePrefix("10.42.1.0/24"), Via: netip.MustParseAddr("192.0.2.2")}},
	}
}

func endpoints(s ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range s {
		out = append(out, netip.MustParseAddrPort(e))
	}
	return out
}

// shop is two services: one with all there is, one with session affinity over UDP; and a pod that is isolated.
func shop() wire.Tables {
	web := endpoints("10.42.0.2:8080", "10.42.1.3:8080")
	t := base(
		wire.Port{Service: "default/game", Protocol: wire.UDP, ClusterIP: netip.MustParseAddr("10.43.0.8"), Port: 27015, Affinity: 600, Endpoints: endpoints("10.42.0.4:27015")},
		wire.Port{Service: "default/none", Protocol: wire.TCP, ClusterIP: netip.MustParseAddr("10.43.0.9"), Port: 80, NodePort: 30081},
		wire.Port{Service: "default/web", Name: "http", Protocol: wire.TCP, ClusterIP: netip.MustParseAddr("10.43.0.7"), Port: 80, NodePort: 30080, Endpoints: web, External: web},
	)
	t.Isolated = []wire.Isolation{isolation("pr-12", "10.42.0.5", "10.42.1.6")}
	return t
}

// isolation is of a pod that may speak to itself and to others.
func isolation(name, from string, to ...string) wire.Isolation {
	i := wire.Isolation{Name: name, From: []netip.Addr{netip.MustParseAddr(from)}}
	i.To = slices.Clone(i.From)
	for _, a := range to {
		i.To = append(i.To, netip.MustParseAddr(a))
	}
	slices.SortFunc(i.To, netip.Addr.Compare)
	return i
}

func apply(t testing.TB, f *Firewall, tables wire.Tables) {
	t.Helper()
	if err := f.Apply(t.Context(), tables); err != nil {
		t.Fatal(err)
	}
}

func drift(t testing.TB, f *Firewall) []string {
	t.Helper()
	d, err := f.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func list(t testing.TB, instance string) string {
	t.Helper()
	return nettest.Run(t, "nft", "list", "table", "ip", tableName(instance))
}

// golden compares with testdata/name, or writes it with UPDATE=1 in the environment.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestRulesAsNftListsThem(t *testing.T) {
	f := openFirewall(t, "aaaaaa")
	apply(t, f, shop())
	golden(t, "shop.nft", list(t, "aaaaaa"))
}

// Everything in our table is deleted, changed or added to in turn; each is reported and repaired to the letter.
func TestEveryChangeByOthersIsFoundAndRepaired(t *testing.T) {
	f := openFirewall(t, "bbbbbb")
	apply(t, f, shop())
	table := "ip shoal-bbbbbb"
	want := blocks(list(t, "bbbbbb"))
	var damages []string
	for chain, rules := range handles(t, "bbbbbb") {
		damages = append(damages, "flush chain "+table+" "+chain, "add rule "+table+" "+chain+" ip daddr 192.0.2.9 drop", "insert rule "+table+" "+chain+" ip saddr 192.0.2.9 accept")
		for i := range rules {
			damages = append(damages, fmt.Sprintf("delete rule %s %s handle %d", table, chain, i))
		}
	}
	if len(damages) < 60 {
		t.Fatalf("only %d kinds of damage: %q", len(damages), damages)
	}
	damages = append(damages,
		"flush ruleset",
		"delete table "+table,
		"flush table "+table,
		"flush map "+table+" service-ports",
		"flush map "+table+" ep-1",
		"flush set "+table+" hairpin",
		"delete element "+table+" service-ports { 10.43.0.7 . tcp . 80 }",
		"add element "+table+" service-ports { 10.43.0.99 . tcp . 80 : goto cnt-2 }",
		"delete element "+table+" service-ports { 10.43.0.7 . tcp . 80 }; add element "+table+" service-ports { 10.43.0.7 . tcp . 80 : drop }",
		"delete element "+table+" ep-1 { 10.43.0.7 . tcp . 80 }",
		"delete element "+table+" ep-1 { 10.43.0.7 . tcp . 80 }; add element "+table+" ep-1 { 10.43.0.7 . tcp . 80 : 192.0.2.66 . 666 }",
		"delete element "+table+" node-ports { tcp . 30080 }",
		"flush map "+table+" isolated-pods",
		"delete element "+table+" isolated-pods { 10.42.0.5 }; add element "+table+" isolated-pods { 10.42.0.5 : accept }",
		"add element "+table+" iso-pr-12 { 192.0.2.66 }",
		"add element "+table+" hairpin { 10.42.0.77 . 10.42.0.77 }",
		"add chain "+table+" cnt-7",
		"add chain "+table+" extra { type filter hook input priority 0; policy drop; }",
		"add set "+table+" extra { type ipv4_addr; }",
		"chain "+table+" filter-forward { policy drop; }",
		"delete chain "+table+" nat-prerouting",
	)
	for _, damage := range damages {
		if rule, n, found := strings.Cut(damage, " handle "); found { // the n-th: handles change with every repair
			i, _ := strconv.Atoi(n)
			damage = rule + " handle " + handles(t, "bbbbbb")[strings.Fields(rule)[4]][i]
		}
		if out, err := exec.Command("nft", damage).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v\n%s", damage, err, out)
		}
		if len(drift(t, f)) == 0 {
			t.Errorf("after %q nothing is reported", damage)
		}
		apply(t, f, shop())
		if d := drift(t, f); d != nil {
			t.Errorf("after %q and Apply: %v", damage, d)
		}
		if got := blocks(list(t, "bbbbbb")); got != want {
			t.Errorf("after %q and Apply:\n%s\nwant:\n%s", damage, got, want)
			want = got
		}
	}
}

// blocks is a listed table with its chains and sets in the order of their names.
func blocks(listed string) string {
	b := strings.Split(strings.TrimSuffix(strings.TrimSpace(listed), "\n}"), "\n\n")
	slices.Sort(b[1:])
	return strings.Join(b, "\n\n")
}

// handles lists the handles of the rules of every chain.
func handles(t *testing.T, instance string) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	chain := ""
	for line := range strings.SplitSeq(nettest.Run(t, "nft", "-a", "list", "table", "ip", tableName(instance)), "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && fields[0] == "chain":
			chain = fields[1]
			out[chain] = nil
		case chain != "" && strings.Contains(line, "# handle") && fields[0] != "type":
			out[chain] = append(out[chain], fields[len(fields)-1])
		}
	}
	return out
}

// What nft lists of our table, nft can load: somebody will save the ruleset and load it at boot.
func TestTheListedRulesetCanBeLoaded(t *testing.T) {
	f := openFirewall(t, "abc123")
	tables := shop()
	for i := range 300 {
		tables.Ports[2].Endpoints = append(tables.Ports[2].Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, 7, byte(i)}), uint16(9000+i)))
	}
	apply(t, f, tables)
	before := list(t, "abc123")
	file := filepath.Join(t.TempDir(), "saved.nft")
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	nettest.Run(t, "nft", "flush ruleset")
	nettest.Run(t, "nft", "-f", file)
	if after := list(t, "abc123"); after != before {
		t.Errorf("loaded:\n%s\nsaved:\n%s", after, before)
	}
	apply(t, f, tables)
	if d := drift(t, f); d != nil {
		t.Error(d)
	}
}

func TestFault_W2_OthersTablesAreLeftAlone(t *testing.T) {
	f := openFirewall(t, "cccccc")
	foreign := `
		table ip other {
			set s { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
			chain c { type filter hook forward priority 5; policy accept; ip saddr @s counter drop; }
		}
		table inet shoal-cccccc { chain c { }; }
		table ip shoal-dddddd { chain services { }; }`
	nettest.Run(t, "nft", foreign)
	t.Cleanup(func() {
		nettest.Run(t, "nft", "delete table ip other; delete table inet shoal-cccccc; delete table ip shoal-dddddd")
	})
	before := nettest.Run(t, "nft", "list", "ruleset")
	apply(t, f, shop())
	nettest.Run(t, "nft", "delete table ip shoal-cccccc")
	apply(t, f, shop())
	if err := f.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := nettest.Run(t, "nft", "list", "ruleset"); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

// A thousand resyncs while others change their own tables report nothing and write nothing.
func TestNoFalseDrift(t *testing.T) {
	f := openFirewall(t, "dddddd")
	apply(t, f, shop())
	nettest.Run(t, "nft", "add table ip noise")
	t.Cleanup(func() { nettest.Run(t, "nft", "delete table ip noise") })
	for i := range 1000 {
		if i%50 == 0 {
			nettest.Run(t, "nft", fmt.Sprintf("add chain ip noise c%d", i))
		}
		if i%10 == 0 {
			f.loaded = nil // as after a restart: everything is read back
		}
		if d := drift(t, f); d != nil {
			t.Fatalf("resync %d: %v", i, d)
		}
		before, _ := f.kernel.generation()
		apply(t, f, shop())
		if after, _ := f.kernel.generation(); after != before {
			t.Fatalf("resync %d wrote to the kernel", i)
		}
	}
}

func TestFault_W5_ANewAgentFindsTheRulesAsTheyAre(t *testing.T) {
	f := openFirewall(t, "eeeeee")
	apply(t, f, shop())
	before, _ := f.kernel.generation()
	second := openFirewall(t, "eeeeee")
	apply(t, second, shop())
	if after, _ := f.kernel.generation(); after != before {
		t.Errorf("the second agent wrote to the kernel: generation %d, was %d", after, before)
	}
}

func TestFault_W1_ARefusedChangeLeavesTheOldRules(t *testing.T) {
	f := openFirewall(t, "ffffff")
	apply(t, f, shop())
	before := list(t, "ffffff")
	twice := shop()
	copied := twice.Ports[2]
	copied.Service = "default/zzz"
	twice.Ports = append(twice.Ports, copied)
	if err := f.Apply(t.Context(), twice); err == nil || !strings.Contains(err.Error(), "default/zzz") {
		t.Errorf("two services at one address: %v", err)
	}
	bad := shop()
	bad.Ports[0].Protocol = "icmp"
	if err := f.Apply(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "want tcp, udp or sctp") {
		t.Errorf("unknown protocol: %v", err)
	}
	if after := list(t, "ffffff"); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
	apply(t, f, shop())
	if d := drift(t, f); d != nil {
		t.Error(d)
	}
}

// Comparing tables gives the same change as comparing what the kernel holds, whatever became of the services.
func TestBothWaysOfComparingAgree(t *testing.T) {
	states := []wire.Tables{shop(), base(), many(5, 1), many(7, 3), many(3, 3), shop()}
	moved := shop()
	moved.PodCIDR, moved.DNS = netip.MustParsePrefix("10.42.1.0/24"), netip.MustParseAddrPort("10.43.0.11:53")
	states = append(states, moved)
	for _, isolated := range [][]wire.Isolation{
		{isolation("pr-12", "10.42.0.6", "10.42.1.6")},
		{isolation("", "10.42.0.7"), isolation("a b", "10.42.0.8"), isolation("pr-12", "10.42.0.5")},
		{isolation("pr-12", "10.42.0.5", "10.42.1.6"), isolation("pr-13", "10.42.0.6")},
	} {
		s := shop()
		s.Isolated = isolated
		states = append(states, s)
	}
	for i := range states {
		for j := range states {
			want, o, _ := target("aaaaaa", &states[j])
			old, _, u := target("aaaaaa", &states[i])
			fast, _ := between("aaaaaa", &states[i], &states[j], u)
			slow, _ := repair(old, want, o, "aaaaaa")
			if fast.String() != slow.String() {
				t.Errorf("from %d to %d:\n%s\nbut by reading back:\n%s", i, j, fast, slow)
			}
		}
	}
}

func TestChangesAreSmall(t *testing.T) {
	f := openFirewall(t, "abcdef")
	apply(t, f, many(50, 3))
	one := many(50, 3)
	one.Ports[20].Endpoints = one.Ports[20].Endpoints[:2]
	one.Ports[20].External = nil
	c, _ := between("abcdef", f.loaded, &one, f.usage)
	golden(t, "one-endpoint-less.txt", c.String()+"\n")
}

// many is n services with so many endpoints each.
func many(n, each int) wire.Tables {
	t := base()
	for i := range n {
		p := wire.Port{
			Service: fmt.Sprintf("default/s%05d", i), Protocol: wire.TCP, Port: 80,
			ClusterIP: netip.AddrFrom4([4]byte{10, 43, byte(1 + i/250), byte(1 + i%250)}),
		}
		for e := range each {
			p.Endpoints = append(p.Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(e), byte(2 + i%250)}), 8080))
		}
		p.External = p.Endpoints
		t.Ports = append(t.Ports, p)
	}
	return t
}

func TestManyServices(t *testing.T) {
	f := openFirewall(t, "123456")
	apply(t, f, many(2000, 3))
	f.loaded = nil
	if d := drift(t, f); d != nil {
		t.Fatalf("%d differences, the first: %s", len(d), d[0])
	}
	apply(t, f, many(10, 1))
	if got := strings.Count(list(t, "123456"), ". tcp . 80 : goto ep-0"); got != 10 {
		t.Errorf("%d services left, want 10", got)
	}
}

func BenchmarkFirstLoad10000x3(b *testing.B) {
	f := openFirewall(b, "b00001")
	t := many(10_000, 3)
	for b.Loop() {
		apply(b, f, t)
		b.StopTimer()
		if err := f.Purge(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkOneChangeOf10000x3(b *testing.B) {
	f := openFirewall(b, "b00002")
	states := [2]wire.Tables{many(10_000, 3), many(10_000, 3)}
	p := &states[1].Ports[5000]
	p.Endpoints = p.Endpoints[:2]
	apply(b, f, states[0])
	for i := 1; b.Loop(); i++ {
		apply(b, f, states[i%2])
	}
}

func BenchmarkNoChangeOf10000x3(b *testing.B) {
	f := openFirewall(b, "b00003")
	t := many(10_000, 3)
	apply(b, f, t)
	for b.Loop() {
		apply(b, f, t)
	}
}

func BenchmarkReadBack10000x3(b *testing.B) {
	f := openFirewall(b, "b00004")
	apply(b, f, many(10_000, 3))
	for b.Loop() {
		f.loaded = nil
		if d := drift(b, f); d != nil {
			b.Fatal(d[0])
		}
	}
}

// A thread that lost CAP_NET_ADMIN stands for a host that refuses.
func TestFault_W1_WithoutTheRightToTheErrorSaysSo(t *testing.T) {
	f := openFirewall(t, "fedcba")
	apply(t, f, shop())
	before := list(t, "fedcba")
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			errs <- nil
			return
		}
		data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err := unix.Capset(&header, &data[0]); err != nil {
			errs <- nil
			return
		}
		weak, err := Open(Options{Instance: "fedcba"})
		if err == nil {
			err = weak.Apply(context.Background(), base())
			weak.Close()
		}
		errs <- err
	}()
	if err := <-errs; !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("%v, want EPERM and the right that is missing", err)
	}
	if after := list(t, "fedcba"); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

func TestFault_W1_AfterThreeFailuresTheTableIsMadeAnew(t *testing.T) {
	f := openFirewall(t, "abcd02")
	apply(t, f, shop())
	before := blocks(list(t, "abcd02"))
	bad := shop()
	bad.Ports = append(bad.Ports, bad.Ports[2])
	bad.Ports[3].Service, bad.Ports[3].ClusterIP, bad.Ports[3].NodePort = "default/zzz", netip.MustParseAddr("10.43.0.99"), 0
	nettest.Run(t, "nft", "add element ip shoal-abcd02 service-ports { 10.43.0.99 . tcp . 80 : drop }")
	f.generation, _ = f.kernel.generation() // as if nobody had been at it
	c, _ := between("abcd02", f.loaded, &bad, f.usage)
	for range rebuildAfter {
		if _, err := f.kernel.commit(c); err == nil {
			t.Fatal("the kernel took an element that is there with another value")
		}
		f.failures++
	}
	f.loaded = nil
	apply(t, f, shop())
	if f.failures != 0 {
		t.Errorf("failures = %d after a success", f.failures)
	}
	if after := blocks(list(t, "abcd02")); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

// A load that is too much for one transaction goes in several, and is whole in the end.
func TestHugeLoadsGoInSlices(t *testing.T) {
	if testing.Short() {
		t.Skip("loads 69,000 elements")
	}
	f := openFirewall(t, "abcd00")
	huge := many(11_500, 5)
	before, _ := f.kernel.generation()
	apply(t, f, huge)
	after, _ := f.kernel.generation()
	if after-before < 2 {
		t.Errorf("%d transactions for %d elements", after-before, 11_500*6)
	}
	f.loaded = nil
	if d := drift(t, f); d != nil {
		t.Fatalf("%d differences, the first: %s", len(d), d[0])
	}
}

// Somebody else changes the ruleset all the time; nothing is lost and nothing wrong is reported.
func TestOthersAtWorkAtTheSameTime(t *testing.T) {
	f := openFirewall(t, "abcd01")
	nettest.Run(t, "nft", "add table ip busy")
	t.Cleanup(func() { nettest.Run(t, "nft", "delete table ip busy") })
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = exec.Command("nft", fmt.Sprintf("add chain ip busy c%d", i%50)).Run()
			_ = exec.Command("nft", fmt.Sprintf("delete chain ip busy c%d", i%50)).Run()
		}
	}()
	states := []wire.Tables{many(40, 3), many(30, 2), shop(), many(40, 1)}
	for i := range 60 {
		apply(t, f, states[i%len(states)])
		if d, err := f.Verify(t.Context()); err == nil && d != nil {
			t.Fatalf("round %d: %v", i, d)
		}
	}
	close(stop)
	<-done
	if d := drift(t, f); d != nil {
		t.Error(d)
	}
}
