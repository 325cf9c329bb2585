package nettest_test

import (
	"io"
	"net"
	"testing"

	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// BenchmarkThroughput is what one TCP connection between pods of two nodes carries: as it is, wrapped, and encrypted. Both
// nodes are on this machine, and what their processors do is shared by both ends.
func BenchmarkThroughput(b *testing.B) {
	for _, c := range []struct {
		name string
		with func(testing.TB) func(*links.Options)
	}{
		{"direct", func(testing.TB) func(*links.Options) { return nil }},
		{"vxlan", func(testing.TB) func(*links.Options) { return func(o *links.Options) { o.Overlay = links.Always } }},
		{"wireguard", encrypted},
	} {
		b.Run(c.name, func(b *testing.B) {
			nettest.Root(b)
			lan := nettest.NewSegment(b, "", "lan")
			with := c.with(b)
			first, second := join(b, 1, lan.Machine("192.0.2.1/24", ""), "192.0.2.1", with), join(b, 2, lan.Machine("192.0.2.2/24", ""), "192.0.2.2", with)
			meet(first, second)
			from, to := first.pod(2), second.pod(2)
			var sink net.Listener
			nettest.In(b, to.netns, func() {
				var err error
				if sink, err = net.Listen("tcp4", ":9000"); err != nil {
					b.Error(err)
				}
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				if conn, err := sink.Accept(); err == nil {
					_, _ = io.Copy(io.Discard, conn)
					_ = conn.Close()
				}
			}()
			conn, err := connect(b, from.netns, "tcp4", to.ip.String()+":9000")
			if err != nil {
				b.Fatal(err)
			}
			block := make([]byte, 1<<20)
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				if _, err := conn.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			if e, ok := first.options.Tunnel.(*end); ok {
				b.ReportMetric(float64(pss(e.pid()))/1024, "sender-MiB")
				b.ReportMetric(float64(pss(second.end().pid()))/1024, "receiver-MiB")
			}
			_ = conn.Close()
			_ = sink.Close()
			<-done
		})
	}
}
