//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/images"
)

// Repository is a clone from which a test pushes to a node.
type Repository struct {
	n      *Node
	Dir    string
	stages map[string][]float64 // of pushes that were timed: ms by step
}

const modFile = `module: "shop.example/cluster"
language: version: "v0.15.0"
`

const shoalFile = `package shoal

import "shoal.dev/schema"

schema.#Repository

environments: dev: ref: "main"
`

// webApp is the smallest useful app: one container that says what it was told.
func webApp(image, greeting string) string {
	return fmt.Sprintf(`package web

import "shoal.dev/schema"

schema.#Package

app: web: {
	image: "shoal.local/%s"
	args: ["serve"]
	ports: http: 8080
	nodePorts: http: 30080
	env: GREETING: %q
	readinessProbe: httpGet: {path: "/readyz", port: 8080}
}
`, image, greeting)
}

// Repository makes a clone with the given files beside shoal.cue.
func (n *Node) Repository(files map[string]string) *Repository {
	n.t.Helper()
	r := &Repository{n: n, Dir: n.t.TempDir(), stages: map[string][]float64{}}
	r.git("init", "-q", "-b", "main")
	r.git("config", "user.name", "Ann Author")
	r.git("config", "user.email", "ann@shop.example")
	r.git("remote", "add", "origin", "http://127.0.0.1:7443/repo.git")
	r.Write("cue.mod/module.cue", modFile)
	r.Write("shoal.cue", shoalFile)
	for name, text := range files {
		r.Write(name, text)
	}
	return r
}

// Write puts a file into the work tree.
func (r *Repository) Write(name, text string) {
	r.n.t.Helper()
	path := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.n.t.Fatal(err)
	}
}

// gitEnv has git ask nobody, and do without the settings of who runs the tests.
func gitEnv() []string {
	return append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0")
}

func (r *Repository) git(args ...string) string {
	r.n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := r.n.command(ctx, "git", append([]string{"-C", r.Dir}, args...)...)
	cmd.Env = gitEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.n.t.Fatalf("git %s: %v\n%s\n%s", strings.Join(args, " "), err, out, r.n.describe())
	}
	return string(out)
}

// Push commits the work tree, pushes it, and returns what the server said.
func (r *Repository) Push(message string) string {
	r.n.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	return r.git("push", "origin", "HEAD:main")
}

// PushBy commits the work tree and pushes it to another machine than the one it was made for.
func (r *Repository) PushBy(n *Node, message string) {
	n.t.Helper()
	r.git("commit", "-q", "-a", "-m", message)
	pushed := n.command(context.Background(), "git", "-C", r.Dir, "push", "-q", "http://127.0.0.1:7443/repo.git", "HEAD:main")
	pushed.Env = gitEnv()
	if out, err := pushed.CombinedOutput(); err != nil {
		n.t.Fatalf("push to %s: %v\n%s", n.name, err, out)
	}
}

// Head is the newest commit.
func (r *Repository) Head() string { return strings.TrimSpace(r.git("rev-parse", "HEAD")) }

// Image builds one of the examples' images, "name:version", and pushes it to the node as a user would.
func (n *Node) Image(name string) {
	n.t.Helper()
	n.push(imageLayout(n.t, name), name)
}

func (n *Node) push(dir, name string) {
	n.t.Helper()
	if _, stderr, code := n.Shoal("image", "push", dir, name); code != 0 {
		n.t.Fatalf("image push %s: %s\n%s", name, stderr, n.describe())
	}
}

var layouts = map[string]string{} // of images built by this run, by name

// imageLayout builds an image once a run.
func imageLayout(t testing.TB, name string) string {
	t.Helper()
	if dir, ok := layouts[name]; ok {
		return dir
	}
	base, tag, _ := strings.Cut(name, ":")
	img, err := (&images.Builder{}).Image(context.Background(), base, tag)
	if err != nil {
		t.Fatalf("build image %s: %v", name, err)
	}
	dir, err := os.MkdirTemp("", "sh-e2e-image-")
	if err != nil {
		t.Fatal(err)
	}
	if err := images.WriteLayout(filepath.Join(dir, "l"), images.Named{Ref: name, Image: img}); err != nil {
		t.Fatal(err)
	}
	layouts[name] = filepath.Join(dir, "l")
	return layouts[name]
}

// TestMain removes what the tests of one run share.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range layouts {
		_ = os.RemoveAll(filepath.Dir(dir))
	}
	for _, path := range binaries {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// pushInBackground commits and pushes without waiting for the roll-out that the push would show.
func (r *Repository) pushInBackground(message string) {
	r.n.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	cmd := r.n.command(context.Background(), "timeout", "2", "git", "-C", r.Dir, "push", "-q", "origin", "HEAD:main")
	cmd.Env = gitEnv()
	_ = cmd.Run() // it is cut off while it watches: the push stands all the same
	r.git("fetch", "-q", "origin")
}
