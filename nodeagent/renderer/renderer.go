package renderer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// Options of a Renderer. Zero fields mean their defaults.
type Options struct {
	Command []string      // program and arguments that end in ChildMain; default: this binary with "renderer"
	Limits  Limits        // of one child
	Idle    time.Duration // an idle child ends after it, to give its memory back; default 1 min
	Cache   int           // bytes of results to keep; default 64 MiB
	Log     *slog.Logger  // default: discard
}

// App is one app's part of a render.
type App struct {
	Name     string
	Problems render.Problems // if any, the app has neither Compiled nor Objects
	Compiled []byte          // what Compile made of it; nil in a raw render
	Objects  []render.Object // as written, in a raw render or where there is no Compile
}

func (a App) size() int {
	n := 500 + len(a.Compiled)
	for _, o := range a.Objects {
		n += len(o.JSON) + len(o.File) + 100
	}
	for _, p := range a.Problems {
		n += len(p.Text) + len(p.File) + len(p.Path) + 100
	}
	return n
}

// Request says what to render.
type Request struct {
	Tree        source.Tree
	Environment render.Environment
	Apps        []string // nil means all of the tree's
	Raw         bool     // objects as written, without Compile
}

// Stats says what a render cost.
type Stats struct {
	Apps     int           // of the answer
	Rendered int           // that were evaluated; the others came from the cache
	Keys     time.Duration // finding out which
	Start    time.Duration // waiting for a child to be ready; 0 for a warm one
	Took     time.Duration // in all
	Sandbox  Sandbox       // of the child, if there was one
}

// Renderer renders trees in child processes. Safe for concurrent use; renders are made one at a time.
type Renderer struct {
	opt Options

	mu    sync.Mutex // guards all below, and is held while a child is used
	lane  lane       // whose child stays for the next render
	cache *cache
	idle  *time.Timer
	uses  int
	shut  bool
}

// New makes a Renderer; no child is started yet.
func New(opt Options) *Renderer {
	opt.Limits = opt.Limits.WithDefaults()
	set(&opt.Idle, time.Minute)
	set(&opt.Cache, 64<<20)
	if len(opt.Command) == 0 {
		opt.Command = []string{"/proc/self/exe", "renderer"}
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	r := &Renderer{opt: opt, cache: newCache(opt.Cache)}
	r.lane.opt = &r.opt
	return r
}

// errClosed is the error of a Renderer after Close.
var errClosed = errors.New("renderer is closed")

// Warm starts a child ahead of need, say when a fetch begins. It returns at once; a failure shows in Render.
func (r *Renderer) Warm() {
	go func() {
		if !r.mu.TryLock() {
			return // a render has a child, or is starting one
		}
		defer r.mu.Unlock()
		if r.shut || r.lane.proc != nil {
			return
		}
		if _, err := r.lane.child(context.Background()); err != nil {
			r.opt.Log.Warn("renderer did not start, will retry", "err", err)
			return
		}
		r.rest()
	}()
}

// Close ends the child. Render fails from then on.
func (r *Renderer) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	r.busy()
	r.lane.drop()
}

// Render evaluates the apps of a tree in an environment. An app that is wrong, or whose evaluation ran over a
// limit, has problems; an error means that nothing can be said of the tree at all, and may be retried.
func (r *Renderer) Render(ctx context.Context, q Request) ([]App, Stats, error) {
	begun := time.Now()
	stats := Stats{}
	apps := q.Apps
	q.Environment = q.Environment.WithDefaults()
	if apps == nil {
		var err error
		if q.Raw { // what stock cue sees
			apps, err = render.Apps(q.Tree)
		} else {
			apps, err = render.AppsOf(q.Tree, q.Environment)
		}
		if err != nil {
			return nil, stats, fmt.Errorf("list apps: %w", err)
		}
	}
	q.Environment.Policy = render.Policy{} // a changed gate changes no render
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		return nil, stats, errClosed
	}
	mode := cacheMode(q)
	keys := render.NewKeys(q.Tree, q.Environment)
	out := make([]App, len(apps))
	var missing []int
	for i, name := range apps {
		a, ok, err := r.cache.get(keys, mode, name)
		if err != nil {
			return nil, stats, fmt.Errorf("read tree: %w", err)
		}
		if out[i] = a; !ok {
			missing = append(missing, i)
		}
	}
	stats.Apps, stats.Rendered, stats.Keys = len(apps), len(missing), time.Since(begun)
	if len(missing) > 0 {
		names := make([]string, len(missing))
		for i, at := range missing {
			names[i] = apps[at]
		}
		r.busy()
		whole := run{
			renderer: r, lane: &r.lane, request: q, keys: keys, mode: mode, deadline: begun.Add(r.opt.Limits.Total), shared: new(sync.Mutex),
		}
		results, err := whole.side(ctx, names, &stats)
		r.rest()
		if err != nil {
			return nil, stats, err
		}
		for i, at := range missing {
			out[at] = results[i]
		}
	}
	stats.Took = time.Since(begun)
	return out, stats, nil
}

