package containers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/cgroups/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-dev/shoal/engine/plan"
)

// TestSecurity looks from inside at what a container is allowed.
func TestSecurity(t *testing.T) {
	n := newNode(t)
	for _, c := range []struct {
		name  string
		pod   *corev1.PodSecurityContext
		own   *corev1.SecurityContext
		steps []string
		want  []string // words of the log
	}{
		{"defaults", nil, nil, []string{"id", "then", "cat", "/proc/self/status"}, []string{
			"uid 0 gid 0 groups [0]", "NoNewPrivs:\t0", "Seccomp:\t2", "SigIgn:\t0000000000000000", "CapBnd:\t00000000a80425fb", "CapEff:\t00000000a80425fb",
		}},
		{"a user by number", nil, &corev1.SecurityContext{RunAsUser: new(int64(1000)), AllowPrivilegeEscalation: new(false)}, []string{"id", "then", "cat", "/proc/self/status"}, []string{
			"uid 1000 gid 1001 groups [1001 1002]", "NoNewPrivs:\t1", "CapEff:\t0000000000000000",
		}},
		{"groups of the pod", &corev1.PodSecurityContext{RunAsUser: new(int64(5)), RunAsGroup: new(int64(6)), FSGroup: new(int64(7)), SupplementalGroups: []int64{8}}, nil, []string{"id"}, []string{
			"uid 5 gid 6 groups [6 7 8]",
		}},
		{"capabilities", nil, &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}}}, []string{"cat", "/proc/self/status"}, []string{
			"CapEff:\t0000000000001000",
		}},
		{"unconfined", nil, &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}, []string{"cat", "/proc/self/status"}, []string{
			"Seccomp:\t0",
		}},
		{"read-only", nil, &corev1.SecurityContext{ReadOnlyRootFilesystem: new(true)}, []string{"write", "/x", "y"}, []string{
			"read-only file system",
		}},
		{"protected paths", nil, nil, []string{"write", "/proc/sys/kernel/hostname", "y"}, []string{
			"read-only file system",
		}},
		{"privileged", nil, &corev1.SecurityContext{Privileged: new(true)}, []string{"cat", "/proc/self/status", "then", "cat", "/proc/kcore-none"}, []string{
			"Seccomp:\t0",
		}},
	} {
		p := n.podOf(c.steps...)
		p.Spec.SecurityContext, p.Spec.Containers[0].SecurityContext = c.pod, c.own
		n.run(p)
		n.exit(p, "main")
		log := n.log(p, "main", 0)
		for _, word := range c.want {
			if !strings.Contains(log, word) {
				t.Errorf("%s: %q is not in\n%s", c.name, word, log)
			}
		}
		if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
			t.Error(err)
		}
	}
}

func TestEnvironmentAndMounts(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 10.43.0.10\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := n.sandbox(n.podOf("env", "then", "cat", "/etc/resolv.conf", "then", "id", "then", "write", "/etc/resolv.conf", "x"))
	p.Spec.Containers[0].WorkingDir = "/tmp/made"
	l := n.launch(p, 0)
	l.Env = []string{"FROM=pod", "A=b=c"}
	l.Mounts = []plan.Mount{
		{Source: filepath.Join(dir, "resolv.conf"), Target: "/etc/resolv.conf", ReadOnly: true},
		{Source: dir, Target: "/data/deep"},
	}
	if err := n.Start(ctx(t), l); err != nil {
		t.Fatal(err)
	}
	if c := n.exit(p, "main"); c.ExitCode != 1 {
		t.Errorf("got %+v", c)
	}
	log := n.log(p, "main", 0)
	for _, word := range []string{"FROM=pod\n", "A=b=c\n", "HOME=/root\n", "HOSTNAME=" + p.Name + "\n", "PATH=/usr/local/sbin", "nameserver 10.43.0.10", "host " + p.Name + " dir /tmp/made pid 1", "read-only file system"} {
		if !strings.Contains(log, word) {
			t.Errorf("%q is not in\n%s", word, log)
		}
	}
}

