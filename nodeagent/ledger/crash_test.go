package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
)

// TestMain is also the process that is killed in TestFault_L1.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SHOAL_TEST_APPEND"); dir != "" {
		appendUntilKilled(dir)
		return
	}
	if dirs := os.Getenv("SHOAL_TEST_APPEND_ON"); dirs != "" {
		appendOnAll(strings.Split(dirs, ","))
		return
	}
	os.Exit(m.Run())
}

// crashOptions make segments and snapshots small, so that a kill often falls between two steps of either.
func crashOptions(dir string) Options[*toy, string] {
	o := toyOptions(dir)
	o.SegmentSize, o.SnapshotEntries = 64<<10, 40
	return o
}

// appendUntilKilled sets eight names to rising numbers at once, and says of each what was acknowledged.
func appendUntilKilled(dir string) {
	ctx := context.Background()
	l, err := Open(ctx, crashOptions(dir))
	if err != nil {
		fmt.Println("open:", err)
		return
	}
	fmt.Println("open")
	var mu sync.Mutex
	for g := range 8 {
		go func() {
			name := fmt.Sprintf("g%d", g)
			value := l.ref(name)
			for {
				next := fmt.Sprintf("%d.%s", number(value)+1, strings.Repeat("x", 3000))
				o, err := l.Append(ctx, ref(name, value, next))
				mu.Lock()
				fmt.Printf("%s %d %q %v\n", name, number(next), o, err)
				mu.Unlock()
				value = next
			}
		}()
	}
	select {}
}

func number(value string) (n int) {
	fmt.Sscanf(value, "%d.", &n)
	return n
}

func TestFault_L1(t *testing.T) {
	dir := t.TempDir()
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	acked := map[string]int{}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
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
		kill := func() { cmd.Process.Kill() }
		if round%4 == 3 { // mostly while it opens
			time.AfterFunc(time.Duration(random.IntN(200))*time.Millisecond, kill)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			line := lines.Text()
			name, rest, _ := strings.Cut(line, " ")
			switch {
			case line == "open":
				time.AfterFunc(time.Duration(50+random.IntN(450))*time.Millisecond, kill)
			case strings.HasPrefix(line, "g") && strings.HasSuffix(rest, ` "" <nil>`):
				acked[name] = max(acked[name], number(strings.Replace(rest, " ", ".", 1)))
			case strings.Count(line, " ") >= 3:
				t.Fatalf("round %d: %s", round, line)
			}
		}
		cmd.Wait() // "signal: killed"
	}
	l := openToy(t, crashOptions(dir))
	total := 0
	for name, n := range acked {
		total += n
		if got := number(l.ref(name)); got < n || got > n+rounds {
			t.Errorf("%s is %d, %d was acknowledged", name, got, n)
		}
	}
	if total < rounds {
		t.Errorf("only %d entries were appended: nothing was tried", total)
	}
	want, applied := dump(l), l.Applied()
	t.Logf("%d acknowledged, %d entries", total, applied)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l := openToy(t, crashOptions(dir)); dump(l) != want || l.Applied() != applied {
		t.Error("a replay gives another state")
	}
}

