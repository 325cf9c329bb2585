package registry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// maxHeld bounds what is remembered of one window; forgetting costs a write.
const maxHeld = 4096

// window is the containerd lease of the present stretch of time: what is taken up into it stays until it expires,
// for Keep at least and twice as long at most. The collector deletes expired leases, so nothing is left to undo
// after a crash.
type window struct {
	mu    sync.Mutex // guards the rest
	lease leases.Lease
	ends  time.Time
	held  map[digest.Digest]bool
}

// protect keeps content that nothing refers to yet, or that is about to be written, from collection.
func (s *Server) protect(ctx context.Context, d digest.Digest) error {
	w := &s.window
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.lease.ID == "" || now.After(w.ends) {
		life := s.opt.Keep.Abs()
		l, err := s.opt.Leases.Create(ctx, leases.WithID(fmt.Sprintf("shoal-registry-%d", now.UnixNano())), leases.WithExpiration(s.opt.Keep+life))
		if err != nil {
			return fmt.Errorf("lease for pushed content: %w", err)
		}
		w.lease, w.ends, w.held = l, now.Add(life), map[digest.Digest]bool{}
	}
	if w.held[d] {
		return nil
	}
	err := s.opt.Leases.AddResource(ctx, w.lease, leases.Resource{ID: d.String(), Type: "content"})
	if errdefs.IsNotFound(err) { // somebody deleted the lease: the next call makes another
		w.lease.ID = ""
	}
	if err != nil {
		return fmt.Errorf("lease for pushed content: %w", err)
	}
	if len(w.held) >= maxHeld {
		clear(w.held)
	}
	w.held[d] = true
	return nil
}
