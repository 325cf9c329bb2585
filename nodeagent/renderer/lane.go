package renderer

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/engine/render"
)

// lane has a child at a time. One goroutine at a time may use it.
type lane struct {
	opt  *Options
	proc *process
}

// child returns a child that is ready: the one there is, unless it ended or has done enough, or a new one.
func (l *lane) child(ctx context.Context) (*process, error) {
	if l.proc != nil {
		select {
		case <-l.proc.waited:
			l.drop()
		default:
		}
	}
	if l.proc != nil {
		if cpu, _ := l.proc.usage(); cpu > l.opt.Limits.Life {
			l.drop()
		}
	}
	if l.proc != nil {
		return l.proc, nil
	}
	p, err := start(ctx, l.opt.Command, l.opt.Limits, l.opt.Log)
	if err != nil {
		return nil, err
	}
	l.proc = p
	return p, nil
}

// drop ends the child, if there is one.
func (l *lane) drop() {
	if l.proc != nil {
		l.proc.end()
		l.proc = nil
	}
}

// lanes is how many children evaluate so many apps side by side: a child takes as long to start as ten apps, and each
// has some 50 MiB while it works.
func lanes(apps int) int {
	return max(1, min(runtime.NumCPU(), 4, apps/render.AppsPerContext))
}

// side evaluates the named apps side by side in as many lanes as are worth it. Of the children one stays.
func (u *run) side(ctx context.Context, names []string, stats *Stats) ([]App, error) {
	count := lanes(len(names))
	runs := make([]run, count)
	results := make([][]App, count)
	g, gctx := errgroup.WithContext(ctx)
	for i := range runs {
		runs[i] = *u
		part := names[i*len(names)/count : (i+1)*len(names)/count]
		g.Go(func() (err error) {
			if i > 0 {
				runs[i].lane = &lane{opt: &u.renderer.opt}
				defer runs[i].lane.drop()
			}
			results[i], err = runs[i].all(gctx, part)
			return err
		})
	}
	err := g.Wait()
	var out []App
	for i := range runs {
		stats.Start = max(stats.Start, runs[i].started)
		out = append(out, results[i]...)
	}
	stats.Sandbox = runs[0].sandbox
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return out, err
}