// fill makes a ledger with n entries in dir and returns what it says.
func fill(t *testing.T, o Options[*toy, string], n int) string {
	t.Helper()
	l := openToy(t, o)
	for i := range n {
		mustAppend(t, l, ref("a", l.ref("a"), fmt.Sprintf("%d.%s", i+1, strings.Repeat("y", 100))))
	}
	want := dump(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

// tailFile is the segment that was written last, with its bytes.
func tailFile(t *testing.T, dir string) (string, []byte) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.wal"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	path := segments[len(segments)-1]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// batches are the places where a batch ends, in a segment's bytes.
func batches(b []byte) []int {
	var ends []int
	for end := scanTail(b).good; end > 0; {
		ends = append([]int{end}, ends...)
		cut := bytes.Clone(b[:end-frameHead])
		end = scanTail(append(cut, make([]byte, frameHead)...)).good
	}
	return ends
}

// TestFault_L2_TornTail cuts the last batch off at every place, and leaves noise of a write that never was.
func TestFault_L2_TornTail(t *testing.T) {
	origin := t.TempDir()
	fill(t, toyOptions(origin), 20)
	path, b := tailFile(t, origin)
	ends := batches(b)
	last, before := ends[len(ends)-1], ends[len(ends)-2]
	tries := map[string][]byte{"nothing": nil, "noise at the end": []byte("\x01\x00\x00\x00\x10\x00\x00\x00half an entry")}
	for cut := before + 8; cut < last; cut += 40 {
		tries[fmt.Sprintf("cut at %d of %d", cut-before, last-before)] = b[before:cut]
	}
	for name, torn := range tries {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
				t.Fatal(err)
			}
			bytes := append(append(make([]byte, 0, len(b)), b[:before]...), torn...)
			write(t, filepath.Join(dir, "log", filepath.Base(path)), append(bytes, make([]byte, len(b)-len(bytes))...))
			var log logs
			o := toyOptions(dir)
			o.Log = log.logger()
			l := openToy(t, o)
			if n := number(l.ref("a")); n != 20 { // the last batch was raft's own entry of an election, or the 20th
				if n != 19 {
					t.Errorf("a is %d", n)
				}
			}
			if said := strings.Contains(log.String(), "torn by a crash"); said != (torn != nil) {
				t.Errorf("torn tail reported: %t\n%s", said, log.String())
			}
			mustAppend(t, l, ref("b", "", "1"))
			want := dump(l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l := openToy(t, toyOptions(dir)); dump(l) != want {
				t.Errorf("after the next restart %s, want %s", dump(l), want)
			}
		})
	}
}

// TestFault_L7_Log flips one bit anywhere in the log: the ledger says so and gives no other state than the true
// one; with Cut it goes on with what stands before the damage.
func TestFault_L7_Log(t *testing.T) {
	origin := t.TempDir()
	want := fill(t, toyOptions(origin), 12)
	path, b := tailFile(t, origin)
	ends := batches(b)
	lastButOne := ends[len(ends)-2]
	flips := []int{0, 8, 9, segmentHead, segmentHead + 4}
	for at := segmentHead + 8; at < lastButOne; at += 131 {
		flips = append(flips, at)
	}
	padding := 0
	defer func() {
		if padding > len(flips)/4 {
			t.Errorf("%d of %d flipped bits were not seen", padding, len(flips))
		}
	}()
	for _, at := range flips {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
				t.Fatal(err)
			}
			bad := bytes.Clone(b)
			bad[at] ^= 0x10
			file := filepath.Join(dir, "log", filepath.Base(path))
			write(t, file, bad)
			l, err := Open(t.Context(), toyOptions(dir))
			if err == nil {
				defer l.Close()
				if got := dump(l); got != want {
					t.Fatalf("opened with a flipped bit: %s", got)
				}
				padding++ // the bytes that fill an entry up to eight mean nothing
				return
			}
			damaged, ok := errors.AsType[*DamagedError](err)
			if !ok || strings.Contains(err.Error(), "shoal recover --cut") != (damaged.After > 0) {
				t.Fatalf("error %v", err)
			}
			if now, _ := os.ReadFile(file); !bytes.Equal(now, bad) {
				t.Error("the damaged file was changed")
			}
			o := toyOptions(dir)
			o.Cut = true
			if damaged.After == 0 {
				if _, err := Open(t.Context(), o); !isDamaged(err) {
					t.Errorf("a log of which nothing is left: %v", err)
				}
				return
			}
			l = openToy(t, o)
			if n := number(l.ref("a")); n >= 12 || dump(l) == want {
				t.Errorf("after the cut, behind %d: %s", damaged.After, dump(l))
			}
			cutAlone(t, origin, filepath.Base(path), bad, damaged, l.ref("a"))
			kept, err := os.ReadFile(filepath.Join(dir, "quarantine", "log-0", filepath.Base(path)))
			if err != nil || !bytes.Equal(kept, bad) {
				t.Errorf("the damaged log was not kept: %v", err)
			}
			mustAppend(t, l, ref("b", l.ref("b"), "1"))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			openToy(t, toyOptions(dir))
		})
	}
}

