package lease_test

import (
	"fmt"
	"testing"

	"github.com/shoal-dev/shoal/engine/lease"
	"github.com/shoal-dev/shoal/engine/place"
)

func TestHolder(t *testing.T) {
	var h lease.Holder
	for i, s := range []struct {
		now  int64
		sent int64 // acknowledged now; 0: none
		at   uint64
		want string
	}{
		{1000, 0, 0, "over, starts at 9: false, next 0, kill at 0"},
		{1000, 990, 7, "held, starts at 9: true, next 5790, kill at 8190"},
		{1000, 980, 99, "held, starts at 9: true, next 5790, kill at 8190"},      // out of order
		{3000, 3500, 99, "held, starts at 9: true, next 5790, kill at 8190"},     // from the future
		{3000, 2000, 99, "held, starts at 9: true, next 6800, kill at 9200"},     // still held: nothing was taken away
		{6799, 0, 0, "held, starts at 9: true, next 6800, kill at 9200"},         //
		{6800, 0, 0, "stopping, starts at 9: false, next 9200, kill at 9200"},    //
		{7000, 2100, 9, "stopping, starts at 9: false, next 9200, kill at 9200"}, // too late to count
		{7000, 6000, 9, "held, starts at 9: true, next 10800, kill at 13200"},    // saved
		{13199, 0, 0, "stopping, starts at 9: false, next 13200, kill at 13200"},
		{13200, 0, 0, "over, starts at 9: false, next 0, kill at 0"},
		{20000, 19999, 10, "held, starts at 9: false, next 24799, kill at 27199"}, // knows not yet what it lost
		{100, 0, 0, "over, starts at 9: false, next 0, kill at 0"},                // its clock went back: it was another boot's
	} {
		if s.sent != 0 {
			h.Acknowledged(s.sent, s.now, s.at)
		}
		got := fmt.Sprintf("%s, starts at 9: %v, next %d, kill at %d", h.Phase(s.now), h.MayStart(s.now, 9), h.Next(s.now), h.KillAt(s.now))
		if got != s.want {
			t.Errorf("%d: got %s, want %s", i, got, s.want)
		}
	}
	if !h.MayStart(20000, 10) {
		t.Error("it knows all, and may not start")
	}
	var next lease.Holder // of the next agent
	next.Resumed(19999, 20100)
	if next.Phase(20100) != lease.Held || next.MayStart(20100, 1<<60) || next.KillAt(20100) != 27199 {
		t.Errorf("a new agent goes on with the lease: %s, starts %v, kill at %d", next.Phase(20100), next.MayStart(20100, 1<<60), next.KillAt(20100))
	}
	next.Acknowledged(20200, 20201, 11)
	if next.MayStart(20201, 10) || !next.MayStart(20201, 11) {
		t.Error("a new agent has its lease renewed, and does not start what it may, when it has applied entry 11")
	}
}

func TestGrants(t *testing.T) {
	nodes := []place.NodeID{"b", "a"}
	g := lease.NewGrants(1000)
	g.Received("a", 2000)
	g.Received("a", 1500)
	for i, s := range []struct {
		now         int64
		ending      string
		next        int64
		acknowledge string
	}{
		{9799, "[]", 9800, "a true, b true"},
		{9800, "[b]", 10800, "a true, b false"},
		{9801, "[b]", 10800, "a true, b false"},
		{10800, "[a b]", 0, "a false, b false"},
	} {
		got := fmt.Sprint(g.Ending(s.now, nodes))
		if next := g.Next(nodes); got != s.ending || next != s.next {
			t.Errorf("%d: %s, next %d", i, got, next)
		}
		if got := fmt.Sprintf("a %v, b %v", g.MayAcknowledge("a"), g.MayAcknowledge("b")); got != s.acknowledge {
			t.Errorf("%d: %s", i, got)
		}
	}
	g.Ended("a")
	if !g.MayAcknowledge("a") {
		t.Error("the end of its lease was applied: it begins anew")
	}
}
