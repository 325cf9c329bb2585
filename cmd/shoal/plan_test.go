package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// planRing is a ring in memory that answers on a socket, and a repository whose commits it runs.
type planRing struct {
	t      *testing.T
	ring   *enginetest.Ring
	socket string
	dir    string
}

func newPlanRing(t *testing.T) *planRing {
	r := &planRing{t: t, ring: enginetest.NewRing(t), dir: filepath.Join(t.TempDir(), "clone")}
	r.ring.Up(1)
	agent := nodeagent.New(nodeagent.Options{
		Node: enginetest.Node(1).ID, Ledger: planLedger{r.ring}, Content: planContent{r.ring.Content}, Containers: noContainers{},
	}, nodeagent.NewJournal())
	deployer := nodeagent.NewDeployer(nodeagent.DeployOptions{Ledger: planLedger{r.ring}, Log: slog.New(slog.DiscardHandler)})
	dir, err := os.MkdirTemp("", "sh-plan-")
	if err != nil {
		t.Fatal(err)
	}
	r.socket = filepath.Join(dir, "agent.sock")
	l, err := api.Listen(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- api.NewServer(&nodeagent.Node{Agent: agent, Deployer: deployer}, slog.New(slog.DiscardHandler)).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	if err := initRepository(io.Discard, r.dir, "shop.example/cluster", false); err != nil {
		t.Fatal(err)
	}
	r.git("init", "-q", "-b", "main")
	r.git("config", "user.name", "Ann Author")
	r.git("config", "user.email", "ann@shop.example")
	return r
}

func (r *planRing) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", r.dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *planRing) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *planRing) commit(message string) string {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "-m", message)
	return r.git("rev-parse", "HEAD")
}

// activate makes a commit run in an environment.
func (r *planRing) activate(rev, environment string) {
	r.t.Helper()
	l, tree, at, err := openPlanned(r.t.Context(), planOptions{dir: r.dir, commit: rev})
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.close()
	env, err := l.environmentOf(r.t.Context(), tree, environment, "")
	if err != nil {
		r.t.Fatal(err)
	}
	set, err := l.compile(r.t.Context(), tree, env)
	if err != nil || len(set.built.Problems) > 0 {
		r.t.Fatal(err, set.built.Problems)
	}
	for _, b := range set.blobs {
		r.ring.Content.Put(b)
	}
	r.ring.Must(cluster.Input{Activate: &cluster.Activate{
		Environment: env.Name, Namespace: env.Namespace, Ref: env.Ref, Commit: at.commit.ID, D: r.ring.Content.Put(set.built.Manifest),
	}})
	r.ring.Settle()
}

// shoal runs a command line, whose directory is made anew in every answer.
func (r *planRing) shoal(args ...string) string {
	var out, errs bytes.Buffer
	code := run(r.t.Context(), append([]string{"--server", r.socket}, args...), nil, &out, &errs)
	text := strings.ReplaceAll(out.String()+errs.String(), r.dir, "DIR")
	return fmt.Sprintf("%s(%d)", regexp.MustCompile(`\b[0-9a-f]{12,40}\b`).ReplaceAllString(text, "ID"), code)
}

type planLedger struct{ ring *enginetest.Ring }

func (l planLedger) View(f func(*cluster.State)) { f(l.ring.State) }
func (l planLedger) Changes() <-chan struct{}    { return nil }
func (l planLedger) Append(context.Context, cluster.Input) (cluster.Outcome, error) {
	panic("a plan appends nothing")
}

type planContent struct{ enginetest.Store }

func (c planContent) Has(d desired.Digest) bool { return c.Store[d] != nil }
func (c planContent) Put(context.Context, ...[]byte) error {
	panic("a plan stores nothing")
}

type noContainers struct{ nodeagent.Containers }

func (noContainers) Present(string, string) bool    { return false }
func (noContainers) Netns(control.PodID) (_ string) { return }

const helloV1 = `package hello

import "shoal.dev/schema"

schema.#Package

app: hello: {
	image: "shoal.local/hello:v1"
	replicas: 2
	ports: http: 8080
}
`

