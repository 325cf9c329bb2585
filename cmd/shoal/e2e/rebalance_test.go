//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A machine that was emptied and is back gets its share when that is asked for, and no request is lost on the way. It is
// shown before, nothing happens without a yes, and a second time there is nothing to do.
func TestFeature_R8_Rebalance(t *testing.T) {
	r, w := chaos(t)
	first, empty := r.nodes[0], r.nodes[2]
	shoal := func(args ...string) string {
		t.Helper()
		out, errs, code := first.Shoal(args...)
		if code != 0 {
			t.Fatalf("shoal %s: %d %s", strings.Join(args, " "), code, errs)
		}
		return out
	}
	if out := shoal("rebalance"); out != "nothing is to be moved\n" {
		t.Errorf("at the beginning: %s", out)
	}
	shoal("drain", empty.name)
	shoal("uncordon", empty.name)
	before := places(first)
	out := shoal("rebalance")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.Contains(strings.Join(strings.Fields(lines[1]), " "), " "+empty.name+" 1 other of its owner on its node, 0 there") {
		t.Errorf("one of three pods is to move to %s:\n%s", empty.name, out)
	}
	if now := places(first); now != before {
		t.Errorf("pods moved without a yes:\n%s\nthen:\n%s", before, now)
	}
	l := first.load("http://"+first.address+":30080/", 4)
	begun := time.Now()
	shoal("rebalance", "--yes")
	t.Logf("balanced after %s", time.Since(begun).Round(time.Millisecond))
	l.end(t)
	if err := func() error {
		on := map[string]int{}
		for _, p := range first.Status().Pods {
			if strings.HasPrefix(p.Name, "web-") {
				on[p.Node]++
			}
		}
		if fmt.Sprint(on) != "map[n1:1 n2:1 n3:1]" {
			return fmt.Errorf("web is on %v", on)
		}
		return nil
	}(); err != nil {
		t.Error(err)
	}
	if out := shoal("rebalance", "--yes"); out != "nothing is to be moved\n" {
		t.Errorf("a second time: %s", out)
	}
	if _, errs, code := first.Shoal("rebalance", "--stop"); code != 1 || !strings.Contains(errs, "none goes on") {
		t.Errorf("nothing to stop: %d %s", code, errs)
	}
	r.settled(4)
	w.alone(t)
}
