//go:build e2e && gitea

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// giteaItself is Gitea as it is released, on a node. It is built of the module code.gitea.io/gitea@v1.25.0, which takes a C compiler and a
// gigabyte of modules; that is why this test has a tag of its own, and the others do with a server that speaks its API. In a copy of the
// module's directory that everybody may read:
//
//	CGO_ENABLED=1 go build -tags "sqlite sqlite_unlock_notify" -o gitea .
//	GITEA_SOURCE=$PWD go test -tags e2e,gitea -run GiteaItself github.com/shoal-dev/shoal/cmd/shoal/e2e
type giteaItself struct {
	n      *Node
	client *http.Client
	token  map[string]string // by person
}

const giteaConfig = `APP_NAME = forge
RUN_USER = nobody
RUN_MODE = prod
WORK_PATH = @WORK@
[server]
STATIC_ROOT_PATH = @SOURCE@
HTTP_ADDR = 127.0.0.1
HTTP_PORT = 3000
ROOT_URL = http://127.0.0.1:3000/
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = @WORK@/gitea.db
[repository]
ROOT = @WORK@/repositories
[security]
INSTALL_LOCK = true
PASSWORD_HASH_ALGO = pbkdf2_v1
[service]
DISABLE_REGISTRATION = true
[webhook]
ALLOWED_HOST_LIST = *
[log]
LEVEL = warn
ROOT_PATH = @WORK@/log
`

// newGiteaItself starts the binary $GITEA_SOURCE/gitea with people of the forge, "ring" being its administrator.
func newGiteaItself(n *Node) *giteaItself {
	n.t.Helper()
	source := os.Getenv("GITEA_SOURCE")
	if source == "" {
		n.t.Fatal("GITEA_SOURCE: expected the directory of Gitea's source with the binary gitea in it")
	}
	work, err := os.MkdirTemp("", "sh-gitea-")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = os.RemoveAll(work) })
	const nobody = 65534
	if err := os.Chown(work, nobody, nobody); err != nil {
		n.t.Fatal(err)
	}
	config := filepath.Join(work, "app.ini")
	text := strings.NewReplacer("@WORK@", work, "@SOURCE@", source).Replace(giteaConfig)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Chown(config, nobody, nobody); err != nil {
		n.t.Fatal(err)
	}
	g := &giteaItself{n: n, token: map[string]string{}, client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
			err = n.within(func() error {
				c, err = (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:3000")
				return err
			})
			return c, err
		},
	}}}
	run := func(args ...string) string {
		cmd := n.command(context.Background(), "setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", filepath.Join(source, "gitea"), "-c", config, "-w", work}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+work, "USER=nobody")
		out, err := cmd.CombinedOutput()
		if err != nil {
			n.t.Fatalf("gitea %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("migrate")
	for i, name := range []string{"ring", "ann", "eve"} {
		run("admin", "user", "create", "--username", name, "--password", "Forge-secret-4711", "--email", name+"@shop.example", "--must-change-password=false", fmt.Sprintf("--admin=%t", i == 0))
		said := strings.Fields(run("admin", "user", "generate-access-token", "--username", name, "--raw", "--scopes", "all"))
		g.token[name] = said[len(said)-1]
	}
	cmd := n.command(context.Background(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", filepath.Join(source, "gitea"), "-c", config, "-w", work, "web")
	cmd.Env = append(os.Environ(), "HOME="+work, "USER=nobody")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("gitea: %s", said.String())
		}
	})
	n.Eventually(time.Minute, func() error {
		_, err := g.ask("ring", http.MethodGet, "/version", nil)
		return err
	})
	return g
}

