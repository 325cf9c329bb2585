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
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
	"github.com/shoal-dev/shoal/nodeagent/renderer"
)

// planRing is a ring in memory that answers on a socket, and a repository whose commits it runs.
type planRing struct {
	t      testing.TB
	mu     sync.Mutex // guards ring
	ring   *enginetest.Ring
	socket string
	dir    string
	mirror *gitsync.Mirror // of the repository, read by fetch alone
}

func newPlanRing(t testing.TB, dir string) *planRing {
	r := &planRing{t: t, ring: enginetest.NewRing(t), dir: dir}
	r.ring.Up(1)
	var err error
	if r.mirror, err = gitsync.Open(context.Background(), gitsync.Options{Dir: filepath.Join(t.TempDir(), "mirror"), URL: dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.mirror.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rendering := renderer.New(renderer.Options{Command: []string{self, roleRenderer}})
	t.Cleanup(rendering.Close)
	agent := nodeagent.New(nodeagent.Options{
		Node: enginetest.Node(1).ID, Ledger: planLedger{r}, Content: planContent{r.ring.Content}, Containers: noContainers{},
	}, nodeagent.NewJournal())
	deployer := nodeagent.NewDeployer(nodeagent.DeployOptions{
		Ledger: planLedger{r}, Source: sourcePart{Mirror: r.mirror}, Renderer: newRendererPart(rendering), Branch: "refs/heads/main", Log: slog.New(slog.DiscardHandler),
	})
	sockets, err := os.MkdirTemp("", "sh-plan-")
	if err != nil {
		t.Fatal(err)
	}
	r.socket = filepath.Join(sockets, "agent.sock")
	l, err := api.Listen(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- api.NewServer(&nodeagent.Node{Agent: agent, Deployer: deployer, Mirror: r.mirror}, slog.New(slog.DiscardHandler)).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(sockets)
	})
	if err := initRepository(io.Discard, r.dir, "shop.example/cluster", false); err != nil {
		t.Fatal(err)
	}
	r.git("init", "-q", "-b", "main")
	r.git("config", "user.name", "Ann Author")
	r.git("config", "user.email", "ann@shop.example")
	return r
}

// fetch brings the mirror of the node up to date.
func (r *planRing) fetch(branches ...string) {
	r.t.Helper()
	r.mirror.Follow(branches)
	if _, err := r.mirror.Fetch(context.Background()); err != nil {
		r.t.Fatal(err)
	}
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
	must := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	h, err := openHistory(r.dir)
	must(err)
	at, err := h.resolve(rev)
	must(err)
	below, err := h.below(r.dir)
	must(err)
	tree, err := h.tree(at.commit, h.manifests(at.commit, below))
	must(err)
	self, err := os.Executable()
	must(err)
	l := newLocal(self, r.dir)
	defer l.close()
	ctx := context.Background()
	env, err := l.environment(ctx, tree, environment)
	must(err)
	set, err := l.compile(ctx, tree, env)
	must(err)
	if len(set.built.Problems) > 0 {
		r.t.Fatal(set.built.Problems)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range set.blobs {
		r.ring.Content.Put(b)
	}
	activate := cluster.Activate{
		Environment: env.Name, Namespace: env.Namespace, Ref: env.Ref, Commit: at.commit.ID, D: r.ring.Content.Put(set.built.Manifest),
	}
	if e, ok := r.ring.State.Environments().Get(env.Name); ok {
		activate.Previous = e.D
	}
	r.ring.Must(cluster.Input{Activate: &activate})
	r.ring.Settle()
}

// shoal runs a command line, whose directory is made anew in every answer.
func (r *planRing) shoal(args ...string) string {
	var out, errs bytes.Buffer
	code := run(context.Background(), append([]string{"--server", r.socket}, args...), nil, &out, &errs)
	text := strings.ReplaceAll(out.String()+errs.String(), r.dir, "DIR")
	return fmt.Sprintf("%s(%d)", idsIn.ReplaceAllString(text, "ID"), code)
}

// idsIn finds the ids of commits and the digests of plans, which are other ones with each version of the schema.
var idsIn = regexp.MustCompile(`\b[0-9a-f]{12,64}\b`)

type planLedger struct{ *planRing }

func (l planLedger) View(f func(*cluster.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.ring.State)
}

func (l planLedger) Changes() <-chan struct{} { return nil }
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

// planKey finds the ring of a script.
type planKey struct{}

// TestFeature_G3_PlanScripts plans commits of a repository against a ring in memory, by scripts.
func TestFeature_G3_PlanScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/plan", UpdateScripts: *update, RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			r := newPlanRing(t, filepath.Join(env.WorkDir, "repo"))
			env.Values[planKey{}] = r
			env.Setenv("SHOAL_SERVER", r.socket)
			for _, v := range []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"} {
				name, value, _ := strings.Cut(v, "=")
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			// activate REV ENVIRONMENT makes a commit run.
			"activate": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value(planKey{}).(*planRing).activate(args[0], args[1])
			},
			// fetch BRANCH... has the node read the repository.
			"fetch": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value(planKey{}).(*planRing).fetch(args...)
			},
		},
	})
}

// Manifests may lie in a directory of a repository, and a repository may be bare.
func TestPlanBelowTheTop(t *testing.T) {
	r := newPlanRing(t, filepath.Join(t.TempDir(), "clone"))
	top := r.dir
	r.dir = filepath.Join(top, "cluster")
	if err := initRepository(io.Discard, r.dir, "shop.example/cluster", false); err != nil {
		t.Fatal(err)
	}
	r.write("apps/hello/hello.cue", helloV1)
	r.commit("one")
	r.activate("main", "dev")
	if got := r.shoal("plan", r.dir, "--commit", "main"); !strings.HasPrefix(got, "dev: ID..main (ID): nothing changes, plan ID\n") {
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
	if got := r.shoal("plan", below, "--commit", "main"); !strings.Contains(got, "nothing changes") {
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
	r := newPlanRing(t, filepath.Join(t.TempDir(), "clone"))
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
