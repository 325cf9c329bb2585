package containers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-dev/shoal/engine/plan"
)

// TestFeature_CgroupV2 runs tests of this package where cgroup v2 is all there is: on a host with both, in a mount
// namespace with the v2 file system alone. Controllers that the host uses in v1 are missing there, so what needs them
// is not among those tests.
func TestFeature_CgroupV2(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv("SHOAL_TEST_UNIFIED") != "" {
		onUnifiedHost(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	long, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(long, "unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" "$@"`, self, "-test.v", "-test.run",
		"^(TestFeature_CgroupV2|TestRun|TestContainersOfAPodShareItsNamespaces|TestRestartKeepsThePodAndTwoLogs|TestStop|TestSignal|TestExec|TestReboot|TestFault_C3|TestClearKeepsImages|TestSecurity|TestGuardKillsWithoutTheAgent|TestGuardKillsInTime|TestGuardsLife)$")
	cmd.Env = append(os.Environ(), "SHOAL_TEST_UNIFIED=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := strings.Count(string(out), "\n--- PASS"); got != 14 {
		t.Errorf("%d tests passed, want 14\n%s", got, out)
	}
}

// onUnifiedHost looks at what the kernel has of a pod where cgroup v2 is all there is.
func onUnifiedHost(t *testing.T) {
	t.Helper()
	if cgroups.Mode() != cgroups.Unified {
		t.Fatalf("cgroup mode %v", cgroups.Mode())
	}
	n := newNode(t)
	p := n.run(n.podOf("child", "sleep", "1000"))
	leaf := path.Join(n.podCgroup(p.ID), "main.0")
	dir := filepath.Join(cgroupMount, leaf)
	var pids []string
	n.wait("the container's two processes", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		pids = strings.Fields(string(b))
		return err == nil && len(pids) == 2
	})
	for _, pid := range pids {
		if b, _ := os.ReadFile("/proc/" + pid + "/cgroup"); !strings.Contains("\n"+string(b), "\n0::"+leaf+"\n") {
			t.Errorf("process %s is in\n%s", pid, b)
		}
	}
	var out bytes.Buffer
	if _, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "cat", "/proc/self/cgroup"}, Stdout: &out}); err != nil || !strings.Contains("\n"+out.String(), "\n0::/\n") {
		t.Errorf("the container is to see itself at the root, sees %q, %v", &out, err)
	}

	// Frozen it answers nobody; it can be ended all the same, with all its processes.
	frozen := func(on string) {
		t.Helper()
		mustNot(t, os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte(on), 0))
		n.wait("the freezer", func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, "cgroup.events"))
			return strings.Contains(string(b), "frozen "+on)
		})
	}
	frozen("1")
	if c := n.see(p, "main"); c.State != plan.Running {
		t.Errorf("frozen: got %+v", c)
	}
	mustNot(t, n.Stop(ctx(t), p.ID, "main", 0))
	if c := n.exit(p, "main"); c.ExitCode != 137 {
		t.Errorf("ended while frozen: got %+v", c)
	}
	for _, pid := range pids {
		var id int
		if _, err := fmt.Sscan(pid, &id); err != nil || alive(id) {
			t.Errorf("process %s outlives its container (%v)", pid, err)
		}
	}

	// A limit holds, or the container is refused: it is not run without.
	q := n.podOf("sleep", "1000")
	q.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	n.sandbox(q)
	err := n.Start(ctx(t), n.launch(q, 0))
	limit, _ := os.ReadFile(filepath.Join(cgroupMount, n.podCgroup(q.ID), "main.0", "memory.max"))
	if err == nil && strings.TrimSpace(string(limit)) != "67108864" {
		t.Errorf("runs with the limit %q", limit)
	}
	if err != nil && !strings.Contains(err.Error(), "memory.max") {
		t.Errorf("the refusal names no limit: %v", err)
	}
	for _, pod := range []*plan.Pod{p, q} {
		mustNot(t, n.RemoveSandbox(ctx(t), pod.ID))
		if left := cgroupDirs(n.podCgroup(pod.ID)); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