// ask asks its API.
func (g *giteaItself) ask(by, method, path string, body any) (any, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(method, "http://127.0.0.1:3000/api/v1"+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "token "+g.token[by])
	r.Header.Set("Content-Type", "application/json")
	resp, err := g.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err = io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	var out any
	if len(b) > 0 {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}

func (g *giteaItself) must(by, method, path string, body any) any {
	g.n.t.Helper()
	out, err := g.ask(by, method, path, body)
	if err != nil {
		g.n.t.Fatal(err)
	}
	return out
}

// url is where a person finds a repository.
func (g *giteaItself) url(by, repository string) string {
	return "http://" + by + ":" + g.token[by] + "@127.0.0.1:3000/" + repository + ".git"
}

// says waits until what the API answers contains some texts.
func (g *giteaItself) says(path string, texts ...string) {
	g.n.t.Helper()
	g.n.Eventually(30*time.Second, func() error {
		got, err := g.ask("ring", http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		b, _ := json.Marshal(got)
		for _, text := range texts {
			if !strings.Contains(string(b), text) {
				return fmt.Errorf("%s lacks %q: %s", path, text, b)
			}
		}
		return nil
	})
}

// Gitea itself: a pull request is previewed, followed, told of by status and one comment, and gone when it is closed; a fork's waits until one
// who may write labels its newest commit.
func TestFeature_V2_GiteaItself(t *testing.T) {
	n := NewNode(t)
	g := newGiteaItself(n)
	g.must("ann", "POST", "/user/repos", object{"name": "shop", "default_branch": "main"})
	g.must("ann", "PUT", "/repos/ann/shop/collaborators/ring", object{"permission": "admin"})
	g.must("ann", "POST", "/repos/ann/shop/labels", object{"name": "preview-ok", "color": "#00aabb"})
	repo := n.Repository(previewFiles("one", `{quota: 4, forks: approval: "preview-ok"}`))
	repo.git("remote", "set-url", "origin", g.url("ann", "ann/shop"))
	repo.Push("one")
	n.Args = []string{"--repository", giteaURL, "--poll", "300ms", "--forge-token", g.token["ring"]}
	n.Start()
	n.Image("probe:v1")
	n.Eventually(soon, func() error { return n.answers("http://127.0.0.1:30080/env", "GREETING=one") })

	push := func(remote, branch, greeting string) string {
		repo.greet(greeting)
		repo.commit(greeting)
		repo.git("push", "-q", "-f", remote, "HEAD:"+branch)
		return repo.Head()
	}
	repo.git("checkout", "-q", "-b", "topic")
	push("origin", "topic", "topic")
	g.must("ann", "POST", "/repos/ann/shop/pulls", object{"title": "topic", "head": "topic", "base": "main"})
	begun := time.Now()
	url := n.previewGreets(time.Minute, "pr-1", "topic")
	t.Logf("a pull request answers after %s", time.Since(begun).Round(time.Millisecond))
	head := push("origin", "topic", "again")
	begun = time.Now()
	n.previewGreets(time.Minute, "pr-1", "again")
	t.Logf("a change of a setting answers after %s", time.Since(begun).Round(time.Millisecond))
	g.says("/repos/ann/shop/commits/"+head+"/status", `"state":"success"`, "shoal/preview", url)
	g.says("/repos/ann/shop/issues/1/comments", "**Preview `pr-1`**: ready", head[:12])
	if got := g.must("ring", "GET", "/repos/ann/shop/issues/1/comments", nil).([]any); len(got) != 1 {
		t.Errorf("%d comments, want one", len(got))
	}
	g.must("ann", "PATCH", "/repos/ann/shop/pulls/1", object{"state": "closed"})
	n.gone(soon, "pr-1")
	g.says("/repos/ann/shop/issues/1/comments", "is gone: it is closed")

	g.must("eve", "POST", "/repos/ann/shop/forks", object{})
	repo.git("remote", "add", "eve", g.url("eve", "eve/shop"))
	repo.git("checkout", "-q", "-b", "patch", "main")
	head = push("eve", "patch", "stranger")
	g.must("eve", "POST", "/repos/ann/shop/pulls", object{"title": "patch", "head": "eve:patch", "base": "main"})
	n.waits(soon, "pr-2", "a maintainer approves commit "+head[:12])
	g.must("ann", "POST", "/repos/ann/shop/issues/2/labels", object{"labels": []string{"preview-ok"}})
	n.previewGreets(time.Minute, "pr-2", "stranger")
	head = push("eve", "patch", "worse")
	n.waits(soon, "pr-2", "a maintainer approves commit "+head[:12])
	n.gone(soon, "pr-2")
	if strings.Contains(n.output.String(), g.token["ring"]) {
		t.Error("the token is in the log")
	}
}
