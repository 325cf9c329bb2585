package source

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestFromFSGivesGitsIDs compares with the real git.
func TestFromFSGivesGitsIDs(t *testing.T) {
	dir := t.TempDir()
	for name, body := range map[string]string{
		"README.md": "# hello\n", "apps/web/web.cue": "package web\n", "apps/web-2/x.yaml": "a: 1\n", "apps/web.cue": "1",
		"empty": "", "a/b/c/d": strings.Repeat("x", 100_000), "bin/run": "#!/bin/sh\n", "node_modules/x": "left out",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(dir, "bin/run"), 0o755),
		os.Symlink("../README.md", filepath.Join(dir, "apps/link")),
		os.Mkdir(filepath.Join(dir, "nothing"), 0o755),
		os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("node_modules\n"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) string {
		c := exec.Command("git", args...)
		c.Dir = dir
		c.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	git("add", "-A")
	want := git("write-tree")
	tree, err := FromFS(os.DirFS(dir), FSOptions{Ignore: func(p string, dir bool) bool { return p == "node_modules" && dir }})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := tree.Lookup("."); string(e.ID) != want || err != nil {
		t.Errorf("Lookup(.) = %s, %v, git says %s", e.ID, err, want)
	}
	for _, p := range []string{"apps/web", "apps/web/web.cue", "apps/web.cue", "bin/run", "apps/link", "empty"} {
		want := git("rev-parse", want+":"+p)
		if e, err := tree.Lookup(p); string(e.ID) != want || err != nil {
			t.Errorf("Lookup(%s) = %s, %v, git says %s", p, e.ID, err, want)
		}
	}
	list, err := tree.ReadDir("apps")
	var names []string
	for _, e := range list {
		names = append(names, e.Name+" "+e.Mode.String())
	}
	if got, want := strings.Join(names, ", "), "link Lrwxrwxrwx, web drwxr-xr-x, web-2 drwxr-xr-x, web.cue -rw-r--r--"; got != want || err != nil {
		t.Errorf("ReadDir(apps) = %s, %v, want %s", got, err, want)
	}
	for p, want := range map[string]string{
		"nothing":   "lookup nothing: file does not exist",
		"../x":      "lookup ../x: invalid argument",
		"/apps":     "lookup /apps: invalid argument",
		"empty/x":   "lookup empty/x: file does not exist",
		"apps/web/": "lookup apps/web/: invalid argument",
	} {
		if _, err := tree.Lookup(p); text(err) != want {
			t.Errorf("Lookup(%s): %v, want %s", p, err, want)
		}
	}
}

func TestFromFSLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		fsys   fs.FS
		limits Limits
		want   string
	}{
		{"file", fstest.MapFS{"a/big": {Data: make([]byte, 101)}}, Limits{File: 100}, "a/big: more than 100 bytes"},
		{"bytes", fstest.MapFS{"a": {Data: make([]byte, 60)}, "b": {Data: make([]byte, 60)}}, Limits{Bytes: 100}, "b: more than 100 bytes in all files"},
		{"files", fstest.MapFS{"a": {}, "b": {}, "c": {}}, Limits{Files: 2}, "c: more than 2 files in the directory"},
		{"depth", fstest.MapFS{"a/b/c/d": {}}, Limits{Depth: 3}, "a/b/c: more than 3 directories deep"},
		{"fifo", fstest.MapFS{"a/pipe": {Mode: fs.ModeNamedPipe}}, Limits{}, "a/pipe: is neither a file, a directory nor a symbolic link"},
		{"link", fstest.MapFS{"a/l": {Data: []byte("../../x"), Mode: fs.ModeSymlink}}, Limits{}, `a/l: a symbolic link to "../../x", which leaves the repository`},
		{"nested .git", fstest.MapFS{"a/.git/config": {}, "a/x": {}}, Limits{}, ""},
	} {
		_, err := FromFS(c.fsys, FSOptions{Limits: c.limits})
		if text(err) != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func BenchmarkFromFS(b *testing.B) {
	fsys := fstest.MapFS{}
	for i := range 1000 {
		fsys["apps/"+strings.Repeat("a", i%7+1)+string(rune('a'+i%26))+"/"+strings.Repeat("b", i/26+1)] = &fstest.MapFile{Data: make([]byte, 500)}
	}
	for b.Loop() {
		if _, err := FromFS(fsys, FSOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
