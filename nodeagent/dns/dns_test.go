package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/shoal-dev/shoal/engine/wire"
)

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func ringTables() wire.Tables {
	return wire.Tables{
		Domain: "cluster.local", Cluster: netip.MustParsePrefix("10.42.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
		Names: []wire.Name{
			{Name: "_http._tcp.web.default.svc.cluster.local.", SRV: []wire.SRV{{Target: "web.default.svc.cluster.local.", Port: 80}}},
			{Name: "db-0.db.default.svc.cluster.local.", Address: addrs("10.42.0.7"), Reverse: true},
			{Name: "db.default.svc.cluster.local.", Address: addrs("10.42.0.7", "10.42.0.8")},
			{Name: "inside.default.svc.cluster.local.", CNAME: "web.default.svc.cluster.local."},
			{Name: "loop.default.svc.cluster.local.", CNAME: "loop.default.svc.cluster.local."},
			{Name: "out.default.svc.cluster.local.", CNAME: "www.example.com."},
			{Name: "web.default.svc.cluster.local.", Address: addrs("10.43.0.77"), Reverse: true},
		},
	}
}

// fakeUpstream is a resolver on loopback that answers as f says; nil is no answer.
func fakeUpstream(t testing.TB, f func(*dns.Msg, bool) *dns.Msg) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	handler := func(tcp bool) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			if m := f(q, tcp); m != nil {
				_ = w.WriteMsg(m)
			}
		}
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler(false)}, {Listener: ln, Handler: handler(true)}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return at
}

func reply(q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func start(t testing.TB, opt Options) *Server {
	t.Helper()
	opt.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	s, err := Listen(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Swap(ringTables())
	return s
}

// ask returns the answer as text: code, flags, then a record a line, sorted.
func ask(t testing.TB, s *Server, network, name string, kind uint16) string {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, kind)
	m, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(q, s.Addr().String())
	if err != nil {
		return "error: " + err.Error()
	}
	return text(m)
}

func text(m *dns.Msg) string {
	lines := []string{dns.RcodeToString[m.Rcode]}
	if m.Authoritative {
		lines[0] += " own"
	}
	if m.Truncated {
		lines[0] += " truncated"
	}
	var records []string
	for _, rr := range m.Answer {
		records = append(records, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	slices.Sort(records)
	lines = append(lines, records...)
	for _, rr := range m.Ns {
		lines = append(lines, "ns "+dns.TypeToString[rr.Header().Rrtype]+" "+rr.Header().Name)
	}
	return strings.Join(lines, "\n")
}

func TestFeature_K9_NamesOfTheRing(t *testing.T) {
	up := fakeUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg { return reply(q, "www.example.com. 60 IN A 192.0.2.80") })
	s := start(t, Options{Upstreams: []netip.AddrPort{up}})
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web.default.svc.cluster.local.", dns.TypeA, "NOERROR own\nweb.default.svc.cluster.local. 5 IN A 10.43.0.77"},
		{"WEB.default.SVC.cluster.local.", dns.TypeA, "NOERROR own\nWEB.default.SVC.cluster.local. 5 IN A 10.43.0.77"},
		{"web.default.svc.cluster.local.", dns.TypeAAAA, "NOERROR own\nns SOA cluster.local."},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, "NOERROR own\n_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local."},
		{"db.default.svc.cluster.local.", dns.TypeA, "NOERROR own\ndb.default.svc.cluster.local. 5 IN A 10.42.0.7\ndb.default.svc.cluster.local. 5 IN A 10.42.0.8"},
		{"db-0.db.default.svc.cluster.local.", dns.TypeA, "NOERROR own\ndb-0.db.default.svc.cluster.local. 5 IN A 10.42.0.7"},
		{"nothing.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN own\nns SOA cluster.local."},
		{"default.svc.cluster.local.", dns.TypeA, "NOERROR own\nns SOA cluster.local."},
		{"example.com.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN own\nns SOA cluster.local."},
		{"7.0.42.10.in-addr.arpa.", dns.TypePTR, "NOERROR own\n7.0.42.10.in-addr.arpa. 5 IN PTR db-0.db.default.svc.cluster.local."},
		{"9.9.42.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN own\nns SOA cluster.local."},
		{"10-42-0-7.default.pod.cluster.local.", dns.TypeA, "NOERROR own\n10-42-0-7.default.pod.cluster.local. 5 IN A 10.42.0.7"},
		{"inside.default.svc.cluster.local.", dns.TypeA, "NOERROR own\ninside.default.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.\nweb.default.svc.cluster.local. 5 IN A 10.43.0.77"},
		{"out.default.svc.cluster.local.", dns.TypeA, "NOERROR own\nout.default.svc.cluster.local. 5 IN CNAME www.example.com.\nwww.example.com. 60 IN A 192.0.2.80"},
		{"dns-version.cluster.local.", dns.TypeTXT, "NOERROR own\ndns-version.cluster.local. 5 IN TXT \"1.1.0\""},
		{"www.example.com.", dns.TypeA, "NOERROR\nwww.example.com. 60 IN A 192.0.2.80"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := ask(t, s, network, c.name, c.kind); got != c.want {
				t.Errorf("%s %s over %s:\n%s\nwant\n%s", c.name, dns.TypeToString[c.kind], network, got, c.want)
			}
		}
	}
	if got := ask(t, s, "udp", "loop.default.svc.cluster.local.", dns.TypeA); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("a loop of aliases: %s", got)
	}
}

