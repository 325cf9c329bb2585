package logs

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What was set aside goes, of pods that have ended first and the oldest first, until there is room; what is written to, what is
// no log, and what others have stays.
func TestThin(t *testing.T) {
	for _, c := range []struct {
		name   string
		enough int // files removed until there is
		want   string
	}{
		{"room", 0, "dev_live_u1/app/0.log dev_live_u1/app/0.log.20260101-000000.0 dev_live_u1/app/0.log.20260105-000000.0 dev_over_u2/app/1.log dev_over_u2/app/1.log.20260103-000000.0 dev_over_u2/app/1.log.20260104-000000.0 dev_over_u2/note other_pod_u3/app/0.log.20250101-000000.0"},
		{"one", 1, "dev_live_u1/app/0.log dev_live_u1/app/0.log.20260101-000000.0 dev_live_u1/app/0.log.20260105-000000.0 dev_over_u2/app/1.log dev_over_u2/app/1.log.20260104-000000.0 dev_over_u2/note other_pod_u3/app/0.log.20250101-000000.0"},
		{"three", 3, "dev_live_u1/app/0.log dev_live_u1/app/0.log.20260105-000000.0 dev_over_u2/app/1.log dev_over_u2/note other_pod_u3/app/0.log.20250101-000000.0"},
		{"never", 9, "dev_live_u1/app/0.log dev_over_u2/app/1.log dev_over_u2/note other_pod_u3/app/0.log.20250101-000000.0"},
	} {
		root := t.TempDir()
		for _, name := range []string{
			"dev_live_u1/app/0.log", "dev_live_u1/app/0.log.20260101-000000.0", "dev_live_u1/app/0.log.20260105-000000.0",
			"dev_over_u2/app/1.log", "dev_over_u2/app/1.log.20260104-000000.0", "dev_over_u2/app/1.log.20260103-000000.0", "dev_over_u2/note",
			"other_pod_u3/app/0.log.20250101-000000.0",
		} {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		asked := 0
		done, err := Thin(context.Background(), root, map[string]bool{"u1": true, "u2": true}, func(uid string) bool { return uid == "u2" },
			func() bool { asked++; return asked > c.enough })
		if files := min(c.enough, 4); err != nil || done.Files != files || done.Bytes != int64(5*files) {
			t.Errorf("%s: %+v %v", c.name, done, err)
		}
		var left []string
		if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				name, _ := filepath.Rel(root, path)
				left = append(left, name)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(left, " "); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
	if done, err := Thin(context.Background(), "/nowhere", nil, nil, nil); done.Files != 0 || err != nil {
		t.Error(done, err)
	}
}
