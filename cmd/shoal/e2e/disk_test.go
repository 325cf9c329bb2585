//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A disk that is full, of a machine that does not lead and hears nothing any more: the ring knows, the next commit is
// rolled out on the others, and `shoal nodes` and `shoal why` say so; a log of its pod that was rotated is removed. With room again it gets pods again.
func TestFault_E3_DiskPressure(t *testing.T) {
	r := newRing(t, 3).smallDisks()
	for _, n := range r.nodes {
		n.Args = append(n.Args, "--disk-pressure", "nodefs.available<10%,imagefs.available<15%,nodefs.inodesFree<5%")
	}
	r.start()
	first := r.nodes[0]
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{"apps/web/web.cue": replicated("one")})
	repo.Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	leader, rest := r.around(r.leader())
	full, other := rest[0], rest[1]
	// As if its pod had written more: a log that was set aside, beside the one that is written to.
	log := strings.TrimSpace(full.must("sh", "-c", "ls -d "+full.Logs+"/dev_web-*/*/0.log"))
	full.must("sh", "-c", "head -c 4096 /dev/zero > "+log+".20260101-000000.000000000")
	filler := full.fill()
	begun := time.Now()
	state := func(want string) func() error {
		return func() error {
			out, errs, _ := leader.Shoal("nodes")
			for line := range strings.Lines(out) {
				if fields := strings.Fields(line); len(fields) > 1 && fields[0] == full.name && fields[1] == want {
					return nil
				}
			}
			return fmt.Errorf("%s is not %s:\n%s%s", full.name, want, out, errs)
		}
	}
	leader.Eventually(30*time.Second, state("Ready,DiskPressure"))
	t.Logf("known to the ring after %s", time.Since(begun).Round(100*time.Millisecond))
	if out, _, _ := leader.Shoal("nodes"); !strings.Contains(out, full.name+" gets no more pods, its disk is short: nodefs.available is 0%") || !strings.Contains(out, full.name+" is tainted: node.kubernetes.io/disk-pressure:NoSchedule") {
		t.Errorf("nodes:\n%s", out)
	}

	if left := full.must("sh", "-c", "ls "+log+"*"); strings.TrimSpace(left) != log {
		t.Errorf("of its pod's logs there are:\n%s", left)
	}

	repo.Write("apps/web/web.cue", replicated("two"))
	repo.PushBy(leader, "two")
	updated := func() error {
		on := map[string]int{}
		for _, p := range leader.Status().Pods {
			if p.Ready == p.Containers && p.Status == "Running" {
				on[p.Node]++
			}
		}
		if on[leader.name]+on[other.name] != 3 {
			return fmt.Errorf("ready pods: %v", on)
		}
		for _, n := range []*Node{leader, other} {
			if err := n.answers("http://"+n.address+":30080/env", "GREETING=two"); err != nil {
				return err
			}
		}
		return nil
	}
	leader.Eventually(60*time.Second, updated)

	full.must("rm", filler)
	leader.Eventually(120*time.Second, state("Ready"))
	repo.Write("apps/web/web.cue", strings.Replace(replicated("two"), "replicas: 3", "replicas: 5", 1))
	repo.Push("five")
	r.settled(5)
	if on := podsOn(leader.Status()); on[full.name] == 0 {
		t.Errorf("with room again: %v", on)
	}
}