// A plan of a commit is of what stands in the commit, whatever lies in the directory; what it says is what the ring
// would do.
func TestFeature_G3_PlanOfACommit(t *testing.T) {
	r := newPlanRing(t)
	r.write("apps/hello/hello.cue", helloV1)
	r.write("apps/jobs/jobs.cue", "package jobs\n\nimport \"shoal.dev/schema\"\n\nschema.#Package\n\nconfigMap: texts: data: \"a.txt\": \"one\"\n")
	r.commit("one")
	r.git("tag", "-a", "-m", "the first", "v1.0")
	r.activate("main", "dev")
	r.activate("main", "production")

	r.git("checkout", "-q", "-b", "wide")
	r.write("apps/hello/hello.cue", strings.Replace(helloV1, "replicas: 2", "replicas: 4", 1))
	r.commit("four of them")
	r.write("apps/hello/hello.cue", strings.Replace(helloV1, "hello:v1", "hello:v2", 1))
	r.write("apps/side/side.cue", strings.NewReplacer("package hello", "package side", "app: hello", "app: side", "replicas: 2", "replicas: 1").Replace(helloV1))
	wide := r.commit("another version, and a side")
	r.git("checkout", "-q", "-b", "env/production", "main")
	r.write("apps/jobs/jobs.cue", "package jobs\n\nimport \"shoal.dev/schema\"\n\nschema.#Package\n\nconfigMap: texts: data: \"a.txt\": \"two\"\n")
	r.commit("another text")
	r.git("checkout", "-q", "-b", "broken", "main")
	r.write("apps/hello/hello.cue", strings.Replace(helloV1, "replicas: 2", "replicas: \"two\"", 1))
	r.write("apps/jobs/jobs.cue", "package jobs\n\nimport \"shoal.dev/schema\"\n\nschema.#Package\n\nconfigMap: texts: data: \"a.txt\": \"two\"\n")
	r.commit("half wrong")
	r.git("checkout", "-q", "-b", "empty", "main")
	r.git("rm", "-q", "-r", "apps/hello")
	r.commit("gone")
	r.git("checkout", "-q", "-b", "meant", "main")
	r.git("rm", "-q", "-r", "apps/hello")
	r.commit("gone\n\nShoal-Allow-Delete: all")
	r.git("checkout", "-q", "main")
	r.git("update-ref", "refs/remotes/origin/env/production", "env/production")
	r.git("branch", "added", "main") // all hex digits
	r.write("apps/hello/hello.cue", "this is no CUE\n")
	t.Chdir(filepath.Join(r.dir, "apps"))

	const wanted = `dev at ID: 3 objects differ
+ create Service dev/side
~ update Deployment dev/hello
      spec.template.spec.containers[hello].image: "shoal.local/hello:v1" -> "shoal.local/hello:v2"
+ create Deployment dev/side
pods
~ restart Deployment dev/hello: 2 pods are replaced: its pod template changed
+ create Deployment dev/side: 1 pod starts: it is new
  2 pods go on untouched
`
	for _, tt := range []struct{ args, want string }{
		{"plan wide", wanted + "(0)"},
		{"plan " + wide, wanted + "(0)"},
		{"plan " + wide[:7], wanted + "(0)"},
		{"plan refs/heads/wide --exit-code", wanted + "(1)"},
		{"plan --commit wide " + r.dir, wanted + "(0)"},
		{"plan wide~1", `dev at ID: 1 object differs
~ update Deployment dev/hello
      spec.replicas: 2 -> 4
pods
+ create Deployment dev/hello: 2 pods start: replicas: 2 -> 4
  4 pods go on untouched
(0)`},
		{"plan wide^1~1", "dev at ID: nothing would change; 4 pods go on untouched\n(0)"},
		{"plan v1.0", "dev at ID: nothing would change; 4 pods go on untouched\n(0)"},
		{"plan added", "dev at ID: nothing would change; 4 pods go on untouched\n(0)"},
		{"plan --exit-code HEAD", "dev at ID: nothing would change; 4 pods go on untouched\n(0)"},
		{"plan wide -e production", strings.NewReplacer("dev at", "production at", "dev/", "production/").Replace(wanted) + "(0)"},
		{"plan origin/env/production", `production at ID: 1 object differs
~ update ConfigMap production/texts
      data.a.txt: "one" -> "two"
pods
  4 pods go on untouched
(0)`},
		{"plan broken", `dev at ID: would be held as they run: hello
dev at ID: 1 object differs
~ update ConfigMap dev/texts
      data.a.txt: "one" -> "two"
pods
  4 pods go on untouched
shoal: apps/hello/hello.cue:9: app.hello.replicas: conflicting values "two" and int (mismatched types string and int)
(1)`},
		{"plan empty", `shoal: apps: this commit would delete 2 of the 3 objects of environment dev (Service dev/hello, Deployment dev/hello); if it is meant, add the trailer "Shoal-Allow-Delete: 2" to its message
(1)`},
		{"plan meant", `dev at ID: 2 objects differ
- delete Service dev/hello
- delete Deployment dev/hello
pods
- remove Deployment dev/hello: 2 pods stop: it is taken away
  2 pods go on untouched
(0)`},
		{"plan", `dev: would be held as they run: hello
dev: nothing would change; 4 pods go on untouched
shoal: apps/hello/hello.cue:1: expected label or ':', found 'IDENT' is
(1)`},
		{"plan nothing", "shoal: no commit \"nothing\" in this repository: expected a branch, a tag, or an id of at least 4 digits; it has added, broken, empty, env/production, main, meant, origin/env/production, v1.0, wide\n(1)"},
		{"plan abcdef012345", "shoal: no commit \"ID\" in this repository: expected a branch, a tag, or an id of at least 4 digits; it has added, broken, empty, env/production, main, meant, origin/env/production, v1.0, wide\n(1)"},
		{"plan v1.0^2", "shoal: revision \"v1.0^2\": commit ID has 0 parents\n(1)"},
		{"plan v1.0~1000000000", "shoal: revision \"v1.0~1000000000\": ~1000000000 goes too far back\n(1)"},
		{"plan --commit --server", "shoal: no commit \"--server\" in this repository: expected a branch, a tag, or an id of at least 4 digits; it has added, broken, empty, env/production, main, meant, origin/env/production, v1.0, wide\n(1)"},
		{"plan a b", "shoal: expected one directory or commit at most; for both: shoal plan DIR --commit COMMIT\nsee: shoal plan --help\n(2)"},
		{"plan /proc --commit main", "shoal: /proc is not in a Git repository: a commit cannot be looked up there\n(1)"},
		{"plan main -e staging", "shoal: shoal.cue declares no environment \"staging\"; it has dev, production\n(1)"},
	} {
		if got := r.shoal(strings.Fields(tt.args)...); got != tt.want {
			t.Errorf("shoal %s:\n%s\nwant:\n%s", tt.args, got, tt.want)
		}
	}
	if got := r.shoal("plan", "-o", "json", "wide"); !strings.Contains(got, `"commit": "ID"`) || !strings.Contains(got, `"op": "restart"`) {
		t.Error(got)
	}
}

