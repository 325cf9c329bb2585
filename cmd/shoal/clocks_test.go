package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/place"
)

func TestClocks(t *testing.T) {
	const hour, year = 3_600_000, 365 * 24 * 3_600_000
	for _, tt := range []struct {
		name   string
		voters string
		heard  map[string]int64 // ahead of the true time, ms
		own    int64
		age    int64 // of what was heard, ms
		want   string
	}{
		{"alone", "a", nil, hour, 0, "0s"},
		{"all are right", "a b c", map[string]int64{"b": 0, "c": 20}, 10, 100, "0s"},
		{"an hour ahead", "a b c", map[string]int64{"b": 0, "c": 20}, hour, 100, "59m59.98s"},
		{"ten years behind", "a b c", map[string]int64{"b": 0, "c": 20}, -10 * year, 100, "-87600h0m0s"},
		{"another is off", "a b c", map[string]int64{"b": hour, "c": 20}, 0, 100, "-20ms"},
		{"two of three say the same, this one not", "a b c", map[string]int64{"b": hour, "c": hour}, 0, 100, "-1h0m0s"},
		{"one of two others is known: nobody knows who is off", "a b c", map[string]int64{"b": hour}, 0, 100, "unknown"},
		{"one of two others is known, and says the same", "a b c", map[string]int64{"b": 100}, 0, 100, "-50ms"},
		{"nobody is known", "a b c", nil, hour, 0, "unknown"},
		{"what was heard is old", "a b c", map[string]int64{"b": 0, "c": 0}, hour, 6000, "unknown"},
		{"five", "a b c d e", map[string]int64{"b": 0, "c": 0, "d": hour, "e": hour}, hour, 0, "0s"},
		{"five, two are silent", "a b c d e", map[string]int64{"b": 0, "c": 0}, hour, 0, "1h0m0s"},
		{"who does not vote has no say", "a b c", map[string]int64{"b": 0, "c": 0, "x": hour, "y": hour, "z": hour}, hour, 0, "1h0m0s"},
		{"this one does not vote", "b c d", map[string]int64{"b": 0, "c": 0}, hour, 0, "unknown"},
	} {
		var c clocks
		const begun, at = 1_700_000_000_000, 50_000
		for n, ahead := range tt.heard {
			c.note(place.NodeID(n), begun+ahead, at)
			c.note(place.NodeID(n), 0, at) // an older node says nothing
		}
		var voters []place.NodeID
		for n := range strings.FieldsSeq(tt.voters) {
			voters = append(voters, place.NodeID(n))
		}
		off, known := c.off("a", voters, begun+tt.age+tt.own, at+tt.age)
		got := "unknown"
		if known {
			got = fmt.Sprint(off)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		ahead := c.ahead("a", voters, append(voters, "a"), begun+tt.age+tt.own, at+tt.age)
		if off.Milliseconds() != ahead["a"] || known != (ahead != nil) {
			t.Errorf("%s: %d ms ahead", tt.name, ahead["a"])
		}
		if len(c.heard) > len(voters) {
			t.Errorf("%s: %d clocks are kept", tt.name, len(c.heard))
		}
	}
}

// The clocks of nodes that do not vote are compared with the voters', and have no say.
func TestClocksOfAll(t *testing.T) {
	var c clocks
	const begun, at = 1_700_000_000_000, 50_000
	for n, ahead := range map[place.NodeID]int64{"b": 40, "c": -300_000, "x": 300_000, "gone": 7} {
		c.note(n, begun+ahead, at)
	}
	c.note("old", begun, at-6000)
	got := fmt.Sprint(c.ahead("a", []place.NodeID{"a", "b", "c"}, []place.NodeID{"a", "b", "c", "x", "old"}, begun+100, at+100))
	if want := "map[a:0 b:40 c:-300000 x:300000]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(c.heard) != 4 {
		t.Errorf("%d clocks are kept", len(c.heard))
	}
}
