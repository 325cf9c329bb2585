package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// result is what came of a pod's batch of actions.
type result struct {
	pod     control.PodID
	removed *plan.Pod // everything of it was taken down
	linked  bool      // its link was made or mended
	shown   *plan.Pod // its volumes are as this has them
	failed  plan.Action
	err     error
}

// trouble is a pod whose last action failed: it is left alone until its back-off ends, then tried again.
type trouble struct {
	at        time.Time // by the clock that does not jump
	failures  int
	container string
	what      plan.Trouble
	deleting  bool // it failed while being stopped, or while it was still wanted
}

// start sets a worker going for one pod.
func (a *Agent) start(ctx context.Context, p *plan.Pod, steps []plan.Action) {
	a.busy[p.ID] = true
	go func() {
		r := result{pod: p.ID}
		var done int
		done, r.failed, r.err = a.carryOut(ctx, p, steps)
		for _, s := range steps[:done] { // also if a later one failed: what was done is done
			r.linked = r.linked || s.Op == plan.Sandbox || s.Op == plan.Relink
			if s.Op == plan.Sandbox || s.Op == plan.Refresh {
				r.shown = p
			}
		}
		if done == len(steps) && steps[done-1].Op == plan.Teardown {
			r.removed = p
		}
		a.done <- r
	}()
}

// finish takes in what a worker did.
func (a *Agent) finish(ctx context.Context, r result) {
	delete(a.busy, r.pod)
	if r.linked {
		a.linked[r.pod] = true
	}
	if r.shown != nil {
		a.shows[r.pod] = r.shown
	}
	switch {
	case r.err == nil:
		delete(a.retry, r.pod)
		if r.removed != nil {
			a.gone[r.pod] = true
			a.reports.removed(r.removed)
		}
	case errors.Is(r.err, context.Canceled), errors.Is(r.err, errOvertaken):
	default:
		a.fail(ctx, r)
	}
}

// fail notes a failed action and sets when to try again: 250 ms, doubled, 5 minutes at most for an image (as
// the kubelet backs off) and 10 s for anything else.
func (a *Agent) fail(ctx context.Context, r result) {
	t := a.retry[r.pod]
	if t == nil {
		t = &trouble{}
		a.retry[r.pod] = t
	}
	t.failures++
	most := 10 * time.Second
	t.container = r.failed.Container
	t.what = plan.Trouble{Reason: "RunContainerError", Message: r.err.Error()}
	switch r.failed.Op {
	case plan.Pull:
		most = 5 * time.Minute
		t.what.Reason = "ErrImagePull"
		if t.failures > 1 {
			t.what.Reason = "ImagePullBackOff"
		}
	case plan.Sandbox, plan.Relink:
		t.what.Reason = "FailedCreatePodSandBox"
	case plan.Start:
		if _, ok := errors.AsType[configError](r.err); ok {
			t.what.Reason = "CreateContainerConfigError"
		}
		if _, ok := errors.AsType[hookError](r.err); ok {
			t.what.Reason = "PostStartHookError"
		}
	case plan.Refresh:
		t.what.Reason = "FailedMount"
	case plan.Stop, plan.Remove, plan.Release, plan.Teardown:
		t.what.Reason = "FailedKillPod"
	}
	wait := min(250*time.Millisecond<<min(t.failures-1, 16), most)
	t.at = time.Now().Add(wait)
	if p := a.wants.Want[r.pod]; p != nil {
		t.deleting = p.Deleting != 0
	}
	a.journal.Add(Event{Object: "Pod " + r.failed.Name, Reason: t.what.Reason, Message: t.what.Message})
	a.opt.Log.WarnContext(ctx, "action failed, will retry", "op", r.failed.Op, "pod", r.failed.Name, "container", r.failed.Container, "in", wait.String(), "err", r.err)
}

