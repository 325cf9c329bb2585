package nettest_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

// BenchmarkConnect is what a TCP connection costs by a pod's own address, and by that of a Service among 10,000. The
// difference is what the rules cost.
func BenchmarkConnect(b *testing.B) {
	n := newNode(b)
	client, server := n.pod(2), n.pod(3)
	ports := make([]wire.Port, 0, 10_000)
	for i := range cap(ports) - 1 {
		p := wire.Port{
			Service: fmt.Sprintf("default/s%05d", i), Protocol: wire.TCP, Port: 80,
			ClusterIP: netip.AddrFrom4([4]byte{10, 43, byte(1 + i/250), byte(1 + i%250)}),
		}
		for e := range 3 {
			p.Endpoints = append(p.Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(1 + e), byte(2 + i%250)}), 8080))
		}
		ports = append(ports, p)
	}
	for _, c := range []struct {
		name, address string
		ports         []wire.Port
	}{
		{"pod", server.ip.String() + ":8080", nil},
		{"service of 1", "10.43.0.77:80", []wire.Port{service(wire.TCP, 0, server)}},
		{"service of 10000", "10.43.0.77:80", append(ports, service(wire.TCP, 0, server))},
	} {
		n.apply(c.ports...)
		b.Run(c.name, func(b *testing.B) {
			nettest.In(b, client.netns, func() {
				for b.Loop() {
					conn, err := net.Dial("tcp4", c.address)
					if err != nil {
						b.Error(err)
						return
					}
					_ = conn.(*net.TCPConn).SetLinger(0) // no ports left waiting
					_ = conn.Close()
				}
			})
		})
	}
}
