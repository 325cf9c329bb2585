package renderer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/render"
)

// attempts are what a child that was taken over would try. Each says how it went.
var attempts = []struct {
	name string
	try  func() error
}{
	{"read /etc/passwd", func() error { _, err := os.ReadFile("/etc/passwd"); return err }},
	{"read /proc/self/environ", func() error { _, err := os.ReadFile("/proc/self/environ"); return err }},
	{"list /", func() error { _, err := os.ReadDir("/"); return err }},
	{"stat /etc", func() error { _, err := os.Stat("/etc"); return err }},
	{"write /tmp", func() error { return os.WriteFile("/tmp/shoal-probe", []byte("x"), 0o600) }},
	{"make a directory", func() error { return os.Mkdir("/shoal-probe", 0o700) }},
	{"remove a file", func() error { return os.Remove("/tmp/nothing") }},
	{"openat by descriptor", func() error { _, err := unix.Openat(0, "x", unix.O_RDONLY, 0); return err }},
	{"openat2", func() error { _, err := unix.Openat2(unix.AT_FDCWD, "/etc/passwd", &unix.OpenHow{}); return err }},
	{"memfd", func() error { _, err := unix.MemfdCreate("x", 0); return err }},
	{"socket tcp", func() error { _, err := net.Dial("tcp", "127.0.0.1:22"); return err }},
	{"socket unix", func() error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err }},
	{"socket netlink", func() error { _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0); return err }},
	{"listen", func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err }},
	{"resolve", func() error { _, err := net.LookupHost("localhost.example"); return err }},
	{"exec", func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) }},
	{"start a process", func() error { return exec.Command("/bin/true").Start() }},
	{"fork", func() error { return raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0) }},
	{"clone3", func() error {
		args := [8]uint64{4: uint64(unix.SIGCHLD)}
		return raw(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	}},
	{"ptrace", func() error { return raw(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0) }},
	{"read another's memory", func() error { return raw(unix.SYS_PROCESS_VM_READV, 1, 0, 0) }},
	{"kill", func() error { return unix.Kill(os.Getppid(), 0) }},
	{"kill a thread elsewhere", func() error { return unix.Tgkill(os.Getpid()+1, os.Getpid()+1, 0) }},
	{"setuid", func() error { return raw(unix.SYS_SETUID, 0, 0, 0) }},
	{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
	{"mount", func() error { return unix.Mount("none", "/", "tmpfs", 0, "") }},
	{"chroot", func() error { return unix.Chroot("/") }},
	{"bpf", func() error { return raw(unix.SYS_BPF, 0, 0, 0) }},
	{"keyctl", func() error { return raw(unix.SYS_KEYCTL, 0, 0, 0) }},
	{"io_uring", func() error { return raw(unix.SYS_IO_URING_SETUP, 1, 0, 0) }},
	{"perf", func() error { return raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0) }},
	{"userfaultfd", func() error { return raw(unix.SYS_USERFAULTFD, 0, 0, 0) }},
	{"executable memory", func() error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
		return err
	}},
	{"raise a limit", func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) }},
	{"turn the filter off", func() error { return unix.Prctl(unix.PR_SET_SECCOMP, 0, 0, 0, 0) }},
}

func raw(nr, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(nr, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// probe tries everything from several threads, since a filter that held one thread only would be none.
func probe(_ render.Environment, _ render.App) ([]byte, render.Problems) {
	var out []string
	for range 3 {
		lines := make(chan []string)
		go func() {
			var l []string
			for _, a := range attempts {
				err := a.try()
				_, unresolved := errors.AsType[*net.DNSError](err)
				switch {
				case unresolved:
					l = append(l, a.name+": denied")
				case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS), errors.Is(err, fs.ErrPermission):
					l = append(l, a.name+": denied")
				case err == nil:
					l = append(l, a.name+": done")
				default:
					l = append(l, fmt.Sprintf("%s: %v", a.name, err))
				}
			}
			lines <- l
		}()
		out = append(out, <-lines...)
	}
	for _, v := range os.Environ() {
		out = append(out, "environment: "+v)
	}
	slices.Sort(out)
	return []byte(strings.Join(slices.Compact(out), "\n")), nil
}

func init() { roles["probe"] = func() int { return ChildMain(probe) } }

// TestFault_R5: a child that is taken over reaches nothing. What it sees and what it cannot do is asserted from
// within, on every thread.
func TestFault_R5(t *testing.T) {
	r := newRenderer(t, "probe", Limits{})
	t.Setenv("SECRET", "of the agent")
	apps, stats, err := r.Render(context.Background(), Request{Tree: repo(t, okApp), Environment: dev})
	if err != nil || len(apps[0].Problems) > 0 {
		t.Fatal(err, apps)
	}
	want := []string{}
	for _, a := range attempts {
		want = append(want, a.name+": denied")
	}
	slices.Sort(want)
	if got := string(apps[0].Compiled); got != strings.Join(want, "\n") {
		for line := range strings.SplitSeq(got, "\n") {
			if !slices.Contains(want, line) {
				t.Errorf("%s", line)
			}
		}
	}
	if !stats.Sandbox.Seccomp || stats.Sandbox.Namespaces != (os.Geteuid() == 0) {
		t.Errorf("sandbox is %+v", stats.Sandbox)
	}
}

// TestFault_R5_Namespaces: as root the child has namespaces, a root directory and limits of its own, seen from
// outside, so that what the filter would let through leads nowhere.
func TestFault_R5_Namespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	r := newRenderer(t, "renderer", Limits{})
	if got := mustRender(t, r, okApp); !strings.Contains(got, "ok: ConfigMap") {
		t.Fatal(got)
	}
	pid := r.lane.proc.pid
	for _, ns := range []string{"net", "pid", "mnt", "ipc", "uts"} {
		mine, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		if mine == its {
			t.Errorf("the child shares the %s namespace", ns)
		}
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/", pid))
	if err != nil || len(entries) != 0 {
		t.Errorf("the child's root has %v (%v)", entries, err)
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	if err != nil || strings.Count(string(mounts), "\n") != 1 || !strings.Contains(string(mounts), " ro,") {
		t.Errorf("the child's mounts: %q (%v)", mounts, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", fmt.Sprintf("Uid:\t%d\t%d\t%d", sandboxUID, sandboxUID, sandboxUID)} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the child's status lacks %q", want)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Max core file size        0                    0", "Max file size             0                    0", "Max open files            32 "} {
		if !strings.Contains(string(limits), want) {
			t.Errorf("the child's limits lack %q:\n%s", want, limits)
		}
	}
}

// TestFault_R5_Unprivileged runs the probe in a test process that is not root: the filter alone must hold.
func TestFault_R5_Unprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("is what TestFault_R5 does here")
	}
	exe := copyOf(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestFault_R5$|^TestRender$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Env = []string{"HOME=/", "TMPDIR=/tmp"}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
}

// copyOf puts this test binary where any user may execute it.
func copyOf(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "renderer-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/test", b, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + "/test"
}