// held are the pods the planner leaves alone: those being worked on, and those waiting out a failure. A pod
// that was told to stop since it failed is not held: its failure is of no more interest.
func (a *Agent) held() map[control.PodID]bool {
	out := make(map[control.PodID]bool, len(a.busy)+len(a.gone)+len(a.retry))
	for id := range a.busy {
		out[id] = true
	}
	for id := range a.gone {
		if a.wants.Want[id] == nil {
			delete(a.gone, id)
			continue
		}
		out[id] = true
	}
	for id, t := range a.retry {
		p := a.wants.Want[id]
		if p == nil {
			delete(a.retry, id)
			continue
		}
		if time.Until(t.at) > 0 && (p.Deleting != 0) == t.deleting {
			out[id] = true
		}
	}
	return out
}

func (a *Agent) containerTroubles(id control.PodID) map[string]plan.Trouble {
	t := a.retry[id]
	what, withheld := a.waiting[id]
	if !withheld && t == nil {
		return nil
	}
	if !withheld {
		if what = t.what; t.container != "" {
			return map[string]plan.Trouble{t.container: what}
		}
	}
	out := map[string]plan.Trouble{}
	if p := a.wants.Want[id]; p != nil {
		for i := range p.Spec.Containers {
			out[p.Spec.Containers[i].Name] = what
		}
	}
	return out
}

// noteWithheld notes why pods are not started that are to run and do not.
func (a *Agent) noteWithheld(have plan.Have, facts plan.Facts) {
	was := a.waiting
	a.waiting = map[control.PodID]plan.Trouble{}
	for id, p := range a.wants.Want {
		why := plan.Withheld(p, facts)
		if why == (plan.Trouble{}) || p.GivenUp || p.Deleting != 0 || p.Finished != 0 || have[id].Runs() {
			continue
		}
		if a.waiting[id] = why; was[id] != why && why.Reason != notRendered {
			a.journal.Add(Event{Object: "Pod " + p.Namespace + "/" + p.Name, Reason: why.Reason, Message: why.Message})
		}
	}
}

func (a *Agent) troubles() map[control.PodID]map[string]plan.Trouble {
	out := make(map[control.PodID]map[string]plan.Trouble, len(a.retry)+len(a.waiting))
	for id := range a.retry {
		out[id] = a.containerTroubles(id)
	}
	for id := range a.waiting {
		out[id] = a.containerTroubles(id)
	}
	return out
}

// configError is a container that cannot be made from its words: a missing key, say.
type configError struct{ error }

// carryOut does one pod's actions in order and stops at the first that fails: the rest waits for the next look. It
// returns how many were done.
func (a *Agent) carryOut(ctx context.Context, p *plan.Pod, steps []plan.Action) (done int, failed plan.Action, err error) {
	for i, s := range steps {
		if s.Op == plan.Sandbox || s.Op == plan.Start {
			select {
			case a.starts <- struct{}{}:
			case <-ctx.Done():
				return i, s, context.Cause(ctx)
			}
		}
		begun := time.Now()
		err = nil
		if s.Op == plan.Start {
			err = a.mayStill(p)
		}
		switch {
		case err != nil:
		case s.Op == plan.Stop:
			err = a.stopTogether(ctx, p, steps[i:])
		default:
			err = a.do(ctx, p, s)
		}
		if s.Op == plan.Sandbox || s.Op == plan.Start {
			<-a.starts
		}
		if s.Op == plan.Start && err == nil {
			err = a.postStart(ctx, p, s.Container)
		}
		if err != nil {
			what := cmp.Or(s.Container, s.Name)
			if s.Op == plan.Pull {
				what = s.Image
			}
			return i, s, fmt.Errorf("%s %s: %w", s.Op, what, err)
		}
		a.opt.Log.DebugContext(ctx, "done", "op", s.Op, "pod", s.Name, "container", s.Container, "why", s.Why, "took", time.Since(begun).String())
		a.journal.did(p, s)
		if s.Op == plan.Stop {
			return i + 1, s, nil // all stops of a batch went together; what comes next is decided by a new look
		}
	}
	return len(steps), failed, nil
}

