package main

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
)

const (
	collectEvery = 10 * time.Minute
	// collectAge is how old an object must be that nothing refers to: a commit under way, and the older of two
	// snapshots, may still need it.
	collectAge = 24 * time.Hour
)

// collect gives back what nothing refers to any more: images no pod and no environment uses, and objects that no
// state refers to.
func (m *machine) collect(ctx context.Context) error {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		var s *cluster.State
		m.ledger.View(func(now *cluster.State) { s = now.Snapshot() })
		if err := m.containers.CollectGarbage(ctx, func(name string) bool { return usesImage(s, name) }); err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "image garbage not collected", "err", err)
		}
		kept := map[desired.Digest]bool{}
		for d := range s.Blobs() {
			kept[d] = true
		}
		swept, err := m.content.Sweep(func(d desired.Digest) bool { return kept[d] }, collectAge)
		if err != nil {
			m.log.WarnContext(ctx, "object garbage not collected", "err", err)
		} else if swept.Removed > 0 {
			m.log.InfoContext(ctx, "objects removed that nothing refers to", "objects", swept.Removed, "bytes", swept.RemovedBytes)
		}
	}
}

// usesImage tells whether an environment runs an image, by its name or its digest. Those of the ring's own store
// were pushed by people and stay.
func usesImage(s *cluster.State, name string) bool {
	for e := range s.Environments().Values() {
		for ref, digest := range e.Images {
			if ref == name || digest == name {
				return true
			}
		}
	}
	return len(name) > len(localImages) && name[:len(localImages)] == localImages
}

const localImages = "shoal.local/"