// cutAlone does with Cut what an Open with Options.Cut did, and compares what is left.
func cutAlone(t *testing.T, origin, file string, bad []byte, damaged *DamagedError, want string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "log", file), bad)
	damage, last, err := Cut(dir, nil)
	if err != nil || damage == nil || damage.After != damaged.After || last != damaged.After {
		t.Fatalf("cut: %v, the last entry is %d, want %d; %v", damage, last, damaged.After, err)
	}
	if damage, _, err := Cut(dir, nil); damage != nil || err != nil {
		t.Errorf("a second cut: %v, %v", damage, err)
	}
	l := openToy(t, toyOptions(dir))
	defer l.Close()
	if got := l.ref("a"); got != want {
		t.Errorf("after Cut a is %q, want %q", got, want)
	}
}

// TestCutOfNothing shows that Cut makes no ledger where there is none.
func TestCutOfNothing(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Cut(dir, nil); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it made %v", left)
	}
}

// TestFault_L7_Meta flips bits in the list of segments: one copy is enough, none is an error.
func TestFault_L7_Meta(t *testing.T) {
	dir := t.TempDir()
	want := fill(t, toyOptions(dir), 5)
	path := filepath.Join(dir, "log", "meta")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for slot := range 4 {
		bad := bytes.Clone(good)
		bad[slot*metaSlot+30] ^= 1
		write(t, path, bad)
		l := openToy(t, toyOptions(dir))
		if dump(l) != want {
			t.Errorf("slot %d: %s", slot, dump(l))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if good, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	bad := bytes.Clone(good)
	for slot := range 4 {
		bad[slot*metaSlot+30] ^= 1
	}
	for name, b := range map[string][]byte{"all copies": bad, "cut short": good[:10], "empty": nil} {
		write(t, path, b)
		if _, err := Open(t.Context(), toyOptions(dir)); !isDamaged(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), toyOptions(dir)); !isDamaged(err) {
		t.Errorf("gone: %v", err)
	}
	write(t, path, good)
	if l := openToy(t, toyOptions(dir)); dump(l) != want {
		t.Errorf("restored: %s", dump(l))
	}
}

func isDamaged(err error) bool {
	_, ok := errors.AsType[*DamagedError](err)
	return ok
}

// TestFault_L7_Snapshot damages the newest snapshot: the one before it and the log behind that make up for it.
func TestFault_L7_Snapshot(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"flipped bit": func(t *testing.T, dir string) {
			path := filepath.Join(dir, "state.bin")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 4
			write(t, path, b)
		},
		"empty":   func(t *testing.T, dir string) { write(t, filepath.Join(dir, "state.bin"), nil) },
		"no meta": func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "meta.json")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := toyOptions(dir)
			l := openToy(t, o)
			for n := range 30 {
				mustAppend(t, l, ref("a", l.ref("a"), fmt.Sprint(n)))
				if n%10 == 9 {
					if err := l.Snapshot(); err != nil {
						t.Fatal(err)
					}
				}
			}
			want := dump(l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, newest(t, dir))
			var log logs
			o = toyOptions(dir)
			o.Log = log.logger()
			l = openToy(t, o)
			if dump(l) != want {
				t.Errorf("%s, want %s", dump(l), want)
			}
			if !strings.Contains(log.String(), "snapshot is damaged, quarantined") {
				t.Errorf("log: %s", log.String())
			}
			if _, err := os.Stat(filepath.Join(dir, "quarantine", "snapshot-0")); err != nil {
				t.Error(err)
			}
		})
	}
}

