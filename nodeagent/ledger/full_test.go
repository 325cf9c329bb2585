package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// onSmallDisk calls f with an empty file system of the given size, in a process with mounts of its own, so that
// nothing stays mounted whatever happens.
func onSmallDisk(t *testing.T, size string, f func(t *testing.T, dir string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv("SHOAL_TEST_MOUNTS") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), "SHOAL_TEST_MOUNTS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Fatalf("in a mount namespace: %v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+size); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	f(t, dir)
}

func TestFault_L4(t *testing.T) { onSmallDisk(t, "12m", appendOnAFullDisk) }

func appendOnAFullDisk(t *testing.T, mount string) {
	dir := filepath.Join(mount, "ledger")
	small := func() Options[*toy, string] {
		o := toyOptions(dir)
		o.SegmentSize = 64 << 10
		return o
	}
	l := openToy(t, small())
	mustAppend(t, l, ref("a", "", "0."))
	filler := filepath.Join(mount, "filler")
	fillUp(t, filler)
	last := 0
	var err error
	for n := 1; n < 1000; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var o string
		o, err = l.Append(ctx, ref("a", l.ref("a"), fmt.Sprintf("%d.%s", n, strings.Repeat("f", 2000))))
		cancel()
		if err != nil {
			break
		}
		if o != "" {
			t.Fatalf("entry %d: %s", n, o)
		}
		last = n
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("on a full disk, after %d entries: %v", last, err)
	}
	if !errors.Is(l.Err(), ErrFull) || number(l.ref("a")) != last {
		t.Errorf("a is %d, %d was acknowledged; ledger says %v", number(l.ref("a")), last, l.Err())
	}
	if last < 25 { // of 4 kB each
		t.Errorf("%d entries fit on a full disk, want the rest of a segment and the spare one", last)
	}
	if err := l.Snapshot(); err != nil {
		t.Errorf("snapshot on a full disk: %v", err)
	}
	time.Sleep(2 * time.Second) // raft tries again and again
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for l.Err() != nil && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if o, err := l.Append(ctx, ref("b", "", "there is room")); err != nil || o != "" {
		t.Fatalf("with room again: %q, %v", o, err)
	}
	want := dump(l)
	if number(l.ref("a")) != last {
		t.Errorf("a is %d, %d was acknowledged", number(l.ref("a")), last)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	fillUp(t, filler) // what is there opens on a full disk too
	l = openToy(t, small())
	if dump(l) != want {
		t.Errorf("after a restart %.100s, want %.100s", dump(l), want)
	}
}

func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFault_L5 lets an fsync fail once. That ends the log: nothing is acknowledged any more, although the disk would
// take it, until the ledger is opened anew; what is known can still be read.
func TestFault_L5(t *testing.T) {
	dir := t.TempDir()
	l := openToy(t, toyOptions(dir))
	mustAppend(t, l, ref("a", "", "1"))
	var calls atomic.Int32
	l.disk.mu.Lock()
	l.disk.files.sync = func(*os.File) error {
		calls.Add(1)
		return syscall.EIO
	}
	l.disk.mu.Unlock()
	for range 3 {
		_, err := l.Append(t.Context(), ref("a", "1", "2"))
		if failed, ok := errors.AsType[*FailedError](err); !ok || !errors.Is(failed, syscall.EIO) {
			t.Fatalf("append: %v", err)
		}
	}
	time.Sleep(time.Second)
	if n := calls.Load(); n != 1 {
		t.Errorf("%d fsyncs were tried, want one", n)
	}
	if l.ref("a") != "1" || l.Err() == nil || l.Leading() {
		t.Errorf("a=%s, err %v, leading %t", l.ref("a"), l.Err(), l.Leading())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openToy(t, toyOptions(dir)) // the entry that was not acknowledged may be there
	if a := l.ref("a"); a != "1" && a != "2" {
		t.Errorf("a=%s", a)
	}
	mustAppend(t, l, ref("b", "", "1"))
}

// TestFault_L5_Meta lets the list of segments fail, which raft answers with a panic where it saves its term.
func TestFault_L5_Meta(t *testing.T) {
	l := openToy(t, toyOptions(t.TempDir()))
	mustAppend(t, l, ref("a", "", "1"))
	l.disk.meta.mu.Lock()
	good := l.disk.meta.f
	bad, err := os.Open(good.Name()) // for reading only
	if err != nil {
		t.Fatal(err)
	}
	l.disk.meta.f = bad
	l.disk.meta.mu.Unlock()
	defer good.Close()
	ended := make(chan struct{})
	go func() { // as raft's own goroutines would
		defer close(ended)
		err := l.disk.SetUint64([]byte("CurrentTerm"), 9)
		t.Errorf("returned to raft: %v", err)
	}()
	<-ended
	if _, err := l.Append(t.Context(), ref("a", "1", "2")); !errors.As(err, new(*FailedError)) {
		t.Errorf("append: %v", err)
	}
	if l.ref("a") != "1" {
		t.Errorf("a=%s", l.ref("a"))
	}
}

// TestFault_L5_Read damages an entry under a running ledger, and lets raft read it.
func TestFault_L5_Read(t *testing.T) {
	dir := t.TempDir()
	l := openToy(t, toyOptions(dir))
	mustAppend(t, l, ref("a", "", "1"))
	path, b := tailFile(t, dir)
	at := bytes.Index(b, []byte(`"new":"1"`))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(`"new":"3"`), int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	last, err := l.disk.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // as raft's own goroutines would
		defer close(ended)
		var entry raft.Log
		_ = l.disk.GetLog(last, &entry)
		t.Error("a damaged entry was returned")
	}()
	<-ended
	if _, err := l.Append(t.Context(), ref("a", "1", "2")); !errors.As(err, new(*FailedError)) {
		t.Errorf("append: %v", err)
	}
	if l.ref("a") != "1" {
		t.Errorf("a=%s", l.ref("a"))
	}
}
