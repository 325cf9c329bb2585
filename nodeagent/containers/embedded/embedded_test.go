package embedded

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestUnpack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Unpack(dir, "absent"); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{Shim, Runc} {
		path, err := Unpack(dir, name)
		if errors.Is(err, ErrMissing) {
			continue // a clone that was not built yet
		}
		if err != nil {
			t.Fatal(err)
		}
		before, _ := os.Stat(path)
		if again, err := Unpack(dir, name); again != path || err != nil {
			t.Errorf("again: %s, %v", again, err)
		}
		if after, _ := os.Stat(path); !os.SameFile(before, after) || after.Mode().Perm() != 0o755 {
			t.Errorf("%s was written again, or has mode %v", name, after.Mode())
		}
	}
}

func TestUnpackTo(t *testing.T) {
	want := bytes.Repeat([]byte("program "), 100_000)
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := z.EncodeAll(want, nil)
	path := filepath.Join(t.TempDir(), "p")
	if err := unpackTo(path, packed[:len(packed)/2]); err == nil {
		t.Error("half a program was unpacked")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := unpackTo(path, packed); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
