package nodeagent

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// watchFor bounds how long a push is shown the roll-out: it goes on without a watcher.
const watchFor = 30 * time.Second

// Watch shows the way of a commit's pods on progress: created, process started, ready, and how many of a Deployment's
// are, each with the time since begun. It returns when all that changed is ready, when something went wrong, or after 30 s.
func (a *Agent) Watch(ctx context.Context, v Verdict, begun time.Time, progress io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, watchFor)
	defer cancel()
	since := func() string { return fmt.Sprintf("%d ms", time.Since(begun).Milliseconds()) }
	fmt.Fprintf(progress, "%s: activated after %d ms\n", v.Environment, v.Activated.Sub(begun).Milliseconds())
	shown := map[control.PodID]string{}
	moving, said := map[string]bool{}, map[string]string{} // Deployments that were seen rolling out, and how far
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for index := uint64(0); ; {
		var s *cluster.State
		a.opt.Ledger.View(func(now *cluster.State) {
			if now.Index() != index {
				s, index = now.Snapshot(), now.Index()
			}
		})
		if s == nil { // nothing has moved
			select {
			case <-ctx.Done():
				fmt.Fprintf(progress, "%s: still rolling out; see: shoal status\n", v.Environment)
				return
			case <-look.C:
				continue
			}
		}
		waiting := 0
		for p := range s.Pods().Values() {
			if p.Environment != v.Environment || p.Created < v.Begun.UnixMilli()-1 || p.Deleting != 0 {
				continue
			}
			stage, done := stageOf(p)
			if !done {
				waiting++
			}
			if stage != "" && shown[p.ID] != stage {
				if at := a.startedAt(p.ID); stage == ready && shown[p.ID] != started && at != 0 {
					fmt.Fprintf(progress, "%s: %s/%s %s after %d ms\n", v.Environment, p.Namespace, p.Name, started, at-begun.UnixMilli())
				}
				shown[p.ID] = stage
				fmt.Fprintf(progress, "%s: %s/%s %s after %s\n", v.Environment, p.Namespace, p.Name, stage, since())
			}
		}
		for _, r := range Rollouts(s) {
			if r.Environment != v.Environment {
				continue
			}
			name := r.Namespace + "/" + r.Name
			if r.State == string(control.Progressing) {
				waiting++
				moving[name] = true
			}
			if text := fmt.Sprintf("%d/%d ready", r.Ready, r.Want); moving[name] && r.Want > 1 && r.Ready > 0 && said[name] != text {
				said[name] = text
				fmt.Fprintf(progress, "%s: %s %s after %s\n", v.Environment, name, text, since())
			}
		}
		if waiting == 0 {
			if len(shown) > 0 {
				fmt.Fprintf(progress, "%s: all ready after %s\n", v.Environment, since())
			}
			return
		}
	}
}

// startedAt is when the last of a pod's containers started that run here, in ms since 1970; 0 if none does. What is
// reported of a start comes with its readiness, and in seconds.
func (a *Agent) startedAt(id control.PodID) (at int64) {
	last := a.Last()
	if last == nil || last.Have[id] == nil {
		return 0
	}
	for _, c := range last.Have[id].Containers {
		if c.State == plan.Running {
			at = max(at, c.Started)
		}
	}
	return at
}

// Stages of a pod.
const (
	started = "process started"
	ready   = "ready"
)

// stageOf is how far a pod has come, in words, and whether there is nothing more to wait for.
func stageOf(p *control.Pod) (stage string, done bool) {
	switch {
	case plan.Ready(&p.Status) || p.Status.Phase == corev1.PodSucceeded:
		return ready, true
	case p.Status.Phase == corev1.PodFailed:
		return "failed: " + p.Status.Message, true
	case p.Node == "":
		return "waits for a node: " + p.Reason, false
	}
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && w.Message != "" {
			return "waits: " + w.Reason + ": " + w.Message, false
		}
		if c.State.Running != nil {
			return started, false
		}
	}
	return "created", false
}
