package guard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/internal/pidlock"
)

func TestNext(t *testing.T) {
	const now = 1_000_000
	for _, c := range []struct {
		name string
		at   deadline.Time
		left bool
		want string
	}{
		{"no limit", 0, false, "wait 2000"},
		{"renewed", now + 7200, false, "wait 7200"},
		{"nearly", now + 1, false, "wait 1"},
		{"due", now, false, "kill 20"},
		{"a moment ago", now - 2999, false, "kill 20"},
		{"all is dead for a while", now - 3000, false, "kill 2000"},
		{"something does not die", now - 3000, true, "kill 250"},
		{"it was over before this agent came", deadline.Past, false, "kill 2000"},
		{"of another boot", now + deadline.Horizon + 1, false, "kill 2000"},
	} {
		over, sleep := next(c.at, now, c.left)
		got := fmt.Sprintf("wait %d", sleep)
		if over {
			got = fmt.Sprintf("kill %d", sleep)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// As long as the lease is renewed nothing is allocated: what is never collected does not grow either.
func TestRoundAllocatesNothing(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "lease"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &watch{file: int(f.Fd())}
	if w.timer, err = newTimer(); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(20, func() {
		_ = unix.Ftruncate(w.file, 0)
		if at, there := w.deadline(); at != deadline.Past || !there {
			t.Errorf("without a word: %d, %v", at, there)
		}
	}); n > 0 {
		t.Errorf("%v allocations to read", n)
	}
	var b [deadline.Size]byte
	if n := testing.AllocsPerRun(20, func() {
		at := deadline.Now() + 2
		for i := range b {
			b[i] = byte(at >> (8 * i))
		}
		_, _ = unix.Pwrite(w.file, b[:], 0)
		if !w.round() {
			t.Error("it ends")
		}
	}); n > 0 {
		t.Errorf("%v allocations a round", n)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if w.round() {
		t.Error("it goes on without a deadline that anybody could set")
	}
}

// One lock, one holder, and everybody can tell who.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid, err := pidlock.Holder(path); pid != 0 || err != nil {
		t.Errorf("nobody: %d, %v", pid, err)
	}
	if os.Getenv("GUARD_TEST_LOCK") != "" {
		f, err := pidlock.Hold(os.Getenv("GUARD_TEST_LOCK"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Println("held")
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestLock$")
	cmd.Env = append(os.Environ(), "GUARD_TEST_LOCK="+path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4)
	if _, err := out.Read(said); err != nil || string(said) != "held" {
		t.Fatalf("%q, %v", said, err)
	}
	if pid, err := pidlock.Holder(path); pid != cmd.Process.Pid || err != nil {
		t.Errorf("held by %d: %d, %v", cmd.Process.Pid, pid, err)
	}
	if f, err := pidlock.Hold(path); err == nil {
		f.Close()
		t.Error("two hold it")
	}
	in.Close()
	_ = cmd.Wait()
	if pid, err := pidlock.Holder(path); pid != 0 || err != nil {
		t.Errorf("let go: %d, %v", pid, err)
	}
}

// Processes that are others all the time, frozen ones and those in cgroups below die; their neighbours do not.
func TestEnd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const mount = "/sys/fs/cgroup"
	k := killer{mount}
	top := fmt.Sprintf("/shoal-guard-test-%d", os.Getpid())
	cgroup := top + "/pod"
	t.Cleanup(func() {
		for range 100 {
			left := 0
			for _, h := range hierarchies(mount) {
				for _, dir := range []string{cgroup + "/a/b", cgroup + "/a", cgroup, top + "/other", top} {
					if err := unix.Rmdir(h + dir); err != nil && err != unix.ENOENT {
						left++
					}
				}
			}
			if left == 0 {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Error("cgroups are left behind")
	})
	start := func(cgroup string, script string) *exec.Cmd {
		t.Helper()
		for _, h := range hierarchies(mount) {
			if filepath.Base(h) != "cpuset" {
				if err := os.MkdirAll(h+cgroup, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		// The shell moves itself, then becomes what it is to be.
		cmd := exec.Command("sh", "-c", `for d in "$0" "$0"/*; do [ "${d##*/}" = cpuset ] || [ ! -e "$d$1/cgroup.procs" ] || echo $$ > "$d$1/cgroup.procs"; done; echo in; exec sh -c "$2"`, mount, cgroup, script)
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	members := func() (n int) {
		for _, dir := range k.dirs(cgroup) {
			_ = walk(dir, deep, func(dir string) error {
				pids, _ := processes(dir)
				n += len(pids)
				return nil
			})
		}
		return n
	}
	other := start(top+"/other", "exec sleep 100")
	start(cgroup, "exec sleep 100")
	start(cgroup+"/a/b", "while :; do (sleep 100 & sleep 100) & sleep 0.01; done")
	start(cgroup+"/a", "while :; do sh -c 'sleep 0.001' & done")
	frozen := start(cgroup+"/a", "exec sleep 100")
	time.Sleep(200 * time.Millisecond)
	freezeChild := false
	for _, dir := range k.dirs(cgroup + "/a") {
		if write(filepath.Join(dir, "freezer.state"), "FROZEN") == nil || write(filepath.Join(dir, "cgroup.freeze"), "1") == nil {
			freezeChild = true
		}
	}
	if !freezeChild {
		t.Error("this host cannot freeze")
	}
	if members() < 5 {
		t.Fatalf("%d processes are in the cgroup", members())
	}
	begun := time.Now()
	for range 200 {
		if seen, err := k.end(cgroup); err != nil {
			t.Fatal(err)
		} else if !seen && members() == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("dead after %s", time.Since(begun).Round(time.Millisecond))
	if n := members(); n > 0 {
		t.Errorf("%d processes live", n)
	}
	_ = frozen.Wait()
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(other.Process.Pid) + "/stat"); err != nil || strings.Contains(string(b), ") Z ") {
		t.Error("a neighbour died too")
	}
	for _, absurd := range []string{"", "/", "//", "/../x"} {
		if dirs := k.dirs(absurd); dirs != nil {
			t.Errorf("%q would end %v", absurd, dirs)
		}
	}
}
