//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Nothing is taken for drift that is none, in 200 looks at everything (1,000 with FULL=1), while services with several
// ports, probes, volumes and a CronJob run and one of them is rolled out. What others do change is reported once.
func TestFeature_G5_NoFalseDrift(t *testing.T) {
	looks := uint64(200)
	if os.Getenv("FULL") != "" {
		looks = 1000
	}
	n := NewNode(t, "--resync", "100ms").Start()
	for _, image := range []string{"guestbook:v1", "redis:v1", "report:v1", "nginx:v1", "echo:v1"} {
		n.Image(image)
	}
	repo := n.Example("guestbook")
	repo.CopyExample("echo-yaml", "apps")
	repo.Push("guestbook and echo")
	n.Eventually(soon, func() error { return n.counts(page) })
	n.Eventually(soon, func() error { return n.echoes("http://127.0.0.1:30081", 3) })

	// wait lets the agent look at everything so many times more.
	wait := func(more uint64) {
		t.Helper()
		until := n.Status().Resyncs + more
		n.Eventually(time.Duration(more)*time.Second+soon, func() error {
			if s := n.Status(); s.Resyncs < until {
				return fmt.Errorf("%d resyncs, want %d", s.Resyncs, until)
			}
			return nil
		})
	}
	drifts := func(want uint64, after string) {
		t.Helper()
		if s := n.Status(); s.Drifts != want {
			t.Fatalf("%d drifts after %s, want %d:\n%s", s.Drifts, after, want, n.drift())
		}
	}
	begun := time.Now()
	wait(looks / 2)
	repo.Write("values/dev.cue", `@if(dev)

package values

values: {version: "v1", replicas: 2, greeting: "Hello again", nodePort: 30080, report: "* * * * *"}
`)
	repo.Push("two replicas and another greeting")
	wait(looks / 2)
	t.Logf("%d resyncs in %s", looks, time.Since(begun).Round(time.Second))
	drifts(0, "nobody changed anything")
	if events := n.drift(); events != "" {
		t.Errorf("false drift: %s", events)
	}

	instance := n.instance()
	for i, tt := range []struct {
		name string
		args []string
	}{
		{"the table went", []string{"nft", "delete", "table", "ip", "shoal-" + instance}},
		{"a pod's link went", []string{"ip", "link", "del", n.podLink()}},
	} {
		n.must(tt.args[0], tt.args[1:]...)
		wait(20)
		drifts(uint64(i+1), tt.name)
		if err := n.counts(page); err != nil {
			t.Errorf("after %s: %v", tt.name, err)
		}
		if err := n.echoes("http://127.0.0.1:30081", 3); err != nil {
			t.Errorf("after %s: %v", tt.name, err)
		}
	}
	if got := strings.Count(n.drift(), ": Drift: "); got != 2 || strings.Contains(n.drift(), "times") {
		t.Errorf("each drift is to be told once:\n%s", n.drift())
	}
}
