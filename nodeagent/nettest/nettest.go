// Package nettest lets tests of the node's network work on a machine of their own: network and mount namespaces
// in which the test binary runs again, and further network namespaces that stand for pods. The host's own rules,
// links and addresses are never touched, and everything is gone when the test ends, also when it is killed. Segments
// connect such namespaces to networks of several machines.
package nettest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// marked says in the environment that this process is the one in the namespaces.
const marked = "SHOAL_NETTEST"

// Main is for TestMain. As root it runs the tests in new network and mount namespaces with lo up; otherwise
// where it is, and then tests that need root skip themselves (see Root).
func Main(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(marked) == "" {
		os.Exit(again())
	}
	for _, step := range [][]string{{"ip", "link", "set", "lo", "up"}, {"mount", "-t", "sysfs", "sysfs", "/sys"}} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "nettest: %s: %v: %s\n", strings.Join(step, " "), err, out)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// again runs this binary with the same arguments in its own namespaces and returns its exit status.
func again() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nettest:", err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), marked+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that made the child
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if code := exit.ExitCode(); code >= 0 {
			return code
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nettest:", err)
		return 1
	}
	return 0
}

// Root skips t unless it runs as root, and thus in its own namespaces.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// Netns makes a network namespace, pinned at the path it returns until the test ends.
func Netns(t testing.TB) string {
	t.Helper()
	Root(t)
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errs <- fmt.Errorf("unshare: %w", err)
			return
		}
		errs <- unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// In runs f on a thread that is in the network namespace at path, and waits for it. Sockets that f opens stay
// in that namespace; goroutines that f starts do not.
func In(t testing.TB, path string, f func()) {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		ns, err := os.Open(path)
		if err != nil {
			errs <- err
			return
		}
		defer func() { _ = ns.Close() }()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			errs <- err
			return
		}
		f()
		errs <- nil
	}()
	if err := <-errs; err != nil {
		t.Fatalf("in network namespace %s: %v", path, err)
	}
}

// Run runs a command and returns its output; a failure ends the test.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// RunIn runs a command in the network namespace at path.
func RunIn(t testing.TB, path, name string, args ...string) string {
	t.Helper()
	return Run(t, "nsenter", append([]string{"--net=" + path, name}, args...)...)
}