// do is the whole list of what Shoal does to a machine.
func (a *Agent) do(ctx context.Context, p *plan.Pod, s plan.Action) error {
	switch s.Op {
	case plan.Pull:
		open, forget, err := a.opened(p)
		if err != nil {
			return err
		}
		defer forget()
		return a.opt.Containers.Pull(ctx, open, s.Image, p.Images[s.Image])
	case plan.Sandbox:
		return a.sandbox(ctx, p)
	case plan.Relink:
		return a.link(ctx, p)
	case plan.Refresh:
		return a.volumes(ctx, p)
	case plan.Start:
		return a.launch(ctx, p, s)
	case plan.Stop:
		return a.stop(ctx, p, s.Container, s.Grace)
	case plan.Remove:
		return a.opt.Containers.Remove(ctx, p.ID, s.Container, s.Attempt)
	case plan.Release:
		return a.takeDown(ctx, p, a.opt.Containers.Release)
	case plan.Teardown:
		return a.takeDown(ctx, p, a.opt.Containers.RemoveSandbox)
	}
	return fmt.Errorf("unknown operation %q", s.Op)
}

// sandbox makes a pod's namespaces and link, and beside it its volumes.
func (a *Agent) sandbox(ctx context.Context, p *plan.Pod) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.link(ctx, p) })
	g.Go(func() error {
		if err := a.volumes(ctx, p); err != nil {
			return fmt.Errorf("volumes: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// volumes brings a pod's volumes to what they are to show.
func (a *Agent) volumes(ctx context.Context, p *plan.Pod) error {
	open, forget, err := a.opened(p)
	if err != nil {
		return err
	}
	defer forget()
	return a.opt.Volumes.Prepare(ctx, open)
}

func (a *Agent) link(ctx context.Context, p *plan.Pod) error {
	netns, err := a.opt.Containers.CreateSandbox(ctx, p)
	if err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	if p.Spec.HostNetwork {
		return nil
	}
	if err := a.fence.check(p.IP); err != nil {
		return fmt.Errorf("network link: %w", err)
	}
	if err := a.opt.Links.Ensure(ctx, p, netns); err != nil {
		return fmt.Errorf("network link: %w", err)
	}
	return nil
}

func (a *Agent) launch(ctx context.Context, p *plan.Pod, s plan.Action) error {
	c := p.Container(s.Container)
	open, forget, err := a.opened(p)
	if err != nil {
		return configError{err}
	}
	defer forget()
	env, err := plan.Environ(open, c)
	if err != nil {
		return configError{err}
	}
	mounts, err := a.opt.Volumes.Mounts(ctx, p, c, publicVars(open, c, env))
	if err != nil {
		return configError{err}
	}
	command, args := plan.Argv(c, env)
	a.begins(p, s.Container)
	err = a.opt.Containers.Start(ctx, plan.Launch{
		Pod: p, Container: c, Attempt: s.Attempt, Streak: s.Streak, Image: c.Image, Digest: p.Images[c.Image],
		Env: env, Command: command, Args: args, Mounts: mounts,
	})
	if err != nil {
		a.hooked.set(hookKey{p.ID, s.Container}, false)
	}
	return err
}

// stopTogether stops the containers of a batch at the same time: the grace is the pod's, not each one's.
func (a *Agent) stopTogether(ctx context.Context, p *plan.Pod, steps []plan.Action) error {
	if p.Deleting != 0 {
		// Its endpoints left the tables before this batch was planned; connections that were on their way then
		// still arrive for a moment.
		select {
		case <-time.After(a.opt.Drain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range steps {
		if s.Op == plan.Stop {
			g.Go(func() error { return a.stop(ctx, p, s.Container, s.Grace) })
		}
	}
	return g.Wait()
}

// takeDown takes away what a pod holds, its containers' part by the given method; every step may find its work done
// already.
func (a *Agent) takeDown(ctx context.Context, p *plan.Pod, containers func(context.Context, control.PodID) error) error {
	if err := a.opt.Links.Remove(ctx, p.ID); err != nil {
		return fmt.Errorf("network link: %w", err)
	}
	if err := containers(ctx, p.ID); err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	if err := a.opt.Volumes.Remove(ctx, p.ID); err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	return nil
}
