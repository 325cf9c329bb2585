//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// deafForge is a host of Git whose answers to pushes can get lost: what was pushed is there, and nobody hears of it.
type deafForge struct {
	bare string
	lose atomic.Int32 // so many answers
	lost atomic.Int32
}

func newDeafForge(t testing.TB, n *Node) *deafForge {
	root := t.TempDir()
	f := &deafForge{bare: filepath.Join(root, "shop.git")}
	n.must("git", "init", "-q", "--bare", "-b", "main", f.bare)
	n.must("git", "-C", f.bare, "config", "http.receivepack", "true")
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	git := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"},
	}
	var l net.Listener
	if err := n.within(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:3000")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/git-receive-pack") || f.lose.Add(-1) < 0 {
			git.ServeHTTP(w, r)
			return
		}
		git.ServeHTTP(httptest.NewRecorder(), r)
		f.lost.Add(1)
		panic(http.ErrAbortHandler) // the connection is closed without an answer
	})}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("forge: %v", err)
		}
	}()
	t.Cleanup(func() { _ = server.Close() })
	return f
}

// The answer to the push of a promotion gets lost, and to that of a rollback. Each is one commit on the branch, whether it is asked for again
// or not, and what comes later goes on from it.
func TestFault_G20_AnswerOfAPushLost(t *testing.T) {
	n := NewNode(t)
	forge := newDeafForge(t, n)
	n.Args = append(n.Args, "--repository", "http://127.0.0.1:3000/shop.git", "--poll", "300ms")
	n.Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"shoal.cue": strings.Replace(pipeline, `gates: soak: "2s"`, `gates: health: false`, 1), "apps/web/web.cue": stagedApp("one")})
	repo.git("remote", "set-url", "origin", forge.bare)
	length := func(want int) {
		t.Helper()
		n.Eventually(soon, func() error {
			if got := repo.lengthOf("env/staging"); got != want {
				return fmt.Errorf("env/staging has %d commits, want %d:\n%s", got, want, repo.git("log", "--oneline", "--first-parent", "origin/env/staging"))
			}
			return nil
		})
	}
	push := func(greeting string) {
		t.Helper()
		repo.Write("apps/web/web.cue", stagedApp(greeting))
		repo.Push(greeting)
		n.Eventually(soon, n.greetsIn("dev", greeting))
	}
	push("one")
	n.shoal(0, "promote", "staging")
	n.Eventually(soon, n.greetsIn("staging", "one"))
	first := repo.lengthOf("env/staging")

	push("two")
	forge.lose.Store(1)
	n.Shoal("promote", "staging", "--by", "rita")
	n.Eventually(soon, n.greetsIn("staging", "two"))
	length(first + 1)
	said, _, _ := n.Shoal("promote", "staging", "--by", "rita") // whoever heard nothing asks again
	length(first + 1)
	if !strings.Contains(said, "staging runs that already") {
		t.Errorf("asked again: %s", said)
	}

	forge.lose.Store(3)
	n.Shoal("rollback", "staging", "--reason", "two is slow", "--by", "rita")
	n.Eventually(soon, n.greetsIn("staging", "one"))
	length(first + 2)
	if forge.lost.Load() == 0 {
		t.Error("no answer was lost")
	}
	forge.lose.Store(0)
	push("three")
	n.shoal(0, "promote", "staging", "--wait")
	n.Eventually(soon, n.greetsIn("staging", "three"))
	length(first + 3)
}
