package cluster_test

import (
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// A node's end of WireGuard is in the ledger once the ring's engine version knows of it, and goes when the node says so. A ring
// of an older version steps to the State that it came to before.
func TestTunnelWaitsForTheEngine(t *testing.T) {
	with := func(tunnel cluster.Tunnel) cluster.Input {
		up := enginetest.Node(1)
		up.Tunnel = tunnel
		return cluster.Input{NodeUp: up}
	}
	ring := func() *enginetest.Ring {
		r := &enginetest.Ring{T: t, State: cluster.NewState(), Content: enginetest.Store{}, Now: enginetest.Epoch}
		genesis := enginetest.Genesis()
		genesis.Engine = cluster.TunnelSince - 1
		r.Must(cluster.Input{Genesis: genesis})
		return r
	}
	end := cluster.Tunnel{Key: "6OFHGa5bokQmXRsYXz0Pxyx9EgYfAUAgG8/1jMHo+To=", Port: 51820}
	r, older := ring(), ring()
	r.Must(with(end))
	older.Must(with(cluster.Tunnel{}))
	if r.State.Hash() != older.State.Hash() {
		t.Error("a ring of an older version comes to another state")
	}
	known := func() cluster.Tunnel {
		n, _ := r.State.Nodes().Get(enginetest.Node(1).ID)
		return n.Tunnel
	}
	r.Must(cluster.Input{SetEngine: &cluster.SetEngine{Version: cluster.TunnelSince}})
	if got := known(); got != (cluster.Tunnel{}) {
		t.Errorf("not said yet, and known: %v", got)
	}
	r.Must(with(end))
	if got := known(); got != end {
		t.Errorf("%v, want %v", got, end)
	}
	for _, c := range []struct {
		tunnel cluster.Tunnel
		want   string
	}{
		{cluster.Tunnel{Key: "c2hvcnQ=", Port: 51820}, "want 32 bytes in base64"},
		{cluster.Tunnel{Key: strings.Repeat("?", 44), Port: 51820}, "want 32 bytes in base64"},
		{cluster.Tunnel{Key: end.Key}, "want a UDP port"},
		{cluster.Tunnel{Port: 51820}, "want 32 bytes in base64"},
	} {
		if out := r.Step(with(c.tunnel)); !strings.Contains(out.Rejected, c.want) {
			t.Errorf("%v: %q, want %q", c.tunnel, out.Rejected, c.want)
		}
	}
	if got := known(); got != end {
		t.Errorf("after what was refused: %v", got)
	}
	r.Must(with(cluster.Tunnel{}))
	if got := known(); got != (cluster.Tunnel{}) {
		t.Errorf("switched off: %v", got)
	}
}