func TestFault_W11_FailOverToTheNextResolverInASecond(t *testing.T) {
	silent := fakeUpstream(t, func(*dns.Msg, bool) *dns.Msg { return nil })
	good := fakeUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg { return reply(q, q.Question[0].Name+" 60 IN A 192.0.2.1") })
	s := start(t, Options{Upstreams: []netip.AddrPort{silent, good}})
	began := time.Now()
	if got := ask(t, s, "udp", "a.example.", dns.TypeA); got != "NOERROR\na.example. 60 IN A 192.0.2.1" {
		t.Fatal(got)
	}
	if took := time.Since(began); took < 900*time.Millisecond || took > 3*time.Second {
		t.Errorf("fail over took %s, want about 1 s", took)
	}
	began = time.Now()
	if got := ask(t, s, "udp", "b.example.", dns.TypeA); !strings.HasPrefix(got, "NOERROR") {
		t.Fatal(got)
	}
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("the silent resolver is asked first again: %s", took)
	}
}

func TestFault_W11_TruncatedAnswersAreAskedForOverTCP(t *testing.T) {
	up := fakeUpstream(t, func(q *dns.Msg, tcp bool) *dns.Msg {
		m := reply(q)
		m.Truncated = !tcp
		if tcp {
			m = reply(q, "big.example. 60 IN A 192.0.2.1", "big.example. 60 IN A 192.0.2.2")
		}
		return m
	})
	s := start(t, Options{Upstreams: []netip.AddrPort{up}})
	if got := ask(t, s, "udp", "big.example.", dns.TypeA); got != "NOERROR\nbig.example. 60 IN A 192.0.2.1\nbig.example. 60 IN A 192.0.2.2" {
		t.Error(got)
	}
}

