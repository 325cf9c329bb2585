package renderer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/render"
)

// run is one render, or the part of it that is one lane's: it drives children until every app has a result.
type run struct {
	renderer *Renderer
	lane     *lane
	request  Request
	keys     *render.Keys
	mode     string
	deadline time.Time

	shared *sync.Mutex // guards what lanes have in common: the tree, the keys and the cache

	started time.Duration
	sandbox Sandbox
}

// overrun is the error of a child that met a limit.
type overrun struct{ limit string }

func (e overrun) Error() string { return e.limit }

// turn is what is known of the app whose turn it is.
type turn struct {
	name  string
	deps  render.Deps
	known bool // deps were told
	begun time.Time
	cpu   time.Duration // of the child when the turn began
	alone bool          // the first app of its child
}

func (u *run) all(ctx context.Context, names []string) ([]App, error) {
	results := map[string]App{}
	again := map[string]bool{} // apps that are tried alone
	limits := u.renderer.opt.Limits
	for left := names; len(left) > 0; {
		if time.Now().After(u.deadline) {
			for _, name := range left {
				results[name] = u.failed(name, fmt.Sprintf("was not rendered: the environment took more than %s", limits.Total))
			}
			break
		}
		batch := left
		if again[left[0]] {
			batch = left[:1]
		}
		t, err := u.batch(ctx, batch, results)
		left = remaining(left, results)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		u.lane.drop()
		if t == nil { // no app is to blame
			if again[""] || len(left) == 0 {
				return nil, err
			}
			again[""] = true
			continue
		}
		var over overrun
		if !errors.As(err, &over) || over.limit == "" {
			over.limit = "its evaluation failed: " + clip(err.Error())
		}
		if !t.alone && !again[t.name] {
			again[t.name] = true
			continue
		}
		app := u.failed(t.name, over.limit)
		results[t.name] = app
		left = remaining(left, results)
		deps := t.deps
		if !t.known {
			deps = render.WholeTree()
		}
		if err := u.keep(app, deps); err != nil {
			return nil, fmt.Errorf("read tree: %w", err)
		}
	}
	out := make([]App, len(names))
	for i, name := range names {
		out[i] = results[name]
	}
	return out, nil
}

func remaining(names []string, done map[string]App) []string {
	var out []string
	for _, n := range names {
		if _, ok := done[n]; !ok {
			out = append(out, n)
		}
	}
	return out
}

// keep remembers a result.
func (u *run) keep(app App, deps render.Deps) error {
	u.shared.Lock()
	defer u.shared.Unlock()
	return u.renderer.cache.put(u.keys, u.mode, app, deps)
}

// answer gives the child what it asks of the tree.
func (u *run) answer(p *process, f frame) error {
	u.shared.Lock()
	head, body := read(u.request.Tree, p.limits, f)
	u.shared.Unlock()
	if body == nil {
		return p.send(frameReply, head)
	}
	return p.send(frameReply, head, body)
}

func (u *run) failed(app, text string) App {
	u.shared.Lock()
	defer u.shared.Unlock()
	return App{Name: app, Problems: render.Problems{{File: suspect(u.request.Tree, app), Text: text, App: app}}}
}

func clip(s string) string {
	if len(s) > 600 {
		return s[:600] + "..."
	}
	return s
}

// child returns a child that is ready, and notes what that cost.
func (u *run) child(ctx context.Context) (*process, error) {
	begun := time.Now()
	p, err := u.lane.child(ctx)
	u.started += time.Since(begun)
	if err == nil {
		u.sandbox = p.sandbox
	}
	return p, err
}

// batch has one child render apps. An error comes with the app whose turn it was, if it was one's.
func (u *run) batch(ctx context.Context, names []string, results map[string]App) (*turn, error) {
	p, err := u.child(ctx)
	if err != nil {
		return nil, err
	}
	q := renderRequest{Environment: u.request.Environment, Apps: names, Raw: u.request.Raw}
	if err := p.send(frameRender, q); err != nil {
		return nil, p.died("before its work", err)
	}
	var now *turn
	next := 0
	handle := func(f frame) (bool, error) {
		switch f.Type {
		case frameLookup, frameList, frameRead:
			return false, u.answer(p, f)
		case frameDone:
			if next != len(names) {
				return false, fmt.Errorf("ended after %d of %d apps", next, len(names))
			}
			return true, nil
		case frameBegin, frameLoaded, frameApp:
		default:
			return false, fmt.Errorf("frame %q is not known", f.Type)
		}
		var h appHeader
		if err := f.decode(&h); err != nil {
			return false, err
		}
		if next >= len(names) || h.Name != names[next] {
			return false, fmt.Errorf("frame %q names the app %q out of turn", f.Type, h.Name)
		}
		switch f.Type {
		case frameBegin:
			cpu, _ := p.usage()
			now = &turn{name: h.Name, begun: time.Now(), cpu: cpu, alone: p.apps == 0}
			p.apps++
		case frameLoaded:
			if now != nil {
				now.deps, now.known = h.Deps, true
			}
		case frameApp:
			app, err := h.app(f.body)
			if err != nil {
				return false, err
			}
			if err := u.keep(app, h.Deps); err != nil {
				return false, err
			}
			results[app.Name] = app
			now = nil
			next++
		default: // answered above
		}
		return false, nil
	}
	err = u.talk(ctx, p, &now, handle)
	return now, err
}

