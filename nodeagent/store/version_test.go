package store

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// contents are the files below a directory but for its lock, which says who looked last.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A binary that is older than the data says so and changes nothing: not the count of boots, nor what a crash left. The binary
// that the data is of goes on with it.
func TestFault_U3_DataOfANewerBinary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	first := openDir(t, path)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"VERSION": "2\n", ".node.key.tmp-1": "left by a crash", "unknown": "of the newer one"} {
		if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := contents(t, path)
	_, err := Open(path, nil)
	if want := filepath.Join(path, "VERSION") + `: format "2", this shoal reads "1"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if after := contents(t, path); !maps.Equal(before, after) {
		t.Errorf("files before: %q, after: %q", before, after)
	}
	if err := os.WriteFile(filepath.Join(path, "VERSION"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := openDir(t, path); again.Node.ID != first.Node.ID || again.Boot.Count != 2 {
		t.Errorf("node %s, boot %d", again.Node.ID, again.Boot.Count)
	}
}