// Environments reads shoal.cue, in the child too.
func (r *Renderer) Environments(ctx context.Context, tree source.Tree) ([]render.Environment, render.Problems, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		return nil, nil, errClosed
	}
	r.busy()
	defer r.rest()
	run := &run{
		renderer: r, lane: &r.lane, request: Request{Tree: tree}, deadline: time.Now().Add(r.opt.Limits.Total), shared: new(sync.Mutex),
	}
	environments, problems, err := run.environments(ctx)
	if err == nil && len(problems) == 0 {
		_, problems = promote.Repository(environments)
		_, _, more := promote.Previews(environments, "")
		problems = append(problems, more...).Sorted()
	}
	if len(problems) > 0 {
		environments = nil
	}
	return environments, problems, err
}

// cacheMode is what a result depends on beside Deps: Compile sees the whole environment, but has no use for where it
// comes from and answers.
func cacheMode(q Request) string {
	if q.Raw {
		return "raw\x00"
	}
	e := q.Environment
	e.Ref, e.PR, e.URL = "", "", ""
	b, _ := json.Marshal(e) // texts, lists and maps of texts: it cannot fail
	return string(b) + "\x00"
}

// busy keeps the child from being ended for want of work. The mutex is held.
func (r *Renderer) busy() {
	if r.idle != nil {
		r.idle.Stop()
	}
	r.uses++
}

// rest lets the child be ended when it stays idle. The mutex is held.
func (r *Renderer) rest() {
	uses := r.uses
	if r.idle != nil {
		r.idle.Stop()
	}
	if r.shut {
		return
	}
	r.idle = time.AfterFunc(r.opt.Idle, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.uses == uses {
			r.lane.drop()
		}
	})
}

// read finds what a child asks of the tree.
func read(tree source.Tree, limits Limits, f frame) (reply, []byte) {
	var path string
	if err := f.decode(&path); err != nil {
		return reply{Error: err.Error()}, nil
	}
	if !fs.ValidPath(path) {
		return reply{Error: "invalid path"}, nil
	}
	fail := func(err error) (reply, []byte) {
		return reply{Error: err.Error(), NotExist: errors.Is(err, fs.ErrNotExist)}, nil
	}
	switch f.Type {
	case frameLookup:
		e, err := tree.Lookup(path)
		if err != nil {
			return fail(err)
		}
		return reply{Entries: []entry{wire(e)}}, nil
	case frameList:
		entries, err := tree.ReadDir(path)
		if err != nil {
			return fail(err)
		}
		if len(entries) > maxEntries {
			return fail(fmt.Errorf("%s has %d entries; at most %d are read", path, len(entries), maxEntries))
		}
		out := make([]entry, len(entries))
		for i, e := range entries {
			out[i] = wire(e)
		}
		return reply{Entries: out}, nil
	default:
		b, err := tree.ReadFile(path)
		if err != nil {
			return fail(err)
		}
		if len(b) > limits.File {
			return fail(fmt.Errorf("%s has %d bytes; at most %d are read", path, len(b), limits.File))
		}
		return reply{}, b
	}
}

// maxEntries is how many entries of a directory are handed to a child: their list must fit into a frame.
const maxEntries = 20_000

func wire(e source.Entry) entry {
	return entry{Name: e.Name, ID: string(e.ID), Mode: uint32(e.Mode)}
}

// suspect is the file to name when an app's evaluation had to be ended: its only CUE file, or its directory.
func suspect(tree source.Tree, app string) string {
	dir := render.AppDir(app)
	if render.IsSecretsApp(app) {
		return dir
	}
	entries, err := tree.ReadDir(dir)
	if err != nil {
		return dir
	}
	file := ""
	for _, e := range entries {
		if strings.HasSuffix(e.Name, ".cue") || strings.HasSuffix(e.Name, ".yaml") || strings.HasSuffix(e.Name, ".yml") {
			if file != "" {
				return dir
			}
			file = dir + "/" + e.Name
		}
	}
	if file == "" {
		return dir
	}
	return file
}
