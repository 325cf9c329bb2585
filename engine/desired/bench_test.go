package desired

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/render"
)

// objectsOf is one app of the size that teams have: a workload, its Service, its settings and its password.
func objectsOf(name string, replicas int) render.App {
	file := "apps/" + name + "/app.yaml"
	a := render.App{Name: name}
	fill := strings.NewReplacer("NAME", name, "REPLICAS", strconv.Itoa(replicas))
	for i, f := range []string{
		`{"apiVersion":"v1","data":{"greeting":"hello","level":"info"},"kind":"ConfigMap","metadata":{"name":"NAME"}}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"NAME"},"spec":{"replicas":REPLICAS,"selector":{"matchLabels":{"app":"NAME"}},"template":{"metadata":{"labels":{"app":"NAME"}},"spec":{"containers":[{"env":[{"name":"PASSWORD","valueFrom":{"secretKeyRef":{"key":"password","name":"NAME"}}}],"envFrom":[{"configMapRef":{"name":"NAME"}}],"image":"registry.example/NAME:1.0","name":"app","ports":[{"containerPort":8080}],"readinessProbe":{"httpGet":{"path":"/","port":8080}},"resources":{"limits":{"memory":"64Mi"},"requests":{"cpu":"100m"}}}]}}}}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"NAME"},"stringData":{"password":"hunter2"}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"NAME"},"spec":{"ports":[{"port":80,"targetPort":8080}],"selector":{"app":"NAME"}}}`,
	} {
		a.Objects = append(a.Objects, render.Object{JSON: []byte(fill.Replace(f)), File: file, Line: 1 + 20*i})
	}
	return a
}

func BenchmarkCompile(b *testing.B) {
	env := render.Environment{Name: "dev"}
	app := objectsOf("web", 3)
	b.ReportAllocs()
	for b.Loop() {
		if a, _ := Compile(env, app); len(a.Problems) > 0 {
			b.Fatal(a.Problems)
		}
	}
}

// One changed app among a thousand of four objects each.
func BenchmarkBuild(b *testing.B) {
	env := render.Environment{Name: "dev"}
	store := blobs{}
	apps := make([]App, 1000)
	for i := range apps {
		apps[i] = store.compile(b, env, objectsOf(fmt.Sprintf("app-%04d", i), 1))
	}
	first, err := Build(env, apps, nil, store)
	if err != nil || len(first.Problems) > 0 {
		b.Fatal(err, first.Problems)
	}
	apps[500] = store.compile(b, env, objectsOf("app-0500", 2))
	b.ReportAllocs()
	for b.Loop() {
		next, err := Build(env, apps, first.Set, store)
		if err != nil || next.Set.D == first.Set.D {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeSet(b *testing.B) {
	env := render.Environment{Name: "dev"}
	store := blobs{}
	var apps []App
	for i := range 1000 {
		apps = append(apps, store.compile(b, env, objectsOf(fmt.Sprintf("app-%04d", i), 1)))
	}
	built, err := Build(env, apps, nil, store)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(built.Manifest)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeSet(built.Manifest); err != nil {
			b.Fatal(err)
		}
	}
}
