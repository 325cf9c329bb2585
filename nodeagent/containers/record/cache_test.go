package record

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), StateFile)
	var c Cache[State]
	read := func(want State, wantErr error) {
		t.Helper()
		for range 2 {
			if got, err := c.Read(path); got != want || !errors.Is(err, wantErr) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, want, wantErr)
			}
		}
	}
	read(State{}, os.ErrNotExist)
	for n := int64(1); n < 200; n++ { // of equal size, within one tick of the clock
		s := State{Started: 100 + n%7}
		if err := Write(path, s); err != nil {
			t.Fatal(err)
		}
		read(s, nil)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	read(State{}, os.ErrNotExist)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Read(path); err == nil || got != (State{}) {
		t.Errorf("half a record: %+v, %v", got, err)
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	var c Names
	for n := range 100 { // many in one tick of the clock
		if err := os.Mkdir(filepath.Join(dir, InstanceDir("c", n)), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(dir); len(got) != n+1 || err != nil {
			t.Fatalf("%d names of %d, %v", len(got), n+1, err)
		}
	}
	time.Sleep(2 * coarse)
	for range 3 {
		if got, err := c.Read(dir); len(got) != 100 || err != nil {
			t.Fatalf("%d names, %v", len(got), err)
		}
	}
	if err := os.Remove(filepath.Join(dir, InstanceDir("c", 0))); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Read(dir); len(got) != 99 || err != nil {
		t.Fatalf("%d names, %v", len(got), err)
	}
	if _, err := c.Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
