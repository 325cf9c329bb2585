package keep_test

import (
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/keep"
)

// A node says its end of WireGuard once the ring's engine version knows of it, and not before: it would say so for ever.
func TestTunnelIsSaidWhenItCounts(t *testing.T) {
	r := &enginetest.Ring{T: t, State: cluster.NewState(), Content: enginetest.Store{}, Now: enginetest.Epoch}
	genesis := enginetest.Genesis()
	genesis.Engine = cluster.TunnelSince - 1
	r.Must(cluster.Input{Genesis: genesis})
	r.Must(cluster.Input{NodeUp: enginetest.Node(1)})
	up := enginetest.Node(1)
	up.Tunnel = cluster.Tunnel{Key: "6OFHGa5bokQmXRsYXz0Pxyx9EgYfAUAgG8/1jMHo+To=", Port: 51820}
	k := keep.New(up.ID)
	said := func() (times int) {
		inputs, _ := k.Look(keep.Facts{State: r.State, Up: func() *cluster.NodeUp { return up }})
		for _, in := range inputs {
			if in.NodeUp != nil {
				times++
				r.Must(in)
			}
		}
		return times
	}
	for range 2 {
		if n := said(); n != 0 {
			t.Errorf("engine %d: it is said", cluster.TunnelSince-1)
		}
	}
	r.Must(cluster.Input{SetEngine: &cluster.SetEngine{Version: cluster.TunnelSince}})
	if n := said(); n != 1 {
		t.Errorf("engine %d: said %d times", cluster.TunnelSince, n)
	}
	if n := said(); n != 0 {
		t.Error("it is said again")
	}
}
