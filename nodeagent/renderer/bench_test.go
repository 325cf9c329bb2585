package renderer

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/render"
)

// benchRepo has n ordinary apps of three objects; app 0 has the given image.
func benchRepo(n int, image string) string {
	var b strings.Builder
	b.WriteString(`-- values/schema.cue --
package values

values: {replicas: int, greeting: string}
-- values/dev.cue --
@if(dev)

package values

values: {replicas: 1, greeting: "hello"}
`)
	for i := range n {
		if i > 0 {
			image = "shop.example/app:1"
		}
		fmt.Fprintf(&b, `-- apps/app%04d/app.cue --
package app

import (
	"shoal.dev/schema"
	"shop.example/cluster/values"
)

schema.#Package

deployment: "app%[1]d": spec: {
	replicas: values.values.replicas
	selector: matchLabels: app: "app%[1]d"
	template: {
		metadata: labels: app: "app%[1]d"
		spec: containers: [{
			name:  "main"
			image: %[2]q
			ports: [{name: "http", containerPort: 8080}]
			env: [{name: "GREETING", value: values.values.greeting}]
			resources: requests: {cpu: "100m", memory: "64Mi"}
			readinessProbe: httpGet: {path: "/healthz", port: "http"}
		}]
	}
}
service: "app%[1]d": spec: {
	selector: app: "app%[1]d"
	ports: [{port: 80, targetPort: "http"}]
}
configMap: "app%[1]d": data: settings: "colour = blue"
`, i, image)
	}
	return b.String()
}

// BenchmarkCold renders n apps with nothing cached, in a warm child, with Kubernetes' defaulting and validation.
func BenchmarkCold(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRenderer(b, "desired", Limits{})
			tree := repo(b, benchRepo(n, "shop.example/app:1"))
			i := 0
			for b.Loop() {
				// Another environment each time, so that no result fits.
				env := render.Environment{Name: fmt.Sprintf("dev%d", i), Class: "dev"}
				i++
				benchRender(b, r, Request{Tree: tree, Environment: env}, n)
			}
		})
	}
}

// BenchmarkChanged renders a commit that changes one app of n: the goal is 20 ms for one of 1,000.
func BenchmarkChanged(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRenderer(b, "desired", Limits{})
			first := repo(b, benchRepo(n, "shop.example/app:1"))
			benchRender(b, r, Request{Tree: first, Environment: dev}, n)
			i := 1
			for b.Loop() {
				b.StopTimer()
				i++
				tree := repo(b, benchRepo(n, fmt.Sprintf("shop.example/app:%d", i)))
				time.Sleep(30 * time.Millisecond) // the child prepares its next context
				b.StartTimer()
				benchRender(b, r, Request{Tree: tree, Environment: dev}, 1)
			}
		})
	}
}

// BenchmarkUnchanged is a commit that changes no app of 1,000.
func BenchmarkUnchanged(b *testing.B) {
	r := newRenderer(b, "desired", Limits{})
	tree := repo(b, benchRepo(1000, "shop.example/app:1"))
	benchRender(b, r, Request{Tree: tree, Environment: dev}, 1000)
	for b.Loop() {
		benchRender(b, r, Request{Tree: tree, Environment: dev}, 0)
	}
}

// BenchmarkStart is the start of a child, up to its being ready.
func BenchmarkStart(b *testing.B) {
	r := newRenderer(b, "desired", Limits{})
	for b.Loop() {
		p, err := start(context.Background(), r.opt.Command, r.opt.Limits, r.opt.Log)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_, memory := p.usage()
		b.ReportMetric(float64(memory)/(1<<20), "MiB")
		p.end()
		b.StartTimer()
	}
}

func benchRender(b *testing.B, r *Renderer, q Request, rendered int) {
	b.Helper()
	apps, stats, err := r.Render(context.Background(), q)
	if err != nil {
		b.Fatal(err)
	}
	if stats.Rendered != rendered {
		b.Fatalf("rendered %d apps, want %d", stats.Rendered, rendered)
	}
	for _, a := range apps {
		if len(a.Problems) > 0 {
			b.Fatal(a.Problems)
		}
	}
}
