package renderer

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/render"
)

// TestMain makes the test binary play the child's part too, as cmd/shoal does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			os.Exit(role())
		}
	}
	os.Exit(m.Run())
}

// roles are what a child can be told to be.
var roles = map[string]func() int{
	"renderer": func() int { return ChildMain(nil) },
	"compiler": func() int {
		return ChildMain(func(env render.Environment, app render.App) ([]byte, render.Problems) {
			if app.Name == "refused" {
				return nil, render.Problems{{File: "apps/refused", Text: "refused by compile"}}
			}
			return fmt.Appendf(nil, "%s/%s: %d objects", env.Namespace, app.Name, len(app.Objects)), nil
		})
	},
}

func newRenderer(t testing.TB, role string, limits Limits) *Renderer {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := New(Options{Command: []string{exe, role}, Limits: limits})
	t.Cleanup(r.Close)
	return r
}

const webApp = `
-- apps/web/web.cue --
package web

import "shoal.dev/schema"

schema.#Package

app: web: {image: "shop.example/web:1.4", ports: http: 8080}
`

var dev = render.Environment{Name: "dev", Ref: "refs/heads/main"}

// text writes a result for comparison.
func text(apps []App) string {
	var b strings.Builder
	for _, a := range apps {
		fmt.Fprintf(&b, "%s:", a.Name)
		if a.Compiled != nil {
			fmt.Fprintf(&b, " %s", a.Compiled)
		}
		for _, o := range a.Objects {
			var id struct{ Kind string }
			_ = json.Unmarshal(o.JSON, &id)
			fmt.Fprintf(&b, " %s@%s:%d", id.Kind, o.File, o.Line)
		}
		for _, p := range a.Problems {
			fmt.Fprintf(&b, " !%s", p)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestRender(t *testing.T) {
	r := newRenderer(t, "renderer", Limits{})
	tree := repo(t, webApp+"-- apps/bad/bad.cue --\npackage bad\n\nx: 1\n-- apps/bad/y.yaml --\na: 1\n")
	want := `bad: !apps/bad/bad.cue:3: x: no such field; expected one of app, objects, namespace, pod, replicaSet, deployment, job, cronJob, service, configMap, secret (helpers begin with _ or #)
web: Deployment@apps/web/web.cue:7 Service@apps/web/web.cue:7
`
	for _, rendered := range []int{2, 0} {
		apps, stats, err := r.Render(context.Background(), Request{Tree: tree, Environment: dev})
		if err != nil {
			t.Fatal(err)
		}
		if got := text(apps); got != want {
			t.Errorf("got:\n%swant:\n%s", got, want)
		}
		if stats.Rendered != rendered {
			t.Errorf("rendered %d apps, want %d", stats.Rendered, rendered)
		}
		t.Logf("%+v", stats)
	}
}

func TestCompile(t *testing.T) {
	r := newRenderer(t, "compiler", Limits{})
	tree := repo(t, webApp+"-- apps/refused/x.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
	apps, _, err := r.Render(context.Background(), Request{Tree: tree, Environment: dev})
	if err != nil {
		t.Fatal(err)
	}
	want := "refused: !apps/refused: refused by compile\nweb: dev/web: 2 objects\n"
	if got := text(apps); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	raw, _, err := r.Render(context.Background(), Request{Tree: tree, Environment: dev, Raw: true, Apps: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(raw), "web: Deployment@apps/web/web.cue:7 Service@apps/web/web.cue:7\n"; got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestEnvironments(t *testing.T) {
	r := newRenderer(t, "renderer", Limits{})
	envs, problems, err := r.Environments(context.Background(), repo(t, "-- shoal.cue --\npackage shoal\nenvironments: dev: ref: \"main\"\n"))
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	if len(envs) != 1 || envs[0].Name != "dev" || envs[0].Ref != "refs/heads/main" || envs[0].Namespace != "dev" {
		t.Errorf("got %+v", envs)
	}
}

func TestIdleChildEnds(t *testing.T) {
	r := newRenderer(t, "renderer", Limits{})
	r.opt.Idle = 50 * time.Millisecond
	r.Warm()
	for range 100 {
		if running(r) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for range 100 {
		if !running(r) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("an idle child does not end")
}

func running(r *Renderer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lane.proc != nil
}