func TestFault_W11_WrongIdsAndQuestionsArePassedOver(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(b[:n]) != nil {
				continue
			}
			wrongID := reply(q, q.Question[0].Name+" 60 IN A 203.0.113.1")
			wrongID.Id++
			wrongName := reply(q, "evil.example. 60 IN A 203.0.113.2")
			wrongName.Question[0].Name = "evil.example."
			for _, m := range []*dns.Msg{wrongID, wrongName, reply(q, q.Question[0].Name+" 60 IN A 192.0.2.1")} {
				out, _ := m.Pack()
				_, _ = pc.WriteTo(out, from)
			}
			_, _ = pc.WriteTo([]byte{1, 2, 3}, from)
		}
	}()
	s := start(t, Options{Upstreams: []netip.AddrPort{pc.LocalAddr().(*net.UDPAddr).AddrPort()}})
	for i := range 20 {
		name := fmt.Sprintf("h%d.example.", i)
		if got := ask(t, s, "udp", name, dns.TypeA); got != "NOERROR\n"+name+" 60 IN A 192.0.2.1" {
			t.Fatal(got)
		}
	}
}

func TestFault_W11_ExpiredAnswersServeWhenNobodyAnswers(t *testing.T) {
	var dead atomic.Bool
	up := fakeUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		if dead.Load() {
			return nil
		}
		return reply(q, "a.example. 1 IN A 192.0.2.1")
	})
	s := start(t, Options{Upstreams: []netip.AddrPort{up}, Timeout: 200 * time.Millisecond})
	first := ask(t, s, "udp", "a.example.", dns.TypeA)
	dead.Store(true)
	time.Sleep(1100 * time.Millisecond)
	if got := ask(t, s, "udp", "a.example.", dns.TypeA); got != first || !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("%s, want %s", got, first)
	}
	if got := ask(t, s, "udp", "b.example.", dns.TypeA); got != "SERVFAIL" {
		t.Error(got)
	}
}

func TestFault_W12_SearchPathsAreAnsweredFromMemory(t *testing.T) {
	var asked atomic.Int32
	up := fakeUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		asked.Add(1)
		return reply(q, q.Question[0].Name+" 60 IN A 192.0.2.1")
	})
	s := start(t, Options{Upstreams: []netip.AddrPort{up}})
	for range 10 { // ndots:5 with the search path of a pod
		for _, suffix := range []string{".default.svc.cluster.local.", ".svc.cluster.local.", ".cluster.local.", "."} {
			ask(t, s, "udp", "www.example.com"+suffix, dns.TypeA)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d questions went upstream for ten lookups of one name, want 1", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(100)
	now := time.Now()
	for i := range 1000 {
		q := new(dns.Msg)
		q.SetQuestion(fmt.Sprintf("h%d.example.", i), dns.TypeA)
		c.put(cacheKey{name: q.Question[0].Name, kind: dns.TypeA}, reply(q, q.Question[0].Name+" 60 IN A 192.0.2.1"), now)
	}
	if len(c.entries) != 100 || c.used.Len() != 100 {
		t.Errorf("%d entries, want 100", len(c.entries))
	}
	if c.get(cacheKey{name: "h999.example.", kind: dns.TypeA}, now, false) == nil {
		t.Error("the newest is gone")
	}
}

func FuzzPacket(f *testing.F) {
	s := &Server{opt: Options{}.WithDefaults(), inFlight: make(chan struct{})} // nothing goes upstream
	s.Swap(ringTables())
	for _, name := range []string{"web.default.svc.cluster.local.", "7.0.42.10.in-addr.arpa.", "10-42-0-7.default.pod.cluster.local.", "loop.default.svc.cluster.local.", "."} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		q.SetEdns0(4096, true)
		b, _ := q.Pack()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return
		}
		m := s.reply(q, netip.Addr{})
		if m == nil {
			return
		}
		m.Truncate(512)
		if _, err := m.Pack(); err != nil && len(q.Question) == 1 {
			if _, again := q.Pack(); again == nil { // what cannot be packed as a question cannot as an answer
				t.Errorf("answer to %v: %v", q, err)
			}
		}
	})
}

func BenchmarkOwnName(b *testing.B) {
	s := &Server{opt: Options{}.WithDefaults()}
	s.Swap(ringTables())
	q := new(dns.Msg)
	q.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	for b.Loop() {
		s.reply(q, netip.Addr{})
	}
}
