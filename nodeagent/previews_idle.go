package nodeagent

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/promote"
)

// IdleWatchOptions are what an IdleWatch is made of; all are required.
type IdleWatchOptions struct {
	Deployer *Deployer
	Wake     func(ctx context.Context, preview string) error
	Visited  func(ports map[uint16]bool) (map[uint16]bool, error) // at which node ports of this node something was asked since the last call
	Busy     func() map[string]bool                               // previews that somebody waits for, or speaks with in a way that Visited does not see
	Log      *slog.Logger
}

// IdleWatch tells the ring which previews are asked for at this node, so that they do not fall asleep. It says so at most four times in the time
// after which they would.
type IdleWatch struct {
	opt   IdleWatchOptions
	asked map[string]bool // since the ring was told last
	said  string          // what was said last of what does not work
}

// NewIdleWatch makes one; Run starts it.
func NewIdleWatch(opt IdleWatchOptions) *IdleWatch {
	return &IdleWatch{opt: opt, asked: map[string]bool{}}
}

// idleLook bounds the time between looks: what the kernel remembers of a connection that was reset is gone after 10 s.
const idleLook = 10 * time.Second

// Run looks until ctx ends.
func (w *IdleWatch) Run(ctx context.Context) error {
	for {
		every := 2 * time.Second // until shoal.cue says something of it
		if idle := w.opt.Deployer.previewIdle(); idle > 0 {
			every = max(time.Second, min(idleLook, idle/4))
			w.look(ctx, idle)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(every):
		}
	}
}

// look notes which previews were asked for, and tells the ring of those that it last heard of a while ago.
func (w *IdleWatch) look(ctx context.Context, idle time.Duration) {
	ports, of := map[uint16]bool{}, map[uint16]string{}
	heard := map[string]int64{} // of those that are awake: when the ring last heard of a reason for it
	w.opt.Deployer.opt.Ledger.View(func(s *cluster.State) {
		for p := range s.Previews().Values() {
			if !p.Asleep {
				heard[p.Name] = max(p.Changed, p.Asked)
			}
		}
		if len(heard) == 0 {
			return
		}
		for svc := range s.Services().Values() {
			if _, awake := heard[svc.Environment]; awake {
				for _, p := range svc.NodePorts {
					ports[uint16(p.NodePort)], of[uint16(p.NodePort)] = true, svc.Environment
				}
			}
		}
	})
	maps.DeleteFunc(w.asked, func(preview string, _ bool) bool { _, awake := heard[preview]; return !awake })
	if len(heard) == 0 {
		return
	}
	visited, err := w.opt.Visited(ports)
	if err != nil && err.Error() != w.said {
		w.said = err.Error()
		w.opt.Log.WarnContext(ctx, "requests to previews are not counted: they sleep though they are asked for", "err", err)
	}
	for port := range visited {
		w.asked[of[port]] = true
	}
	for preview := range w.opt.Busy() {
		w.asked[preview] = true
	}
	now := w.opt.Deployer.ringTime()
	for preview := range w.asked {
		at, awake := heard[preview]
		if !awake || now-at < (idle/4).Milliseconds() {
			continue
		}
		wake, cancel := context.WithTimeout(ctx, idleLook)
		err := w.opt.Wake(wake, preview)
		cancel()
		if err != nil {
			w.opt.Log.WarnContext(ctx, "the ring was not told that a preview is asked for, will retry", "environment", preview, "err", err)
			continue
		}
		delete(w.asked, preview)
	}
}

// previewIdle is after how long previews sleep that nobody asks for; 0: they do not.
func (d *Deployer) previewIdle() time.Duration {
	l := d.lastList.Load()
	if l == nil || len(l.problems) > 0 {
		return 0
	}
	policy, there, problems := promote.Previews(l.environments, d.opt.Branch)
	if !there || len(problems) > 0 {
		return 0
	}
	return policy.Idle
}
