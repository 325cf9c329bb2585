package nettest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/dns"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// track makes the kernel remember count connections more, which it may not forget for others. The limit is the machine's, and
// stays; each network namespace counts for itself.
func track(t *testing.T, from, count int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flows")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for i := from; i < from+count; i++ {
		fmt.Fprintf(w, "-I -s 198.%d.%d.%d -d 192.0.2.1 -p tcp --sport %d --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 600\n", 18+i>>23, i>>15&255, i>>7&255, 1024+i&127)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	nettest.Run(t, "conntrack", "-R", path)
}

// The kernel's table of connections fills up: its load is known before it is full; when it is, what would begin is dropped
// and counted, what has begun goes on, and pods' questions for names are answered as before, for they are not tracked.
func TestFault_W9_TableOfConnectionsIsFull(t *testing.T) {
	n := newNode(t)
	a, b := n.pod(2), n.pod(3)
	n.apply(service(wire.TCP, 30080, a))
	tables := tables()
	tables.Names = []wire.Name{{Name: "web.default.svc.cluster.local.", Address: []netip.Addr{netip.MustParseAddr("10.43.0.77")}}}
	s, err := dns.Listen(dns.Options{Listen: netip.MustParseAddrPort("10.43.0.10:53"), Tables: &tables})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	old, err := n.connect(b.netns, "tcp4", "10.43.0.77:80")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	load := func() firewall.Load {
		t.Helper()
		l, err := firewall.ReadLoad()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := load()
	if before.Most < 1000 || before.Most > 2<<20 {
		t.Fatalf("the table has room for %d, this test fills one of 1,000 to 2,000,000", before.Most)
	}
	t.Cleanup(func() { nettest.Run(t, "conntrack", "-F") }) // the tests that follow are in this namespace too
	part := before.Most * 79 / 100
	track(t, 0, part)
	if l := load(); l.Percent() < 78 || l.Percent() >= 80 {
		t.Errorf("%+v is %d percent", l, l.Percent())
	}
	track(t, part, before.Most-load().Flows)
	full := load()
	if full.Percent() < 99 {
		t.Fatalf("it is not full: %+v", full)
	}
	if c, err := n.connect(b.netns, "tcp4", "10.43.0.77:80"); err == nil {
		c.Close()
		t.Error("there is no room for it, and it connected")
	}
	if now := load(); now.Dropped <= full.Dropped {
		t.Errorf("nothing was counted: %+v, then %+v", full, now)
	}
	if said, err := talk(old); err != nil {
		t.Errorf("what was connected before: %q, %v", said, err)
	}
	for _, network := range []string{"udp4", "tcp4"} {
		begun := time.Now()
		r := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return n.connect(b.netns, network, "10.43.0.10:53")
		}}
		if got, err := r.LookupHost(t.Context(), "web.default.svc.cluster.local"); err != nil || len(got) != 1 || time.Since(begun) > 4*time.Second { // a question that is lost is asked again after 5 s
			t.Errorf("a name over %s: %v, %v after %s", network, got, err, time.Since(begun))
		}
	}
}
