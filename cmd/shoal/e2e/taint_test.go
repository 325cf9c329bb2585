//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A machine that comes with a taint gets no pods that do not tolerate it; one that is given NoExecute loses those it has.
// Both are shown, and both are taken back.
func TestFeature_R7_Taints(t *testing.T) {
	r := newRing(t, 2)
	first, second := r.nodes[0], r.nodes[1]
	first.Start()
	token, err := first.Client().CreateToken(context.Background(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	second.Args = append(second.Args, "--join", token.Address, "--token", token.Text, "--taint", "dedicated=db:NoSchedule")
	second.Start()
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{"apps/web/web.cue": strings.Replace(webApp("probe:v1", "one"), "image:", "replicas: 3\n\timage:", 1)})
	repo.Push("web")
	on := func(want string) func() error {
		return func() error {
			if got := fmt.Sprint(podsOn(first.Status())); got != want {
				return fmt.Errorf("ready pods: %s, want %s", got, want)
			}
			return nil
		}
	}
	first.Eventually(30*time.Second, on("map[n1:3]"))
	if out, errs, code := first.Shoal("nodes"); code != 0 || !strings.Contains(out, "n2 is tainted: dedicated=db:NoSchedule") {
		t.Errorf("nodes: %s%s", out, errs)
	}
	taint := func(args ...string) {
		t.Helper()
		if _, errs, code := first.Shoal(append([]string{"taint"}, args...)...); code != 0 {
			t.Fatal(errs)
		}
	}
	taint("n2", "dedicated-")
	taint("n1", "broken:NoExecute")
	first.Eventually(30*time.Second, on("map[n2:3]"))
	second.Stop()
	second.Start() // what it says of itself is of its first day
	if out, _, _ := second.Shoal("nodes"); !strings.Contains(out, "n1 is tainted: broken:NoExecute") || strings.Contains(out, "n2 is tainted") {
		t.Errorf("nodes: %s", out)
	}
	taint("n1", "broken-")
	if out, _, _ := second.Shoal("nodes"); strings.Contains(out, "tainted") {
		t.Errorf("nodes: %s", out)
	}
	if _, errs, code := first.Shoal("taint", "n1", "broken-"); code != 1 || !strings.Contains(errs, "it has no taint broken") {
		t.Errorf("taken away twice: %d %s", code, errs)
	}
}