func TestLimitsReachTheKernel(t *testing.T) {
	n := newNode(t)
	p := n.podOf("sleep", "1000")
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("32Mi")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("64Mi")},
	}
	n.run(p)
	pod := n.podCgroup(p.ID)
	want := map[string]string{
		"cpu/" + pod + "/main.0/cpu.shares":               "256",
		"cpu/" + pod + "/main.0/cpu.cfs_quota_us":         "50000",
		"memory/" + pod + "/main.0/memory.limit_in_bytes": "67108864",
		"cpu/" + pod + "/cpu.shares":                      "256",
		"cpu/" + pod + "/cpu.cfs_quota_us":                "50000",
		"memory/" + pod + "/memory.limit_in_bytes":        "67108864",
	}
	if cgroups.Mode() == cgroups.Unified {
		want = map[string]string{
			pod + "/main.0/cpu.max": "50000 100000", pod + "/main.0/memory.max": "67108864", pod + "/cpu.max": "50000 100000",
			pod + "/memory.max": "67108864", pod + "/main.0/memory.oom.group": "1",
		}
	}
	for file, value := range want {
		b, err := os.ReadFile(filepath.Join(cgroupMount, file))
		if got := strings.TrimSpace(string(b)); err != nil || got != value {
			t.Errorf("%s: got %q, %v; want %q", file, got, err, value)
		}
	}
	if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
		t.Fatal(err)
	}
	if left := cgroupDirs(pod); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPodResources(t *testing.T) {
	c := func(req, lim, mem string) corev1.Container {
		r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
		if req != "" {
			r.Requests["cpu"] = resource.MustParse(req)
		}
		if lim != "" {
			r.Limits["cpu"] = resource.MustParse(lim)
		}
		if mem != "" {
			r.Limits["memory"] = resource.MustParse(mem)
		}
		return corev1.Container{Resources: r}
	}
	for _, x := range []struct {
		name string
		spec corev1.PodSpec
		want limits
	}{
		{"nothing said", corev1.PodSpec{Containers: []corev1.Container{c("", "", "")}}, limits{shares: 2}},
		{"two with limits", corev1.PodSpec{Containers: []corev1.Container{c("100m", "200m", "1Mi"), c("", "300m", "2Mi")}}, limits{shares: 409, quota: 50000, memory: 3 << 20}},
		{"one without", corev1.PodSpec{Containers: []corev1.Container{c("100m", "200m", "1Mi"), c("", "", "")}}, limits{shares: 102}},
		{"a larger init container", corev1.PodSpec{InitContainers: []corev1.Container{c("1", "1", "9Mi")}, Containers: []corev1.Container{c("100m", "200m", "1Mi")}}, limits{shares: 1024, quota: 100000, memory: 9 << 20}},
		{"the least quota", corev1.PodSpec{Containers: []corev1.Container{c("", "1m", "")}}, limits{shares: 2, quota: 1000}},
	} {
		if got := podResources(&x.spec); got != x.want {
			t.Errorf("%s: got %+v, want %+v", x.name, got, x.want)
		}
	}
}

func TestUsers(t *testing.T) {
	u := users{passwd: []byte("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n"), group: []byte("web:x:1001:\nextra:x:1002:web\n")}
	for spec, want := range map[string]string{
		"":                     "0:0 [] /root",
		"web":                  "1000:1001 [1002] /home/web",
		"1000":                 "1000:1001 [1002] /home/web",
		"77":                   "77:0 [] /",
		"web:extra":            "1000:1002 [] /home/web",
		"77:88":                "77:88 [] /",
		"nobody":               "error",
		"4294967296":           "error",
		"-1":                   "error",
		"99999999999999999999": "error",
		"0:4294967296":         "error",
	} {
		got := "error"
		if id, err := u.resolve(spec); err == nil {
			got = strings.TrimSpace(strings.Join([]string{itoa(id.uid) + ":" + itoa(id.gid), list(id.groups), id.home}, " "))
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", spec, got, want)
		}
	}
}

func TestRuncTooOld(t *testing.T) {
	for out, want := range map[string]bool{
		"runc version 1.1.5+ds1\ncommit: x": true, "runc version 1.2.7": true, "runc version 1.2.8": false, "runc version 1.3.2": true,
		"runc version 1.3.3": false, "runc version 1.5.2": false, "crun": true, "": true,
	} {
		if got, _ := runcTooOld(out); got != want {
			t.Errorf("%q: got %v", out, got)
		}
	}
}
