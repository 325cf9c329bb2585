package containers

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// TestFault_C10 has images that say more than they may: users that would wrap round to root, huge or linked user files,
// labels that look like settings of the runtime, and a /dev that leads elsewhere.
func TestFault_C10(t *testing.T) {
	n := newNode(t)
	r := newRawRegistry(t)
	outside := t.TempDir()
	devices := fmt.Sprint(mustReadDir(t, "/dev"))
	big := func(name string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		mustNot(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: 8 << 20}))
		w.Write(bytes.Repeat([]byte("a:x:0:web\n"), 8<<20/10+1)[:8<<20])
		mustNot(t, w.Flush())
		return b.Bytes()
	}
	part := func(h ...tar.Header) []byte { b := tarOf(t, h...); return b[:len(b)-1024] } // without its end
	for _, c := range []struct {
		name    string
		layer   []byte
		says    ocispec.ImageConfig
		nonRoot bool
		refused string
	}{
		{name: "a user past 32 bits", says: ocispec.ImageConfig{User: "4294967296"}, refused: "ids go from 0"},
		{name: "a negative user", says: ocispec.ImageConfig{User: "-1"}, refused: "ids go from 0"},
		{name: "a group past 32 bits", says: ocispec.ImageConfig{User: "5:4294967296"}, refused: "ids go from 0"},
		{name: "root by another name", says: ocispec.ImageConfig{User: "00"}, nonRoot: true, refused: "runAsNonRoot"},
		{name: "a group file of 8 MiB", layer: big("etc/group"), says: ocispec.ImageConfig{User: "5"}},
		{name: "user files that lead outside", layer: part(
			tar.Header{Name: "etc/passwd", Typeflag: tar.TypeSymlink, Linkname: "/../../../../etc/shadow"},
			tar.Header{Name: "etc/group", Typeflag: tar.TypeSymlink, Linkname: "/etc/group"},
		), says: ocispec.ImageConfig{User: "5"}},
		{name: "labels", says: ocispec.ImageConfig{Labels: map[string]string{
			"io.kubernetes.cri-o.Devices": "/dev/mem", "io.containerd.runc.v2.group": "x", "org.systemd.property.X": "1", "com.github.containers.toolbox": "true",
		}}},
		{name: "a /dev that leads elsewhere", layer: part(tar.Header{Name: "dev", Typeflag: tar.TypeSymlink, Linkname: outside})},
		{name: "a /proc that leads elsewhere", layer: part(tar.Header{Name: "proc", Typeflag: tar.TypeSymlink, Linkname: outside}), refused: "proc"},
	} {
		d := r.imageOf(append(c.layer, progLayer(t)...), c.says)
		if _, err := n.Pull(ctx(t), r.host+"/evil:1", d.Digest.String(), nil, nil); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		p := n.podOf("id")
		main := &p.Spec.Containers[0]
		main.Command, main.SecurityContext = []string{"/bin/prog"}, &corev1.SecurityContext{RunAsNonRoot: &c.nonRoot}
		n.sandbox(p)
		l := n.launch(p, 0)
		l.Digest = d.Digest.String()
		err := n.Start(ctx(t), l)
		switch {
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s: %v, want something with %q", c.name, err, c.refused)
		case c.refused == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case err == nil:
			config, cerr := os.ReadFile(filepath.Join(n.pod(p.ID).newest("main").dir, "config.json"))
			if cerr != nil || bytes.Contains(config, []byte("systemd.property")) || bytes.Contains(config, []byte("toolbox")) {
				t.Errorf("%s: what the image says is among the runtime's settings: %s", c.name, config)
			}
			if got := n.exit(p, "main"); got.ExitCode != 0 {
				t.Errorf("%s: %+v %s", c.name, got, n.log(p, "main", 0))
			}
		}
		if left := mustReadDir(t, outside); len(left) != 0 {
			t.Errorf("%s: outside there is %v", c.name, left)
		}
		mustNot(t, n.RemoveSandbox(ctx(t), p.ID))
	}
	if after := fmt.Sprint(mustReadDir(t, "/dev")); after != devices {
		t.Errorf("the host's devices were changed")
	}
}

