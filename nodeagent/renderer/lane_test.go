package renderer

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/render"
)

// TestLanes shows many apps that are evaluated side by side: each has its own result, in the order asked for, and one
// that never ends costs only itself.
func TestLanes(t *testing.T) {
	r := newRenderer(t, "renderer", Limits{CPU: 2 * time.Second, Wall: 20 * time.Second})
	n := 2 * render.AppsPerContext
	if got, want := lanes(n), min(2, runtime.NumCPU()); got != want {
		t.Fatalf("%d lanes, want %d", got, want)
	}
	var b strings.Builder
	var want []string
	for i := range n {
		fmt.Fprintf(&b, "-- apps/a%03d/a.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", i)
		want = append(want, fmt.Sprintf("a%03d: ConfigMap@apps/a%03d/a.yaml:1\n", i, i))
	}
	bomb := "-- apps/a099/a.cue --\npackage a099\n\nimport \"list\"\n\nobjects: o: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"o\", data: x: \"\\(len([for a in list.Range(0, 1000, 1) for b in list.Range(0, 1000, 1) for c in list.Range(0, 1000, 1) {a+b+c}]))\"}\n"
	want[99] = "a099: !apps/a099: its evaluation took more than 2s of CPU time\n"
	tree := repo(t, b.String()+bomb)
	for _, rendered := range []int{n, 0} {
		apps, stats, err := r.Render(context.Background(), Request{Tree: tree, Environment: dev})
		if err != nil {
			t.Fatal(err)
		}
		if got := text(apps); got != strings.Join(want, "") {
			t.Errorf("got:\n%s", got)
		}
		if stats.Rendered != rendered {
			t.Errorf("rendered %d apps, want %d", stats.Rendered, rendered)
		}
	}

	// Asked for by name, in an order of the caller's.
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("a%03d", n-1-i)
	}
	slices.Reverse(want)
	apps, _, err := newRenderer(t, "renderer", Limits{CPU: 2 * time.Second}).Render(context.Background(), Request{Tree: tree, Environment: dev, Apps: names})
	if err != nil || text(apps) != strings.Join(want, "") {
		t.Errorf("%v, got:\n%s", err, text(apps))
	}

	// A render that is called off leaves no lane at work.
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := newRenderer(t, "renderer", Limits{}).Render(ctx, Request{Tree: tree, Environment: dev}); err == nil {
		t.Error("want the context's error")
	}
}
