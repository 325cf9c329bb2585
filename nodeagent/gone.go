package nodeagent

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/wire"
)

// GoneWatchOptions are what a GoneWatch is made of; all are required.
type GoneWatchOptions struct {
	Ledger     interface{ View(func(*cluster.State)) }
	Remembered func(pods netip.Prefix) (map[wire.Flow]bool, error) // connections that the kernel leads to pods
	Forget     func(flows map[wire.Flow]bool) (n uint, err error)
	Log        *slog.Logger
}

// GoneWatch has the kernel forget connections to pods that are gone. Without it a client that asks again from the same port within the two
// minutes, or days, for which the kernel remembers one is led to where nobody is.
type GoneWatch struct {
	opt  GoneWatchOptions
	pods uint64 // what stood for the pods at the last look
	said string // what was said last of what does not work
}

// NewGoneWatch makes one; Run starts it.
func NewGoneWatch(opt GoneWatchOptions) *GoneWatch { return &GoneWatch{opt: opt} }

// goneLook is the least time between two looks, goneRest how many times as long as a look took there is none: 2 % of a core.
const (
	goneLook = 5 * time.Second
	goneRest = 50
)

// Run looks until ctx ends.
func (w *GoneWatch) Run(ctx context.Context) error {
	for {
		begun := time.Now()
		w.look(ctx)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(max(goneLook, goneRest*time.Since(begun))):
		}
	}
}

// look forgets what leads to pods that are gone, if pods came or went since the last look.
func (w *GoneWatch) look(ctx context.Context) {
	var pods uint64
	ring := w.view(func(p *control.Pod) { pods += podMark(p) })
	if pods == w.pods {
		return
	}
	flows, err := w.opt.Remembered(ring)
	if err == nil {
		// Only now: rules lead to pods that the ledger has here, so one that came after the flows were read is in none of them.
		w.view(func(p *control.Pod) {
			delete(flows, wire.Flow{Pod: p.IP, Answered: true})
			if p.Lost == 0 {
				delete(flows, wire.Flow{Pod: p.IP})
			}
		})
		err = w.forget(ctx, flows)
	}
	if err == nil {
		w.pods, w.said = pods, ""
	} else if err.Error() != w.said {
		w.said = err.Error()
		w.opt.Log.WarnContext(ctx, "connections to pods that are gone are not forgotten, will retry", "err", err)
	}
}

func (w *GoneWatch) forget(ctx context.Context, flows map[wire.Flow]bool) error {
	if len(flows) == 0 {
		return nil
	}
	n, err := w.opt.Forget(flows)
	if n > 0 {
		w.opt.Log.DebugContext(ctx, "connections to pods that are gone forgotten", "count", n)
	}
	return err
}

// view calls f with the pods that are there, and returns the range that their addresses are of.
func (w *GoneWatch) view(f func(p *control.Pod)) (pods netip.Prefix) {
	w.opt.Ledger.View(func(s *cluster.State) {
		ring, ok := s.Ring()
		if !ok {
			return
		}
		pods = ring.PodCIDR
		for p := range s.Pods().Values() {
			if p.Node != "" && p.IP.IsValid() && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				f(p)
			}
		}
	})
	return pods
}

// podMark stands for a pod in a sum of them all: another address, or that nobody reaches it, makes it another one.
func podMark(p *control.Pod) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range p.IP.As16() {
		h = (h ^ uint64(b)) * 1099511628211
	}
	if p.Lost != 0 {
		h = ^h
	}
	return h
}
