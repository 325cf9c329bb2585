package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

const (
	// AfterHook is what a container gets between its stop signal and its end though its preStop hook took all of the grace,
	// as in Kubernetes.
	AfterHook = 2 * time.Second
	// hookLooks is how often it is asked whether a hook that is under way still has a purpose.
	hookLooks = 250 * time.Millisecond
)

// hookError is a postStart hook that has failed: its container is ended.
type hookError struct{ error }

// errContainerEnded is why a preStop hook is not waited for any longer.
var errContainerEnded = errors.New("the container has ended")

// hooked are the containers whose postStart hook is under way: they run, and are not started yet. Safe for concurrent use.
type hooked struct {
	mu  sync.Mutex // guards all
	all map[hookKey]bool
}

type hookKey struct {
	pod       control.PodID
	container string
}

func (h *hooked) set(k hookKey, under bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !under {
		delete(h.all, k)
		return
	}
	if h.all == nil {
		h.all = map[hookKey]bool{}
	}
	h.all[k] = true
}

// unstarted has the containers whose postStart hook is under way count as neither started nor ready.
func (h *hooked) unstarted(have plan.Have, health map[string]plan.Health) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.all {
		if seen := have[k.pod]; seen != nil && seen.Containers[k.container] != nil {
			health[seen.Containers[k.container].ID] = plan.Health{NotStarted: true, NotReady: true}
		}
	}
}

// begins notes a container that is about to be started and has a postStart hook, before anybody can see it run.
func (a *Agent) begins(p *plan.Pod, container string) {
	if hookOf(p, container, postStart) != nil {
		a.hooked.set(hookKey{p.ID, container}, true)
	}
}

// postStart carries out the hook of a container that was just started. It has the time that it needs, as in Kubernetes, until
// the pod is told to stop; nothing else of the pod is begun before it is over. A container whose hook fails is stopped.
// An agent that ends meanwhile leaves the container running, and the next does not begin the hook again.
func (a *Agent) postStart(ctx context.Context, p *plan.Pod, container string) error {
	h := hookOf(p, container, postStart)
	if h == nil {
		return nil
	}
	defer a.hooked.set(hookKey{p.ID, container}, false)
	err := a.hook(ctx, p, container, h, func() error { return a.wanted(p) })
	if err == nil || ctx.Err() != nil || errors.Is(err, errOvertaken) {
		return err
	}
	a.journal.Add(Event{Object: "Pod " + p.Namespace + "/" + p.Name, Reason: "FailedPostStartHook", Message: fmt.Sprintf("container %s is ended: %v", container, err)})
	return hookError{errors.Join(fmt.Errorf("postStart hook: %w", err), a.stop(ctx, p, container, p.SpecGrace()))}
}

// stop ends a container within so many seconds: its preStop hook, its stop signal, SIGKILL.
func (a *Agent) stop(ctx context.Context, p *plan.Pod, container string, grace int64) error {
	all := time.Duration(grace) * time.Second
	left := a.PreStop(ctx, p, container, all, all)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return a.opt.Containers.Stop(ctx, p.ID, container, int64((left+time.Second-1)/time.Second))
}

// PreStop carries out the hook of a container that is about to be stopped, for so long at most, and returns what is left of the
// grace. A hook that fails holds nothing up. One that an agent's end cut short is begun again by the next agent.
func (a *Agent) PreStop(ctx context.Context, p *plan.Pod, container string, grace, most time.Duration) (left time.Duration) {
	h := hookOf(p, container, preStop)
	if h == nil || most <= 0 {
		return grace
	}
	begun := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it takes longer than %s", most))
	defer cancel()
	err := a.hook(bounded, p, container, h, func() error { return a.runs(p.ID, container) })
	if err != nil && ctx.Err() == nil && !errors.Is(err, errContainerEnded) {
		a.journal.Add(Event{Object: "Pod " + p.Namespace + "/" + p.Name, Reason: "FailedPreStopHook", Message: fmt.Sprintf("container %s: %v", container, err)})
	}
	return max(grace-time.Since(begun), min(grace, AfterHook))
}

// hook carries out a hook as long as it has a purpose.
func (a *Agent) hook(ctx context.Context, p *plan.Pod, container string, h *corev1.LifecycleHandler, still func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- a.opt.Probes.Hook(ctx, p, container, h) }() // ends with ctx
	look := time.NewTicker(hookLooks)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return causeOf(ctx, err)
		case <-look.C:
			if err := still(); err != nil {
				cancel(err)
				return causeOf(ctx, <-done)
			}
		}
	}
}

// causeOf is why a context was ended, if it was, and else err.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// wanted tells whether a pod that is being started is to run still.
func (a *Agent) wanted(p *plan.Pod) error {
	var now *control.Pod
	a.opt.Ledger.View(func(s *cluster.State) { now, _ = s.Pod(p.ID) })
	if now == nil || now.Node != a.opt.Node || now.Deleting != 0 || now.Finished != 0 {
		return errOvertaken
	}
	return a.mayStill(p)
}

// runs tells whether a container ran at the last look.
func (a *Agent) runs(id control.PodID, container string) error {
	last := a.last.Load()
	if last == nil {
		return nil
	}
	if seen := last.Have[id]; seen != nil && seen.Containers[container] != nil && seen.Containers[container].State == plan.Exited {
		return errContainerEnded
	}
	return nil
}

func postStart(l *corev1.Lifecycle) *corev1.LifecycleHandler { return l.PostStart }
func preStop(l *corev1.Lifecycle) *corev1.LifecycleHandler   { return l.PreStop }

// hookOf is one of a container's hooks, nil if it has none or is not known any more.
func hookOf(p *plan.Pod, container string, which func(*corev1.Lifecycle) *corev1.LifecycleHandler) *corev1.LifecycleHandler {
	if p == nil || p.Spec == nil {
		return nil
	}
	c := p.Container(container)
	if c == nil || c.Lifecycle == nil {
		return nil
	}
	return which(c.Lifecycle)
}
