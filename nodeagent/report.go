package nodeagent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// Reports of one pod: burst at once, then one each interval, so that a pod that flaps cannot fill the ledger.
const (
	reportBurst    = 6
	reportInterval = time.Second
)

// reporter appends what changed in the pods' statuses. It holds one pending report a pod.
type reporter struct {
	ledger Ledger
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex // guards what follows
	pending map[control.PodID]cluster.Phase
	sent    map[control.PodID]*sentReport
}

type sentReport struct {
	status corev1.PodStatus
	tokens int
	filled time.Time
	gone   bool
}

func newReporter(ledger Ledger, log *slog.Logger) *reporter {
	return &reporter{
		ledger: ledger, log: log, wake: make(chan struct{}, 1),
		pending: map[control.PodID]cluster.Phase{}, sent: map[control.PodID]*sentReport{},
	}
}

// set queues a status where it differs from the one last queued or known to the ledger.
func (r *reporter) set(p *plan.Pod, s corev1.PodStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.sent[p.ID]
	if known == nil {
		known = &sentReport{status: p.Status, tokens: reportBurst, filled: time.Now()}
		r.sent[p.ID] = known
	}
	if known.gone || equality.Semantic.DeepEqual(known.status, s) {
		return
	}
	known.status = s
	r.pending[p.ID] = cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Status: s}
	r.nudge()
}

// removed queues that nothing is left of a pod.
func (r *reporter) removed(p *plan.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.sent[p.ID]
	if known == nil {
		known = &sentReport{status: p.Status, tokens: reportBurst, filled: time.Now()}
		r.sent[p.ID] = known
	}
	known.gone = true
	r.pending[p.ID] = cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Status: known.status, Removed: true}
	r.nudge()
}

func (r *reporter) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// due takes the reports that may go now, and says when the next one may.
func (r *reporter) due(now time.Time) (out []cluster.Phase, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = time.Hour
	for id, phase := range r.pending {
		known := r.sent[id]
		if n := int(now.Sub(known.filled) / reportInterval); n > 0 {
			known.tokens = min(reportBurst, known.tokens+n)
			known.filled = known.filled.Add(time.Duration(n) * reportInterval)
		}
		if known.tokens == 0 && !phase.Removed {
			wait = min(wait, known.filled.Add(reportInterval).Sub(now))
			continue
		}
		known.tokens = max(0, known.tokens-1)
		out = append(out, phase)
		delete(r.pending, id)
		if phase.Removed {
			delete(r.sent, id)
		}
	}
	return out, wait
}

// run appends reports until ctx ends. An append that fails is tried again; a newer
// status follows it.
func (r *reporter) run(ctx context.Context) {
	for {
		phases, wait := r.due(time.Now())
		var group sync.WaitGroup
		for _, phase := range phases {
			group.Go(func() { r.append(ctx, phase) }) // raft batches what arrives together
		}
		group.Wait()
		if len(phases) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-time.After(wait):
		}
	}
}

func (r *reporter) append(ctx context.Context, phase cluster.Phase) {
	for ctx.Err() == nil {
		out, err := r.ledger.Append(ctx, cluster.Input{Phase: &phase})
		if err == nil {
			if out.Rejected != "" {
				r.log.WarnContext(ctx, "report was refused", "pod", phase.Pod, "why", out.Rejected)
			}
			return
		}
		if errors.Is(err, context.Canceled) {
			return
		}
		r.log.WarnContext(ctx, "report not taken, will retry", "pod", phase.Pod, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
