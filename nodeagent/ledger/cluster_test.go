package ledger

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// The state that runs comes back from a snapshot and the log behind it with the same hash.
func TestClusterStateSurvivesRestarts(t *testing.T) {
	dir := t.TempDir()
	open := func() *Ledger[*cluster.State, cluster.Outcome] {
		toy := toyOptions(dir)
		l, err := Open(t.Context(), Options[*cluster.State, cluster.Outcome]{
			Dir: dir, Machine: Cluster(), Node: toy.Node, Boot: toy.Boot, Content: memContent{},
			Genesis: &cluster.Genesis{
				Ring: "00112233445566778899aabbccddeeff", Domain: "cluster.local", Engine: cluster.EngineVersion,
				PodCIDR: netip.MustParsePrefix("10.42.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	hash := func(l *Ledger[*cluster.State, cluster.Outcome]) (h string) {
		l.View(func(s *cluster.State) { h = fmt.Sprintf("%d %x", s.Index(), s.Hash()) })
		return h
	}
	l := open()
	up := cluster.NodeUp{
		ID: "0123456789abcdef", Name: "n1", Key: "AAAA", Address: netip.MustParseAddr("192.0.2.1"), Arch: "amd64",
		Capacity: place.Resources{MilliCPU: 2000, Memory: 1 << 30, Pods: 110}, Engine: cluster.EngineVersion,
	}
	if o, err := l.Append(t.Context(), cluster.Input{NodeUp: &up}); err != nil || o.Rejected != "" {
		t.Fatalf("%+v, %v", o, err)
	}
	tip := source.ID("")
	for n := range 30 {
		next := source.ID(fmt.Sprintf("%040d", n+1))
		o, err := l.Append(t.Context(), cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: "refs/heads/main", Old: tip, New: next}}}})
		if err != nil || o.Rejected != "" {
			t.Fatalf("%+v, %v", o, err)
		}
		tip = next
		if n == 10 || n == 20 {
			if err := l.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if o, err := l.Append(t.Context(), cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: "refs/heads/main", Old: "stale", New: tip}}}}); err != nil || o.Rejected == "" {
		t.Fatalf("a stale ref: %+v, %v", o, err)
	}
	want := hash(l)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l = open(); hash(l) != want {
			t.Errorf("after a restart %s, before %s", hash(l), want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
