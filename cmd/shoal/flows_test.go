package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/firewall"
)

// What is said of a table of connections that fills up and empties again, a look a line.
func TestFault_W9_Warnings(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	var load firewall.Load
	w := newFlowWatch(slog.New(slog.DiscardHandler))
	w.read = func() (firewall.Load, error) { return load, nil }
	for _, tt := range []struct {
		flows   int64
		dropped uint64
		wait    time.Duration
		want    string // the beginnings of the warnings
	}{
		{100, 7, 0, ""}, // before this agent
		{186, 7, flowsEvery, ""},
		{200, 7, flowsEvery, "the kernel's table of connections is 80% full, 200 of 250: when it is full new connections fail"},
		{250, 12, flowsEvery, "the kernel's table of connections is 100% full, 250 of 250|5 packets of connections were dropped since 03:00:30Z"},
		{170, 15, flowsEvery, "the kernel's table of connections is 68% full|8 packets of connections were dropped since 03:00:30Z"},
		{100, 15, flowsEvery, "8 packets of connections"},
		{100, 15, flowsRemember, ""},
	} {
		now = now.Add(tt.wait)
		load = firewall.Load{Flows: tt.flows, Most: 250, Dropped: tt.dropped}
		w.look(t.Context(), now)
		got := w.warnings()
		want := strings.Split(tt.want, "|")
		if tt.want == "" {
			want = nil
		}
		ok := len(got) == len(want)
		for i := range min(len(got), len(want)) {
			ok = ok && strings.HasPrefix(got[i], want[i])
		}
		if !ok {
			t.Errorf("%d flows: %q, want %q", tt.flows, got, want)
		}
	}
}
