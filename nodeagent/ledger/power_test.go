package ledger

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A powered disk is an ext4 of its own in a file, which the power can be cut from: the kernel drops all that it has not written,
// without a last flush of the journal, and refuses everything from then on (FS_IOC_SHUTDOWN, as file systems are tested
// with). What comes back is what the journal says. Nothing that was not synced is written by chance: there is no
// flush of the journal by the clock, and none because a file replaces another.
type powered struct {
	t    *testing.T
	file string
	at   string
}

func newPowered(t *testing.T) *powered {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	d := &powered{t: t, file: filepath.Join(dir, "disk"), at: filepath.Join(dir, "mnt")}
	f, err := os.Create(d.file)
	if err == nil {
		err = f.Truncate(96 << 20)
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Mkdir(d.at, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.command("mkfs.ext4", "-q", "-F", d.file)
	t.Cleanup(func() {
		for unix.Unmount(d.at, unix.MNT_DETACH) == nil {
		}
	})
	d.mount()
	return d
}

func (d *powered) command(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.CommandContext(d.t.Context(), name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (d *powered) mount() {
	d.t.Helper()
	d.command("mount", "-t", "ext4", "-o", "loop,commit=300,noauto_da_alloc", d.file, d.at)
}

// cut is the power loss.
func (d *powered) cut() {
	const (
		fsIocShutdown = 0x8004587d
		noLogFlush    = 2
	)
	f, err := os.Open(d.at)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), fsIocShutdown, noLogFlush); err != nil {
		d.t.Error("cut the power:", err)
	}
}

// mend mounts a copy of what the disk holds: the old mount may live on for a while in another mount namespace.
func (d *powered) mend() {
	d.t.Helper()
	if err := unix.Unmount(d.at, unix.MNT_DETACH); err != nil {
		d.t.Fatal("unmount:", err)
	}
	d.command("cp", "--sparse=always", d.file, d.file+".copy")
	if err := os.Rename(d.file+".copy", d.file); err != nil {
		d.t.Fatal(err)
	}
	d.mount()
}

// TestFault_L2_PowerLoss cuts the power at random instants while entries are appended, segments begun, snapshots taken
// and logs cut: what was acknowledged is there each time, and the log opens.
func TestFault_L2_PowerLoss(t *testing.T) {
	d := newPowered(t)
	d.check()
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	dir := filepath.Join(d.at, "ledger")
	acked := map[string]int{}
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "SHOAL_TEST_APPEND="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// ext4 that is shut down lets some fsyncs succeed whose data it drops (1 in 60 of a bare write and fsync): what
		// is acknowledged from here on does not count.
		var cutting atomic.Bool
		cut := func() {
			cutting.Store(true)
			d.cut()
			time.Sleep(50 * time.Millisecond)
			cmd.Process.Kill()
		}
		var done chan struct{}
		when := func(most int) {
			wait := time.Duration(random.IntN(most)) * time.Millisecond
			over := make(chan struct{})
			done = over
			time.AfterFunc(wait, func() { cut(); close(over) })
		}
		if round%4 == 3 { // mostly while it opens
			when(200)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			line := lines.Text()
			name, rest, _ := strings.Cut(line, " ")
			switch {
			case line == "open" && round%4 != 3:
				when(700)
			case strings.HasPrefix(line, "g") && strings.HasSuffix(rest, ` "" <nil>`) && !cutting.Load():
				acked[name] = max(acked[name], number(strings.Replace(rest, " ", ".", 1)))
			}
		}
		if done == nil {
			t.Fatalf("round %d: the ledger did not open", round)
		}
		<-done
		cmd.Wait() // "signal: killed"
		d.mend()
		l := openToy(t, crashOptions(dir))
		for name, n := range acked {
			if got := number(l.ref(name)); got < n {
				t.Errorf("round %d: %s is %d, %d was acknowledged", round, name, got, n)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for _, n := range acked {
		total += n
	}
	if total < rounds {
		t.Errorf("only %d entries were appended: nothing was tried", total)
	}
	t.Logf("%d power losses, %d entries acknowledged", rounds, total)
}

// check sees that the power can be cut here: what was synced is there afterwards, what was not is gone.
func (d *powered) check() {
	d.t.Helper()
	write := func(name string, sync bool) {
		d.t.Helper()
		f, err := os.Create(filepath.Join(d.at, name))
		if err == nil {
			_, err = f.Write(bytes.Repeat([]byte("x"), 10_000))
		}
		if err == nil && sync {
			err = f.Sync()
		}
		if err != nil {
			d.t.Fatal(err)
		}
		f.Close()
	}
	write("synced", true)
	write("renamed", true)
	write("lost", false)
	if err := os.Rename(filepath.Join(d.at, "renamed"), filepath.Join(d.at, "other")); err != nil {
		d.t.Fatal(err)
	}
	d.cut()
	d.mend()
	var got []string
	for _, name := range []string{"synced", "renamed", "lost", "other"} {
		b, err := os.ReadFile(filepath.Join(d.at, name))
		got = append(got, fmt.Sprint(name, " ", len(b), " ", err == nil))
	}
	if s := strings.Join(got, ", "); s != "synced 10000 true, renamed 10000 true, lost 0 false, other 0 false" {
		d.t.Fatalf("the power cannot be cut here: %s", s)
	}
}
