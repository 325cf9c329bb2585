package ledger

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

// What a new leader has a follower drop from the end of its log, again and again, and over segments, leaves a log that
// opens and holds the rest.
func TestEndOfLogDropped(t *testing.T) {
	dir := t.TempDir()
	open := func() *disk {
		d, err := openDisk(diskOptions{dir: dir, segment: 64 << 10, log: toyOptions("").WithDefaults().Log})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := map[uint64]string{}
	store := func(d *disk, from, to uint64, what string) {
		t.Helper()
		for i := from; i <= to; i++ {
			want[i] = fmt.Sprintf("%d %s", i, what)
			if err := d.StoreLog(&raft.Log{Index: i, Term: 1, Data: append([]byte(want[i]), make([]byte, 3000)...)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	drop := func(d *disk, from, to uint64) {
		t.Helper()
		if err := d.DeleteRange(from, to); err != nil {
			t.Fatal(err)
		}
		for i := from; i <= to; i++ {
			delete(want, i)
		}
	}
	check := func(d *disk) {
		t.Helper()
		last, err := d.LastIndex()
		if err != nil || int(last) != len(want) {
			t.Fatalf("last entry %d, %v, want %d", last, err, len(want))
		}
		for i, text := range want {
			var l raft.Log
			if err := d.GetLog(i, &l); err != nil || string(l.Data[:len(text)]) != text {
				t.Fatalf("entry %d: %.20q, %v, want %q", i, l.Data, err, text)
			}
		}
	}
	d := open()
	for round, step := range []func(){
		func() { store(d, 1, 10, "a") },
		func() { drop(d, 8, 10); store(d, 8, 9, "b") },
		func() { drop(d, 9, 9); store(d, 9, 9, "c"); drop(d, 9, 9); store(d, 9, 9, "d") },
		func() { store(d, 10, 80, "e"); drop(d, 12, 80) }, // over segments
		func() { store(d, 12, 60, "f"); drop(d, 59, 60) },
		func() { drop(d, 2, 58) },
		func() { store(d, 2, 40, "g") },
	} {
		step()
		check(d)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = open()
		check(d)
		if t.Failed() {
			t.Fatalf("after step %d", round)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
