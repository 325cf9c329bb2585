package main

import (
	"context"
	"sync"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/renderer"
)

// rendererPart decodes what the child made, each result once: the renderer's cache hands out the same bytes while
// an app has not changed.
type rendererPart struct {
	*renderer.Renderer

	mu      sync.Mutex                    // guards decoded
	decoded map[string]map[string]decoded // by environment and app
}

type decoded struct {
	from *byte
	app  desired.App
}

func newRendererPart(r *renderer.Renderer) *rendererPart {
	return &rendererPart{Renderer: r, decoded: map[string]map[string]decoded{}}
}

// Render returns every app of an environment.
func (r *rendererPart) Render(ctx context.Context, tree source.Tree, env render.Environment) ([]nodeagent.Rendered, error) {
	results, _, err := r.Renderer.Render(ctx, renderer.Request{Tree: tree, Environment: env})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was, now := r.decoded[env.Name], make(map[string]decoded, len(results))
	out := make([]nodeagent.Rendered, 0, len(results))
	for _, result := range results {
		if len(result.Problems) > 0 || len(result.Compiled) == 0 {
			out = append(out, nodeagent.Rendered{App: desired.App{Name: result.Name, Problems: result.Problems}})
			continue
		}
		d := was[result.Name]
		if d.from != &result.Compiled[0] {
			app, _, err := result.Desired()
			if err != nil {
				return nil, err
			}
			d = decoded{&result.Compiled[0], app}
		}
		now[result.Name] = d
		out = append(out, nodeagent.Rendered{App: d.app, Blobs: func() ([]desired.Blob, error) {
			_, blobs, err := result.Desired()
			return blobs, err
		}})
	}
	r.decoded[env.Name] = now
	return out, nil
}
