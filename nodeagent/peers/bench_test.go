package peers

import (
	"context"
	"testing"
	"time"
)

// BenchmarkCall is a small call between two nodes on an open connection.
func BenchmarkCall(b *testing.B) {
	x := begin(b).greets()
	y := x.join("y").greets()
	for b.Loop() {
		if err := x.Call(context.Background(), y.id(), "/greet", nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandshake is a new connection for raft, both sides.
func BenchmarkHandshake(b *testing.B) {
	x := begin(b)
	y := x.join("y")
	go func() {
		for {
			c, err := y.RaftStream().Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	for b.Loop() {
		c, err := x.RaftStream().Dial(raftAddress(y), time.Second)
		if err != nil {
			b.Fatal(err)
		}
		c.Read(make([]byte, 1)) // until the other side took it
		c.Close()
	}
}
