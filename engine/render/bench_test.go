package render

import (
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// appOf is an ordinary app: a Deployment of its own form, a Service, a ConfigMap, and a short form with both.
func appOf(i int, image string) string {
	return fmt.Sprintf(`-- apps/app%04d/app.cue --
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
app: "side%[1]d": {image: "shop.example/side:1", ports: http: 8080, env: REGION: "east"}
`, i, image)
}

const benchValues = `-- values/schema.cue --
package values

values: {replicas: int, greeting: string}
-- values/dev.cue --
@if(dev)

package values

values: {replicas: 1, greeting: "hello"}
`

func benchRepo(n int) string {
	var b strings.Builder
	b.WriteString(benchValues)
	for i := range n {
		b.WriteString(appOf(i, "shop.example/app:1"))
	}
	return b.String()
}

// BenchmarkShort is the evaluation of 100 apps in the short form alone.
func BenchmarkShort(b *testing.B) {
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, `-- apps/app%04d/app.cue --
package app

import "shoal.dev/schema"

schema.#Package

app: "app%[1]d": {
	image: "shop.example/app:1"
	args: ["serve"]
	ports: http: 8080
	env: {REGION: "east", SIZE: 3}
}
`, i)
	}
	tree := repo(b, text.String())
	apps, err := Apps(tree)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, app := range Eval(tree, Environment{Name: "dev"}, apps) {
			if len(app.Problems) > 0 || len(app.Objects) != 2 {
				b.Fatal(app.Problems)
			}
		}
	}
}

// BenchmarkEval is the evaluation alone, from nothing, in this process.
func BenchmarkEval(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tree := repo(b, benchRepo(n))
			apps, err := Apps(tree)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				for _, app := range Eval(tree, Environment{Name: "dev"}, apps) {
					if len(app.Problems) > 0 || len(app.Objects) != 5 {
						b.Fatal(app.Problems)
					}
				}
			}
		})
	}
}

// BenchmarkParseYAML is the floor: the same objects as YAML, parsed and nothing else.
func BenchmarkParseYAML(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tree := repo(b, benchRepo(1))
			app := Eval(tree, Environment{Name: "dev"}, []string{"app0000"})[0]
			var docs [][]byte
			for _, o := range app.Objects {
				var v any
				if err := yaml.Unmarshal(o.JSON, &v); err != nil {
					b.Fatal(err)
				}
				out, err := yaml.Marshal(v)
				if err != nil {
					b.Fatal(err)
				}
				docs = append(docs, out)
			}
			for b.Loop() {
				for range n {
					for _, d := range docs {
						var v map[string]any
						if err := yaml.Unmarshal(d, &v); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
		})
	}
}

// BenchmarkPrepare is what a context costs before there is work.
func BenchmarkPrepare(b *testing.B) {
	for b.Loop() {
		Prepare()
	}
}

// BenchmarkKeys is the cache keys of a commit.
func BenchmarkKeys(b *testing.B) {
	tree := repo(b, benchRepo(1000))
	env := Environment{Name: "dev", Class: "dev"}
	apps, err := Apps(tree)
	if err != nil {
		b.Fatal(err)
	}
	deps := map[string]Deps{}
	batch := NewBatch(Prepare(), tree, env)
	for _, app := range apps {
		deps[app] = batch.Load(app).Deps
	}
	for b.Loop() {
		keys := NewKeys(tree, env)
		for _, app := range apps {
			if _, err := keys.Key(app, deps[app]); err != nil {
				b.Fatal(err)
			}
		}
	}
}
