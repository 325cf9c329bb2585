package githost_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/githost"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// host is a built-in server over a mirror of its own.
type host struct {
	*gitsync.Mirror
	url string
}

func serve(t testing.TB, opt githost.Options) host {
	t.Helper()
	m, err := gitsync.Open(t.Context(), gitsync.Options{Dir: filepath.Join(t.TempDir(), "git")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	opt.Repo = m
	s, err := githost.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	return host{m, web.URL + githost.Path}
}

// work is a working directory of the real git client.
type work struct {
	t   testing.TB
	dir string
}

func newWork(t testing.TB) work {
	t.Helper()
	w := work{t, t.TempDir()}
	w.git("init", "-q", "-b", "main")
	return w
}

// try runs git with nothing of the user's configuration.
func (w work) try(args ...string) (string, error) {
	c := exec.Command("git", args...)
	c.Dir = w.dir
	c.Env = append(os.Environ(), "HOME="+w.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	out, err := c.CombinedOutput()
	return string(out), err
}

func (w work) git(args ...string) string {
	w.t.Helper()
	out, err := w.try(args...)
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func (w work) write(files map[string]string) {
	w.t.Helper()
	for name, text := range files {
		p := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

// commit writes files and commits everything; it returns the id.
func (w work) commit(message string, files map[string]string) string {
	w.t.Helper()
	w.write(files)
	w.git("add", "-A")
	w.git("commit", "-q", "--allow-empty", "-m", message)
	return w.git("rev-parse", "HEAD")
}

// TestFeature_G1 pushes with a real client, reads the tree, clones it back and pushes again.
func TestFeature_G1(t *testing.T) {
	var pushed []string
	h := serve(t, githost.Options{Pushed: func(_ context.Context, u []source.RefUpdate, progress io.Writer) {
		pushed = append(pushed, u[0].String())
		fmt.Fprintf(progress, "rendered 1 app\n")
	}})
	w := newWork(t)
	first := w.commit("first", map[string]string{"apps/web/web.cue": "package web\n", "README.md": "# hello\n"})
	if out := w.git("push", h.url, "main"); !strings.Contains(out, "remote: rendered 1 app") {
		t.Errorf("progress is not shown:\n%s", out)
	}
	tree, err := h.Tree(t.Context(), source.ID(first))
	if err != nil {
		t.Fatal(err)
	}
	b, err := tree.ReadFile("apps/web/web.cue")
	if string(b) != "package web\n" || err != nil {
		t.Errorf("ReadFile = %q, %v", b, err)
	}
	e, err := tree.Lookup("apps/web")
	if want := w.git("rev-parse", "HEAD:apps/web"); string(e.ID) != want || err != nil {
		t.Errorf("Lookup(apps/web) = %s, %v, want %s", e.ID, err, want)
	}

	w2 := newWork(t)
	w2.git("clone", "-q", h.url, "copy")
	w2.dir = filepath.Join(w2.dir, "copy")
	if got := w2.git("rev-parse", "HEAD"); got != first {
		t.Errorf("clone is at %s, want %s", got, first)
	}
	second := w2.commit("second", map[string]string{"apps/web/web.cue": "package web // 2\n"})
	w2.git("push", "-q", "origin", "main")
	w.git("pull", "-q", h.url, "main")
	if got := w.git("rev-parse", "HEAD"); got != second {
		t.Errorf("pull came to %s, want %s", got, second)
	}
	want := fmt.Sprintf("refs/heads/main -..%.12s\nrefs/heads/main %.12s..%.12s", first, first, second)
	if got := strings.Join(pushed, "\n"); got != want {
		t.Errorf("Pushed was told\n%s\nwant\n%s", got, want)
	}
	w.dir = h.Dir()
	w.git("fsck", "--strict", "--full")
}
