package gitsync

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// A mirror for which others poll looks as often as it is told to, leaves new branches until then, and says when it looked.
func TestEvery(t *testing.T) {
	u := newUpstream(t)
	u.commit("a", map[string]string{"x": "1"})
	f := newFakeGit(t, u.serve())
	var every atomic.Int64
	every.Store(int64(time.Hour))
	m := open(t, Options{URL: f.url, Interval: 20 * time.Millisecond, Every: func() time.Duration { return time.Duration(every.Load()) }})
	if at, reads := m.Seen(); at != 0 || reads {
		t.Errorf("before the first fetch: seen %d, %v", at, reads)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() { stop(); <-done }()
	<-m.Updates()
	first, reads := m.Seen()
	if first == 0 || !reads {
		t.Errorf("after it: seen %d, %v", first, reads)
	}
	before := f.requests.Load()
	m.Follow([]string{"refs/heads/other"})
	time.Sleep(200 * time.Millisecond)
	if n := f.requests.Load() - before; n > 0 {
		t.Errorf("%d requests of a mirror that others poll for", n)
	}
	every.Store(int64(20 * time.Millisecond))
	m.Wake()
	until := time.Now().Add(10 * time.Second)
	for f.requests.Load()-before < 5 && time.Now().Before(until) {
		time.Sleep(5 * time.Millisecond)
	}
	if at, _ := m.Seen(); f.requests.Load()-before < 5 || at <= first {
		t.Errorf("%d requests, seen %d ms after the first look", f.requests.Load()-before, at-first)
	}
	f.breaks(answers("/info/refs", 503, "", "down"))
	for m.failing.Load() == false && time.Now().Before(until) {
		time.Sleep(5 * time.Millisecond)
	}
	if at, reads := m.Seen(); reads || at <= first {
		t.Errorf("of a host that is down: seen %d, %v", at-first, reads)
	}
}
