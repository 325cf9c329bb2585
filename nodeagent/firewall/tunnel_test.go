package firewall

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// The rules about what is not encrypted come and go with it, as changes of a table that is there, and made anew.
func TestRulesOfWireguard(t *testing.T) {
	nettest.Root(t)
	f, err := Open(Options{Instance: "dddddd"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Purge(t.Context()); f.Close() })
	end := cluster.Tunnel{Key: "a", Port: 51820}
	plain := wire.Route{Node: "n3", CIDR: netip.MustParsePrefix("10.42.3.0/24"), Via: netip.MustParseAddr("192.0.2.3")}
	other := wire.Route{Node: "n2", CIDR: netip.MustParsePrefix("10.42.2.0/24"), Via: netip.MustParseAddr("192.0.2.2"), Tunnel: end}
	tables := func(own cluster.Tunnel, strict bool, routes ...wire.Route) wire.Tables {
		return wire.Tables{
			PodCIDR: netip.MustParsePrefix("10.42.1.0/24"), Cluster: netip.MustParsePrefix("10.42.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
			DNS: netip.MustParseAddrPort("10.43.0.10:53"), Overlay: wire.Overlay{VNI: 1, Port: 4789}, Tunnel: own, Strict: strict, Routes: routes,
		}
	}
	const (
		sealedOut = `oifname != "sh-dddddd-wg" ip daddr & 255.255.255.0 == @sealed drop`
		anyOut    = `oifname != "sh-dddddd-wg" ip daddr 10.42.0.0/16 ip daddr != 10.42.1.0/24 drop`
		anyIn     = `iifname != "sh-dddddd-wg" ip saddr 10.42.0.0/16 ip saddr != 10.42.1.0/24 drop`
	)
	for _, c := range []struct {
		name   string
		tables wire.Tables
		want   []string
		not    []string
	}{
		{"off", tables(cluster.Tunnel{}, false, other, plain), nil, []string{"oifname != \"sh-dddddd-wg\"", "set sealed"}},
		{"on", tables(end, false, other, plain), []string{sealedOut, "elements = { 10.42.2.0 }"}, []string{anyIn, anyOut}},
		{"a node has it no more", tables(end, false, plain), []string{sealedOut}, []string{"10.42.2.0 }"}},
		{"strict", tables(end, true, other, plain), []string{anyIn, anyOut}, []string{sealedOut}},
		{"strict, and nobody knows it yet", tables(cluster.Tunnel{}, true, other, plain), []string{anyIn, anyOut}, nil},
		{"off again", tables(cluster.Tunnel{}, false, other, plain), nil, []string{"oifname != \"sh-dddddd-wg\"", "set sealed", "filter-postrouting"}},
	} {
		for _, anew := range []bool{false, true} {
			if anew { // as another agent finds it
				f.loaded = nil
			}
			if err := f.Apply(t.Context(), c.tables); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if drift, err := f.Verify(t.Context()); drift != nil || err != nil {
				t.Errorf("%s: drift %q, %v", c.name, drift, err)
			}
			f.loaded = nil
			if drift, err := f.Verify(t.Context()); drift != nil || err != nil {
				t.Errorf("%s, read back: drift %q, %v", c.name, drift, err)
			}
		}
		text := nettest.Run(t, "nft", "list", "table", "ip", "shoal-dddddd")
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %s is not in\n%s", c.name, w, text)
			}
		}
		for _, w := range c.not {
			if strings.Contains(text, w) {
				t.Errorf("%s: %s is in\n%s", c.name, w, text)
			}
		}
	}
}
