package gitsync

import (
	"io/fs"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// upstream is a repository that the real git keeps, with a working directory to commit in.
type upstream struct {
	t   testing.TB
	dir string
}

func newUpstream(t testing.TB) upstream {
	t.Helper()
	u := upstream{t, t.TempDir()}
	u.git("init", "-q", "-b", "main")
	return u
}

func gitEnv(home string) []string {
	return append(os.Environ(), "HOME="+home, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
}

func (u upstream) git(args ...string) string {
	u.t.Helper()
	return u.feed("", args...)
}

// feed runs git with text on its standard input.
func (u upstream) feed(text string, args ...string) string {
	u.t.Helper()
	c := exec.Command("git", args...)
	c.Dir, c.Env, c.Stdin = u.dir, gitEnv(u.dir), strings.NewReader(text)
	out, err := c.CombinedOutput()
	if err != nil {
		u.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files and commits everything; it returns the id.
func (u upstream) commit(message string, files map[string]string) string {
	u.t.Helper()
	for name, text := range files {
		p := filepath.Join(u.dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			u.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			u.t.Fatal(err)
		}
	}
	u.git("add", "-A")
	u.git("commit", "-q", "--allow-empty", "-m", message)
	return u.git("rev-parse", "HEAD")
}

// serve gives the repository out by git's own server over HTTP.
func (u upstream) serve() string {
	u.t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		u.t.Fatal(err)
	}
	s := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + u.dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + u.dir},
	})
	u.t.Cleanup(s.Close)
	return s.URL + "/.git"
}

// open opens a mirror of url in a directory of its own.
func open(t testing.TB, opt Options) *Mirror {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = filepath.Join(t.TempDir(), "git")
	}
	m, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// changes prints what a fetch found, with the names of commits for their ids.
func changes(list []RefChange, err error, names ...string) string {
	var b strings.Builder
	for _, c := range list {
		b.WriteString(c.Ref + " " + orDefault(string(c.Old), "-") + " -> " + orDefault(string(c.New), "-") + " " + c.Relation.String() + "\n")
	}
	if err != nil {
		b.WriteString("error: " + err.Error() + "\n")
	}
	s := b.String()
	for i := 0; i+1 < len(names); i += 2 {
		s = strings.ReplaceAll(s, names[i], names[i+1])
	}
	return s
}

// mapFS is files by path.
func mapFS(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return m
}
