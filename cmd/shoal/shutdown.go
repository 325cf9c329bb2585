package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent"
)

const (
	// defaultGrace is what pods get when their machine goes down.
	defaultGrace = 10 * time.Second
	// leaveWithin bounds how long the others are waited for that are to take over, as a share of the grace and in all.
	leaveShare, leaveWithin = 4, 2 * time.Second
	// drainShare and drainMost are for the connections that are under way, and the others to hear of it.
	drainShare, drainMost = 5, 2 * time.Second
	// killShare and killMost are kept for those that do not end when they are told.
	killShare, killMost = 5, 2 * time.Second
	// overtime is what a slow machine gets beyond the grace, so that nothing is left half done.
	overtime = 5 * time.Second
)

func newShutdown(g *globals) *cobra.Command {
	grace := defaultGrace
	cmd := &cobra.Command{
		Use: "shutdown", Short: "End this machine's pods before the machine goes down", Args: exactly(0, "no arguments"),
		Long: `Hands this node's work over and ends its pods, in order and within --grace: no Service leads here any more and substitutes
start on other nodes, connections under way get a moment, all pods are told to stop and those that do not are killed, everything is on disk. The agent goes
on and starts nothing, until it is started again: after the boot all is as it was, but for pods with restartPolicy Never, which have failed.

"shoal install" has systemd run it when the machine goes down. Elsewhere it belongs first into what runs then.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return g.client().Shutdown(cmd.Context(), grace) },
	}
	cmd.Flags().DurationVar(&grace, "grace", grace, "how long it may take")
	return cmd
}

// stages are the parts of an agent that a shutdown ends before the others. Each has ended when its end returns.
type stages struct {
	keeper, agent, leases stage
}

// stage is a part that may be ended before ctx is.
type stage struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// run runs f until ctx ends, the stage is ended, which is no error, or f fails.
func (s *stage) run(ctx context.Context, g *errgroup.Group, f func(context.Context) error) {
	own, cancel := context.WithCancel(ctx)
	*s = stage{cancel, make(chan struct{})}
	ended := s.ended
	g.Go(func() error {
		defer close(ended)
		err := f(own)
		if own.Err() != nil && ctx.Err() == nil {
			return nil
		}
		return err
	})
}

func (s *stage) end() {
	s.cancel()
	<-s.ended
}

// shutdown ends what runs here, in order, within grace. The agent does not end: whatever keeps it running would start it
// again, and its pods with it. A second call waits for the first.
func (m *machine) shutdown(ctx context.Context, grace time.Duration) error {
	m.downMu.Lock()
	defer m.downMu.Unlock()
	if m.down {
		return nil
	}
	m.down = true
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), time.Now().Add(grace+overtime)) // who asked may go first
	defer cancel()
	begun := time.Now()
	m.log.InfoContext(ctx, "the machine goes down: pods are ended", "within", grace)

	m.stages.keeper.end() // it would say that this node is there
	if err := m.handOver(ctx, min(grace/leaveShare, leaveWithin)); err != nil {
		m.log.WarnContext(ctx, "the ring was not told that this machine goes down, and will notice", "err", err)
	}
	pause(ctx, min(grace/drainShare, drainMost))
	m.stages.agent.end() // it would start again what ends
	stopped, err := m.stopPods(ctx, time.Until(begun.Add(grace-min(grace/killShare, killMost))))
	m.stages.leases.end() // nothing is left of what may run once: once it is over, that starts elsewhere
	synced := make(chan struct{})
	go func() { defer close(synced); unix.Sync() }() // ends when the disk has all
	select {
	case <-synced:
	case <-ctx.Done():
		err = errors.Join(err, errors.New("the disks did not take everything in time"))
	}
	err = errors.Join(err, m.ring.Leave())
	m.log.InfoContext(ctx, "pods were ended", "pods", stopped, "took", time.Since(begun).Round(time.Millisecond), "err", err)
	return err
}

// handOver has the others count this node as lost, at once: their Services lead here no longer, and they start what
// may run elsewhere.
func (m *machine) handOver(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var term uint64
	nodes := 0
	m.ledger.View(func(s *cluster.State) {
		nodes = s.Nodes().Len()
		if ring, ok := s.Ring(); ok {
			term = ring.Term
		}
	})
	if nodes < 2 {
		return nil
	}
	out, err := m.ledger.Append(ctx, cluster.Input{NodeDown: &cluster.NodeDown{ID: m.dir.Node.ID, Term: term}})
	if err == nil && out.Rejected != "" {
		err = errors.New(out.Rejected)
	}
	if m.ledger.Leading() {
		err = errors.Join(err, m.ledger.StepDown(ctx))
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// stopPods tells all containers to stop, gives each what its pod wants but at most grace, kills those that run still, and takes
// away what is left of them: what the next agent finds is not a container that failed.
func (m *machine) stopPods(ctx context.Context, grace time.Duration) (stopped int, err error) {
	have, err := m.containers.List(ctx)
	if err != nil {
		return 0, fmt.Errorf("list containers: %w", err)
	}
	var want plan.Want
	if last := m.agent.Last(); last != nil {
		want = last.Want
	}
	var g errgroup.Group
	for id, seen := range have {
		if !seen.Runs() {
			continue // what has ended before stays as it is
		}
		stopped++
		g.Go(func() error {
			return m.stopPod(ctx, id, want[id], seen, min(grace, time.Duration(want[id].SpecGrace())*time.Second))
		})
	}
	return stopped, g.Wait()
}

func (m *machine) stopPod(ctx context.Context, id control.PodID, p *plan.Pod, seen *plan.Seen, grace time.Duration) error {
	var g errgroup.Group
	for name, c := range seen.Containers {
		if c.State == plan.Running {
			g.Go(func() error {
				left := m.agent.PreStop(ctx, p, name, grace, grace-nodeagent.AfterHook)
				return m.containers.Stop(ctx, id, name, max(left, 0))
			})
		}
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("pod %s: %w", id, err)
	}
	if err := m.containers.Dismiss(ctx, id); err != nil {
		return fmt.Errorf("pod %s: %w", id, err)
	}
	return nil
}

// isDown says whether pods were ended for good.
func (m *machine) isDown() bool {
	m.downMu.Lock()
	defer m.downMu.Unlock()
	return m.down
}