// TestFault_C15 looks for what escapes begin with: file descriptors of the host, kernel files that may be read or
// written, privileges that may be gained.
func TestFault_C15(t *testing.T) {
	n := newNode(t)
	p := n.podOf("cat", "/proc/self/status", "then", "print", "end", "then", "sleep", "1000")
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: new(false)}
	n.run(p)
	n.wait("its log", func() bool { return strings.Contains(n.log(p, "main", 0), "stdout F end") })
	for _, word := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapInh:\t0000000000000000"} {
		if !strings.Contains(n.log(p, "main", 0), word) {
			t.Errorf("%q is not in its status", word)
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd", n.pod(p.ID).newest("main").state.Pid)
	for _, e := range mustReadDir(t, dir) {
		to, _ := os.Readlink(filepath.Join(dir, e.Name()))
		own := strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "anon_inode:") || to == "/dev/null" || strings.HasSuffix(to, "/stdout") || strings.HasSuffix(to, "/stderr")
		own = own || strings.HasPrefix(to, "/sys/fs/cgroup/cpu/") // Go's runtime opens its own limits
		if !own {
			t.Errorf("it has file descriptor %s of %s", e.Name(), to)
		}
	}
	for _, file := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats"} {
		if _, err := os.Stat(file); err != nil {
			continue // this kernel has none
		}
		var out bytes.Buffer
		code, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "cat", file}, Stdout: &out, Stderr: &out})
		if err != nil || out.Len() > 0 && !strings.Contains(out.String(), "denied") {
			t.Errorf("%s: %d, %v, %d bytes", file, code, err, out.Len())
		}
	}
	for _, file := range []string{"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/irq/x", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/memory/release_agent"} {
		var out bytes.Buffer
		code, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "write", file, "x"}, Stdout: &out, Stderr: &out})
		if err != nil || code == 0 {
			t.Errorf("%s may be written: %d, %v, %s", file, code, err, out.String())
		}
	}
}

// TestFault_L13 writes garbage into the records of a pod that runs: it goes on, nothing is started a second time, and
// the records are made anew from what the kernel and the shim know.
func TestFault_L13(t *testing.T) {
	n := newNode(t)
	for _, garbage := range []string{"", "\x00\x00\x00", `{"id":7}`} {
		for _, file := range []string{record.PodFile, record.InstanceFile, record.StateFile} {
			p := n.sandbox(n.podOf("trap", "TERM", "4", "then", "print", "up", "then", "sleep", "1000"))
			mustNot(t, n.Start(ctx(t), n.launch(p, 2)))
			in := n.pod(p.ID).newest("main")
			pid := in.state.Pid
			n.wait("its log", func() bool { return strings.Contains(n.log(p, "main", 2), "up") })
			path := filepath.Join(in.dir, file)
			if file == record.PodFile {
				path = filepath.Join(n.pod(p.ID).dir, file)
			}
			mustNot(t, os.WriteFile(path, []byte(garbage), 0o600))
			n.Close()
			n.open()
			// What the planner does about a pod that has no namespaces, or a container that was made and not started.
			c := n.see(p, "main")
			if c == nil || c.Attempt != 2 || c.State == plan.Exited {
				t.Errorf("%q in %s: seen %+v", garbage, file, c)
				continue
			}
			n.sandbox(p)
			mustNot(t, n.Start(ctx(t), n.launch(p, 2)))
			if c := n.see(p, "main"); c == nil || c.State != plan.Running || c.Started == 0 {
				t.Errorf("%q in %s: then seen %+v", garbage, file, c)
			}
			if got := n.pod(p.ID).newest("main").state.Pid; got != pid || !alive(pid) {
				t.Errorf("%q in %s: process %d became %d", garbage, file, pid, got)
			}
			mustNot(t, n.Stop(ctx(t), p.ID, "main", 10*time.Second))
			if c := n.see(p, "main"); c == nil || c.State != plan.Exited || c.ExitCode != 4 {
				t.Errorf("%q in %s: stopped: %+v", garbage, file, c)
			}
			mustNot(t, n.RemoveSandbox(ctx(t), p.ID))
		}
	}
}
