package renderer

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/desired"
)

func init() { roles["desired"] = func() int { return ChildMain(CompileDesired) } }

// TestDesired: what the child compiles in its sandbox arrives as desired.Compile made it, and Kubernetes' own errors
// name the author's line.
func TestDesired(t *testing.T) {
	r := newRenderer(t, "desired", Limits{})
	tree := repo(t, webApp+`
-- apps/bad/bad.yaml --
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
  - port: 80
    protocol: SCTPP
-- apps/free/free.cue --
package free

import "shoal.dev/schema"

schema.#Package

deployment: free: spec: {
	selector: matchLabels: app: "free"
	template: {
		metadata: labels: app: "other"
		spec: containers: [{
			name:  "c"
			image: "nginx"
		}]
	}
}
-- apps/zone/zone.cue --
package zone

import "shoal.dev/schema"

schema.#Package

app: tick: {image: "x", schedule: "0 3 * * *", timeZone: "Europe/Berlin"}
`)
	apps, _, err := r.Render(context.Background(), Request{Tree: tree, Environment: dev})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, a := range apps {
		d, blobs, err := a.Desired()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s: %d blobs\n", d.Name, len(blobs))
		for _, i := range d.Items {
			fmt.Fprintf(&got, "  %s %s:%d\n", i.Key, i.File, i.Line)
			if i.Digest == "" {
				t.Errorf("%s has no digest", i.Key)
			}
		}
		for _, p := range d.Problems {
			fmt.Fprintf(&got, "  %s:%d\n", p.File, p.Line)
			t.Log(p)
		}
	}
	want := `bad: 0 blobs
  apps/bad/bad.yaml:9
free: 0 blobs
  apps/free/free.cue:10
web: 2 blobs
  Service dev/web apps/web/web.cue:7
  Deployment dev/web apps/web/web.cue:7
zone: 1 blobs
  CronJob dev/tick apps/zone/zone.cue:7
`
	if got.String() != want {
		t.Errorf("got:\n%swant:\n%s", got.String(), want)
	}
	// A child that lies about its bytes is found out.
	for i := range apps {
		if apps[i].Name == "web" {
			forged := apps[i]
			forged.Compiled = append([]byte{}, forged.Compiled...)
			forged.Compiled[len(forged.Compiled)-3] ^= 1
			if _, _, err := forged.Desired(); err == nil {
				t.Error("forged bytes were taken")
			}
			forged.Compiled = forged.Compiled[:20]
			if _, _, err := forged.Desired(); err == nil {
				t.Error("bytes cut off were taken")
			}
		}
	}
	var _ desired.App
}
