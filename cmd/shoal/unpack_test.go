package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
)

// TestUnpacker shows that images that were pushed are made ready one after the other, that one that cannot be holds up
// no other, and that a flood of pushes neither waits nor piles up.
func TestUnpacker(t *testing.T) {
	u := newUnpacker()
	for range 2 * aheadMost {
		u.note("shoal.local/flood:1", "sha256:0")
	}
	if got := len(u.pushed); got != aheadMost {
		t.Errorf("%d wait, want %d", got, aheadMost)
	}
	u = newUnpacker()
	u.note("shoal.local/a:1", "sha256:a")
	u.note("shoal.local/bad:1", "sha256:b")
	u.note("shoal.local/c:1", "sha256:c")
	ctx, cancel := context.WithCancel(t.Context())
	var pulled []string
	err := u.run(ctx, func(_ context.Context, name, digest string) error {
		pulled = append(pulled, name+"@"+digest)
		switch digest {
		case "sha256:b":
			return errors.New("no match for platform")
		case "sha256:c":
			cancel()
		}
		return nil
	}, slog.New(slog.DiscardHandler))
	want := []string{"shoal.local/a:1@sha256:a", "shoal.local/bad:1@sha256:b", "shoal.local/c:1@sha256:c"}
	if err != nil || !slices.Equal(pulled, want) {
		t.Errorf("pulled %v, %v", pulled, err)
	}
}
