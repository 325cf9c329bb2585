//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// Where cgroup v2 is all there is, a pod runs, is restarted, is listed and taken away as elsewhere; its processes are in
// the cgroup that carries the node's mark. Limits need controllers that a host with both versions keeps for v1: the
// pod has none.
func TestFeature_CgroupV2(t *testing.T) {
	n := NewNode(t)
	n.must("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
	n.Start()
	if !strings.Contains(n.output.String(), `"cgroup":"v2"`) {
		t.Fatalf("this agent does not use cgroup v2:\n%s", n.output)
	}
	instance := n.instance()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")})
	repo.Push("one")
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=one") })
	pods := n.must("find", "/sys/fs/cgroup/shoal-"+instance, "-mindepth", "2", "-type", "d")
	if uid := n.Status().Pods[0].UID; strings.TrimSpace(pods) != "/sys/fs/cgroup/shoal-"+instance+"/pod"+uid+"/web.0" {
		t.Errorf("cgroups of pod %s: %s", uid, pods)
	}

	kill9(t, n.containerPIDs("/probe")[0])
	n.Eventually(soon, func() error {
		if s := n.Status(); s.Pods[0].Restarts != 1 {
			return fmt.Errorf("%d restarts", s.Pods[0].Restarts)
		}
		return n.podsReady(1)
	})
	n.Kill()
	n.Start()
	if stdout, stderr, code := n.Shoal("exec", "web", "--", "/probe", "cat", "/proc/self/cgroup"); code != 0 || !strings.Contains(stdout, "0::/\n") {
		t.Errorf("exec: %d %q %q", code, stdout, stderr)
	}
	repo.Write("apps/web/web.cue", webApp("probe:v1", "two"))
	repo.Push("two")
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=two") })
	n.Eventually(soon, func() error { return n.podsReady(1) })

	n.Stop()
	if _, stderr, code := n.Shoal("reset", "--yes", "--data-dir", n.Data, "--run-dir", n.Run, "--log-dir", n.Logs); code != 0 {
		t.Fatalf("reset: %s", stderr)
	}
	if left := n.left(instance); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
