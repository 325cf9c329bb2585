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

// Watch shows the way of a commit's pods on progress: created, process started, ready, each with the time since
// begun. It returns when all that changed is ready, when something went wrong, or after 30 s.
func (a *Agent) Watch(ctx context.Context, v Verdict, begun time.Time, progress io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, watchFor)
	defer cancel()
	since := func() string { return fmt.Sprintf("%d ms", time.Since(begun).Milliseconds()) }
	fmt.Fprintf(progress, "%s: activated after %d ms\n", v.Environment, v.Activated.Sub(begun).Milliseconds())
	shown := map[control.PodID]string{}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		var s *cluster.State
		a.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
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
				shown[p.ID] = stage
				fmt.Fprintf(progress, "%s: %s/%s %s after %s\n", v.Environment, p.Namespace, p.Name, stage, since())
			}
		}
		for d := range s.Deployments().Values() {
			if d.Environment == v.Environment && d.State == control.Progressing {
				waiting++
			}
		}
		if waiting == 0 {
			if len(shown) > 0 {
				fmt.Fprintf(progress, "%s: all ready after %s\n", v.Environment, since())
			}
			return
		}
		select {
		case <-ctx.Done():
			fmt.Fprintf(progress, "%s: still rolling out; see: shoal status\n", v.Environment)
			return
		case <-look.C:
		}
	}
}

// stageOf is how far a pod has come, in words, and whether there is nothing more to wait for.
func stageOf(p *control.Pod) (stage string, done bool) {
	switch {
	case plan.Ready(&p.Status) || p.Status.Phase == corev1.PodSucceeded:
		return "ready", true
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
			return "process started", false
		}
	}
	return "created", false
}
