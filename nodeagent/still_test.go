package nodeagent

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/plan"
)

// memLease allows all, or nothing to be started.
type memLease struct {
	mu      sync.Mutex
	noStart bool
	events  chan struct{}
}

func (l *memLease) Events() <-chan struct{} { return l.events }

func (l *memLease) Lease(uint64) plan.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return plan.Lease{NoStart: l.noStart}
}

func (l *memLease) forbid(yes bool) { l.mu.Lock(); l.noStart = yes; l.mu.Unlock(); nudge(l.events) }

// What may run once is not started when its image has come at last, and the lease has ended, or the pod was given up
// meanwhile: one of its kind may run elsewhere.
func TestFault_N2_StartThatWasDecidedLongAgo(t *testing.T) {
	const bare = "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec: {containers: [{name: main, image: app}]}\n"
	for _, c := range []struct {
		name   string
		during func(m *machine, l *memLease)
		starts bool
	}{
		{"nothing happens", func(*machine, *memLease) {}, true},
		{"the lease ends", func(_ *machine, l *memLease) { l.forbid(true) }, false},
		{"it ends, and is granted anew", func(_ *machine, l *memLease) { l.forbid(true); synctest.Wait(); l.forbid(false) }, true},
		{"it was given up meanwhile", func(m *machine, l *memLease) {
			l.forbid(true)
			node := enginetest.Node(1).ID
			for _, in := range []cluster.Input{
				{NodeDown: &cluster.NodeDown{ID: node}}, {NodeDown: &cluster.NodeDown{ID: node, Fenced: true}}, {NodeUp: enginetest.Node(1)},
			} {
				_, _ = (*memLedger)(m).Append(context.Background(), in)
			}
			l.forbid(false)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				m.pullTime = time.Minute
				l := &memLease{events: make(chan struct{}, 1)}
				a := m.agent()
				a.opt.Lease = l
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() { defer close(done); _ = a.Run(ctx) }()
				defer func() { cancel(); <-done }()
				m.commit(bare)
				m.mu.Lock()
				first := m.ring.Pods()[0].ID
				m.mu.Unlock()
				time.Sleep(30 * time.Second)
				c.during(m, l)
				time.Sleep(30*time.Second + 100*time.Millisecond)
				synctest.Wait()
				m.mu.Lock()
				seen := m.have[first]
				started := seen != nil && len(seen.Containers) > 0
				m.mu.Unlock()
				if started != c.starts {
					t.Errorf("it was started: %v, want %v; %s", started, c.starts, strings.TrimSpace(m.did()))
				}
			})
		})
	}
}