// newest is the directory of the newest snapshot.
func newest(t *testing.T, dir string) string {
	t.Helper()
	d, err := openDisk(diskOptions{dir: dir, segment: 8 << 20, log: toyOptions("").WithDefaults().Log})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if len(d.snaps.listed) != keepSnapshots {
		t.Fatalf("%d snapshots", len(d.snaps.listed))
	}
	return filepath.Join(dir, "snapshots", d.snaps.listed[0].ID)
}

// A crash between the seal of a segment and the list that tells of it left raft-wal with a segment that takes no
// entries; the seal is undone.
func TestSealThatIsNotListed(t *testing.T) {
	dir := t.TempDir()
	o := toyOptions(dir)
	o.SegmentSize = 64 << 10
	l := openToy(t, o)
	meta := filepath.Join(dir, "log", "meta")
	before, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := tailFile(t, dir)
	for n := 0; ; n++ {
		mustAppend(t, l, ref("a", l.ref("a"), fmt.Sprintf("%d.%s", n, strings.Repeat("z", 5000))))
		if now, _ := tailFile(t, dir); now != first {
			break
		}
	}
	n := number(l.ref("a"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, meta, before)
	o = toyOptions(dir)
	o.SegmentSize = 64 << 10
	l = openToy(t, o)
	if got := number(l.ref("a")); got < n-1 {
		t.Errorf("a is %d, was %d", got, n)
	}
	mustAppend(t, l, ref("b", "", "1"))
}

func TestFault_L8_WithoutGenesisNothingBegins(t *testing.T) {
	o := toyOptions(t.TempDir())
	o.Genesis = nil
	l := openToy(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := l.Append(ctx, ref("a", "", "1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("append to a ledger that nobody began: %v", err)
	}
}

func TestStalledEntryWaits(t *testing.T) {
	o := toyOptions(t.TempDir())
	var mu sync.Mutex
	missing := true
	o.Machine.Step = func(s *toy, e cluster.Entry, c desired.Content) string {
		mu.Lock()
		defer mu.Unlock()
		if e.Input.Push != nil && e.Input.Push.Refs[0].Name == "needs" && missing {
			return "stalled: no blob"
		}
		return stepToy(s, e, c)
	}
	var log logs
	o.Log = log.logger()
	l := openToy(t, o)
	var order []string
	var wg sync.WaitGroup
	for _, name := range []string{"needs", "after"} {
		wg.Go(func() {
			mustAppend(t, l, ref(name, "", "1"))
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
		})
		for l.seqNow() < map[string]uint64{"needs": 2, "after": 3}[name] {
			time.Sleep(time.Millisecond)
		}
	}
	for l.Stalled() == "" {
		time.Sleep(time.Millisecond)
	}
	if got := l.Applied(); got != 1 {
		t.Errorf("applied %d behind a stalled entry", got)
	}
	mu.Lock()
	missing = false
	mu.Unlock()
	wg.Wait()
	if l.Applied() != 3 || l.Stalled() != "" || strings.Count(log.String(), "cannot be stepped here") != 1 {
		t.Errorf("applied %d, stalled %q\n%s", l.Applied(), l.Stalled(), log.String())
	}
}

func (l *Ledger[S, O]) seqNow() uint64 {
	l.outbox.mu.Lock()
	defer l.outbox.mu.Unlock()
	return l.outbox.seq
}

func TestLastRunDiedWhileStepping(t *testing.T) {
	dir := t.TempDir()
	fill(t, toyOptions(dir), 3)
	write(t, filepath.Join(dir, "stepping"), binary.LittleEndian.AppendUint64(nil, 4))
	var log logs
	o := toyOptions(dir)
	o.Log = log.logger()
	l := openToy(t, o)
	if !strings.Contains(log.String(), "index=4") {
		t.Errorf("log: %s", log.String())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	openToy(t, o)
	if strings.Count(log.String(), "index=4") != 1 {
		t.Errorf("said twice: %s", log.String())
	}
}
