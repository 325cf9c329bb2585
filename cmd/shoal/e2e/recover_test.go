//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Two of three machines are destroyed: the third goes on alone when it is told to, and not before; its pods never stopped,
// the others' start on it, two new machines join, and the ring has three voters again.
func TestFeature_R3_GoOnAlone(t *testing.T) {
	r := newRing(t, 3).start()
	first, rest := r.nodes[0], r.nodes[1:]
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": strings.Replace(webApp("probe:v1", "one"), "image:", "replicas: 3\n\timage:", 1)}).Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	ringID := first.Status().Ring
	recover := func(args ...string) (string, int) {
		out, errs, code := first.Shoal(append([]string{"recover", "--data-dir", first.Data}, args...)...)
		return out + errs, code
	}
	first.Kill()
	if out, code := recover("--alone"); code != 1 || !strings.Contains(out, "start this node's agent") && !strings.Contains(out, "3 of 3 voters are there: start its agent") {
		t.Errorf("while the others are there: exit %d\n%s", code, out)
	}
	if out, code := recover("--cut"); code != 1 || !strings.Contains(out, "this node is one of 3 voters") {
		t.Errorf("cut: exit %d\n%s", code, out)
	}
	first.Start()
	first.Eventually(30*time.Second, func() error { return r.whole(3) })
	for _, n := range rest {
		n.powerOff()
	}
	first.Eventually(20*time.Second, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := first.Client().CreateToken(ctx, time.Hour); err == nil {
			return fmt.Errorf("it decides without a majority")
		}
		return nil
	})
	first.Kill()
	if out, code := recover("--alone", "--ring", "0123"); code != 2 {
		t.Errorf("another ring's name: exit %d\n%s", code, out)
	}
	out, code := recover("--alone")
	if code != 0 || !strings.Contains(out, "goes on alone with ring "+ringID[:8]) || !strings.Contains(out, "shoal remove n") {
		t.Fatalf("alone: exit %d\n%s", code, out)
	}
	t.Log(out)
	if out, code := recover("--alone"); code != 1 || !strings.Contains(out, "only member already") {
		t.Errorf("a second time: exit %d\n%s", code, out)
	}
	first.Start()
	begun := time.Now()
	first.Eventually(60*time.Second, func() error {
		if on := podsOn(first.Status()); on["n1"] != 3 {
			return fmt.Errorf("ready pods on each node: %v", on)
		}
		return nil
	})
	t.Logf("all pods are ready on it after %s", time.Since(begun).Round(time.Millisecond))
	for _, n := range rest {
		first.Eventually(30*time.Second, func() error {
			if _, errs, code := first.Shoal("remove", n.name); code != 0 {
				return fmt.Errorf("remove: %s", errs)
			}
			return nil
		})
	}
	for i := range 2 {
		n := NewNode(t)
		n.name, n.address = fmt.Sprintf("n%d", 4+i), fmt.Sprintf("192.168.77.%d", 4+i)
		r.nodes = append(r.nodes, n)
		r.plug(n)
		token, err := first.Client().CreateToken(context.Background(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		n.Args = append(n.Args, "--join", token.Address, "--token", token.Text)
		n.Start()
	}
	first.Eventually(30*time.Second, func() error { return r.whole(3) })
	first.Eventually(30*time.Second, func() error { return first.answers(page+"/env", "GREETING=one") })
	if _, err := os.Stat(first.Data + "/ledger.look"); err == nil {
		t.Error("a copy of the ledger was left behind")
	}
}