// Manifests may lie in a directory of a repository, and a repository may be bare.
func TestPlanBelowTheTop(t *testing.T) {
	r := newPlanRing(t)
	top := r.dir
	r.dir = filepath.Join(top, "cluster")
	if err := initRepository(io.Discard, r.dir, "shop.example/cluster", false); err != nil {
		t.Fatal(err)
	}
	r.write("apps/hello/hello.cue", helloV1)
	r.commit("one")
	r.activate("main", "dev")
	if got := r.shoal("plan", r.dir, "--commit", "main"); got != "dev at ID: nothing would change; 2 pods go on untouched\n(0)" {
		t.Error(got)
	}
	if got := r.shoal("plan", top, "--commit", "main"); !strings.Contains(got, "replicas: 2 -> 1") {
		t.Error(got)
	}
	below := r.dir
	r.dir = top
	r.git("checkout", "-q", "--orphan", "other")
	r.git("rm", "-q", "-r", "-f", ".")
	r.git("commit", "-q", "--allow-empty", "-m", "nothing here")
	if got := r.shoal("plan", top, "--commit", "other"); !strings.Contains(got, "shoal.cue: is missing") {
		t.Error(got)
	}
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := r.shoal("plan", below, "--commit", "main"); !strings.Contains(got, "nothing would change") {
		t.Error("what is checked out does not matter:", got)
	}
	bare := filepath.Join(t.TempDir(), "bare.git")
	r.git("clone", "-q", "--bare", top, bare)
	if got := r.shoal("plan", bare, "--commit", "main"); !strings.Contains(got, "replicas: 2 -> 1") {
		t.Error(got)
	}
}

// Digits that fit several commits are refused with their names.
func TestAmbiguousDigits(t *testing.T) {
	r := newPlanRing(t)
	tree := r.git("write-tree")
	seen := map[string]string{}
	for i := 0; ; i++ {
		id := r.git("commit-tree", "-m", fmt.Sprint(i), tree)
		if twin := seen[id[:4]]; twin != "" {
			h, err := openHistory(r.dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.resolve(id[:4]); err == nil || !strings.Contains(err.Error(), id[:4]+" fits 2 commits: ") || !strings.Contains(err.Error(), twin) {
				t.Error(err)
			}
			if rev, err := h.resolve(id); err != nil || rev.commit.ID != source.ID(id) {
				t.Error(rev.commit.ID, err)
			}
			return
		}
		seen[id[:4]] = id
	}
}
