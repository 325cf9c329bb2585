package dns

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/shoal-dev/shoal/engine/wire"
)

// TestFault_P2_SandboxNames: what may not speak to the outside does not by way of questions either, be it through an alias of its own.
func TestFault_P2_SandboxNames(t *testing.T) {
	var asked atomic.Int32
	up := fakeUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		asked.Add(1)
		return reply(q, q.Question[0].Name+" 60 IN A 192.0.2.80")
	})
	s := start(t, Options{Upstreams: []netip.AddrPort{up}})
	for _, isolated := range []bool{true, false} {
		tables := ringTables()
		if isolated {
			tables.Isolated = []wire.Isolation{{Name: "pr-12", From: addrs("127.0.0.1")}}
		}
		s.Swap(tables)
		asked.Store(0)
		for _, network := range []string{"udp", "tcp"} {
			if got, want := ask(t, s, network, "web.default.svc.cluster.local.", dns.TypeA), "NOERROR own\nweb.default.svc.cluster.local. 5 IN A 10.43.0.77"; got != want {
				t.Errorf("a name of the ring over %s, isolated %t: %q", network, isolated, got)
			}
			for name, want := range map[string]string{
				"stolen.example.net.":            "NXDOMAIN",
				"9.2.0.192.in-addr.arpa.":        "NXDOMAIN",
				"out.default.svc.cluster.local.": "NXDOMAIN own\nout.default.svc.cluster.local. 5 IN CNAME www.example.com.",
			} {
				if got := ask(t, s, network, name, dns.TypeA); (got == want) != isolated {
					t.Errorf("%s over %s, isolated %t: %q", name, network, isolated, got)
				}
			}
		}
		if n := asked.Load(); isolated && n != 0 || !isolated && n == 0 {
			t.Errorf("isolated %t: %d questions went out", isolated, n)
		}
	}
}
