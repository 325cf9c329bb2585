package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/plan"
)

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - {name: app, image: "app:v1", envFrom: [{configMapRef: {name: %[1]s}}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: %[1]s}
data: {greeting: %[2]s}
`

const service = `---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {selector: {app: %[1]s}, ports: [{name: http, port: 80, targetPort: 8080}]}
`

// A pod that nothing changed for is the very same value, so that its volumes are not written again; one whose
// ConfigMap changed, or the services it may see, is another.
func TestWantsAreKept(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	text := func(a, b string) string {
		return fmt.Sprintf(deployment, "api", a) + "---\n" + fmt.Sprintf(deployment, "web", b)
	}
	w := plan.NewWants()
	byApp := func() map[string]*plan.Pod {
		t.Helper()
		w.Update(r.State, enginetest.Node(1).ID, r.Content)
		if len(w.Faults) > 0 {
			t.Fatal(w.Faults)
		}
		out := map[string]*plan.Pod{}
		for _, p := range w.Want {
			out[p.Labels["app"]] = p
		}
		if apps := slices.Sorted(maps.Keys(out)); strings.Join(apps, " ") != "api web" {
			t.Fatalf("pods of %q are wanted", apps)
		}
		return out
	}
	r.Commit("dev", text("hello", "hello"))
	first := byApp()
	if got := first["web"].ConfigMaps["web"].Data["greeting"]; got != "hello" || first["web"].NodeName != "n1" {
		t.Errorf("greeting %q on %q", got, first["web"].NodeName)
	}
	if again := byApp(); again["api"] != first["api"] || again["web"] != first["web"] {
		t.Error("pods were made anew although nothing changed")
	}
	r.Commit("dev", text("hello", "good day"))
	second := byApp()
	if second["api"] != first["api"] {
		t.Error("a pod was made anew although only another's ConfigMap changed")
	}
	if second["web"] == first["web"] || second["web"].ConfigMaps["web"].Data["greeting"] != "good day" {
		t.Error("the changed ConfigMap did not come through")
	}
	if first["web"].ConfigMaps["web"].Data["greeting"] != "hello" {
		t.Error("what was handed out was changed")
	}
	r.Commit("dev", text("hello", "good day")+fmt.Sprintf(service, "my-db"))
	third := byApp()
	env, err := plan.Environ(third["web"], &third["web"].Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	ip := strings.TrimPrefix(env[slices.IndexFunc(env, func(s string) bool { return strings.HasPrefix(s, "MY_DB_SERVICE_HOST=") })], "MY_DB_SERVICE_HOST=")
	want := []string{
		"MY_DB_PORT=tcp://" + ip + ":80", "MY_DB_PORT_80_TCP=tcp://" + ip + ":80", "MY_DB_PORT_80_TCP_ADDR=" + ip, "MY_DB_PORT_80_TCP_PORT=80",
		"MY_DB_PORT_80_TCP_PROTO=tcp", "MY_DB_SERVICE_HOST=" + ip, "MY_DB_SERVICE_PORT=80", "MY_DB_SERVICE_PORT_HTTP=80", "greeting=good day",
	}
	if !slices.Equal(env, want) {
		t.Errorf("environment:\n%s\nwant:\n%s", strings.Join(env, "\n"), strings.Join(want, "\n"))
	}
	w.Update(r.State, enginetest.Node(2).ID, r.Content)
	if len(w.Want) > 0 {
		t.Errorf("another node wants %d of these pods", len(w.Want))
	}
}