func (u *run) environments(ctx context.Context) ([]render.Environment, render.Problems, error) {
	p, err := u.child(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := p.send(frameRender, renderRequest{Environments: true}); err != nil {
		u.lane.drop()
		return nil, nil, p.died("before its work", err)
	}
	var a environmentsAnswer
	cpu, _ := p.usage()
	now := &turn{begun: time.Now(), cpu: cpu}
	err = u.talk(ctx, p, &now, func(f frame) (bool, error) {
		switch f.Type {
		case frameLookup, frameList, frameRead:
			return false, u.answer(p, f)
		case frameDone:
			return true, f.decode(&a)
		default:
			return false, fmt.Errorf("frame %q is not known", f.Type)
		}
	})
	if err == nil {
		return a.Environments, a.Problems, nil
	}
	u.lane.drop()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if over, ok := errors.AsType[overrun](err); ok {
		return nil, render.Problems{{File: "shoal.cue", Text: over.limit}}, nil
	}
	return nil, nil, err
}

// talk gives each frame of the child to handle until it says that all is done, and watches the limits meanwhile.
func (u *run) talk(ctx context.Context, p *process, now **turn, handle func(frame) (done bool, err error)) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case r, ok := <-p.frames:
			var big errTooBig
			switch {
			case !ok:
				return u.why(p)
			case errors.As(r.err, &big):
				p.kill()
				return overrun{fmt.Sprintf("its render has more than %d MiB", p.limits.Output>>20)}
			case r.err != nil:
				return p.died("", r.err)
			}
			done, err := handle(r.frame)
			if err != nil {
				p.kill()
				return fmt.Errorf("renderer: %w", err)
			}
			if done {
				return nil
			}
		case <-look.C:
			if limit := p.over(*now); limit != "" {
				p.kill()
				return overrun{limit}
			}
			if time.Now().After(u.deadline) {
				p.kill()
				return overrun{fmt.Sprintf("was not rendered: the environment took more than %s", p.limits.Total)}
			}
		case <-ctx.Done():
			p.kill()
			return context.Cause(ctx)
		}
	}
}

// why says which limit of the kernel a child met, or how it ended.
func (u *run) why(p *process) error {
	err := p.died("", nil)
	if p.stderr.outOfMemory() {
		return overrun{fmt.Sprintf("its evaluation took more than %d MiB of memory", p.limits.Memory>>20)}
	}
	if p.stderr.stackOverflow() {
		return overrun{"its evaluation is nested without end"}
	}
	return err
}

// over names the limit that the child is past, or "".
func (p *process) over(t *turn) string {
	cpu, memory := p.usage()
	switch {
	case p.stderr.over():
		return fmt.Sprintf("its evaluation wrote more than %d KiB of errors", p.limits.Stderr>>10)
	case memory > p.limits.Memory:
		return fmt.Sprintf("its evaluation took more than %d MiB of memory", p.limits.Memory>>20)
	case t == nil:
	case cpu-t.cpu > p.limits.CPU:
		return fmt.Sprintf("its evaluation took more than %s of CPU time", p.limits.CPU)
	case time.Since(t.begun) > p.limits.Wall:
		return fmt.Sprintf("its evaluation took more than %s", p.limits.Wall)
	}
	return ""
}

// app reads an app's frame.
func (h appHeader) app(body []byte) (App, error) {
	a := App{Name: h.Name, Problems: h.Problems}
	if len(h.Problems) > 0 {
		for i := range a.Problems {
			a.Problems[i].App = h.Name
		}
		return a, nil
	}
	if h.Compiled {
		a.Compiled = body
		return a, nil
	}
	for _, o := range h.Objects {
		if o.Size < 0 || o.Size > len(body) {
			return App{}, errors.New("an object is cut off")
		}
		a.Objects = append(a.Objects, render.Object{JSON: body[:o.Size:o.Size], File: o.File, Line: o.Line})
		body = body[o.Size:]
	}
	return a, nil
}
