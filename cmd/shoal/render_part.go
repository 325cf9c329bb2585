package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/renderer"
)

// compiled is what the render child hands over of one app.
type compiled struct {
	App   desired.App    `json:"app"`
	Blobs []desired.Blob `json:"blobs"`
}

// compileInChild is what the child does after evaluation: it decodes what strangers wrote, so the agent need not.
func compileInChild(env render.Environment, app render.App) ([]byte, render.Problems) {
	out, blobs := desired.Compile(env, app)
	if len(out.Problems) > 0 {
		return nil, out.Problems
	}
	b, err := json.Marshal(compiled{out, blobs})
	if err != nil {
		return nil, render.Problems{{File: "apps/" + app.Name, Text: err.Error(), App: app.Name}}
	}
	return b, nil
}

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
			c, err := decodeCompiled(result)
			if err != nil {
				return nil, err
			}
			d = decoded{&result.Compiled[0], c.App}
		}
		now[result.Name] = d
		out = append(out, nodeagent.Rendered{App: d.app, Blobs: func() ([]desired.Blob, error) {
			c, err := decodeCompiled(result)
			return c.Blobs, err
		}})
	}
	r.decoded[env.Name] = now
	return out, nil
}

func decodeCompiled(a renderer.App) (c compiled, err error) {
	if err := json.Unmarshal(a.Compiled, &c); err != nil {
		return c, fmt.Errorf("app %s: answer of the render child: %w", a.Name, err)
	}
	return c, nil
}
