//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// following is a pipeline whose staging follows dev by itself.
var following = strings.NewReplacer(`after: ["dev"], gates: soak: "2s"`, `after: ["dev"], promote: "auto"`).Replace(pipeline)

// acts are the commits that a branch of a forge has by its first parents, newest first: "Shoal-By of what came in".
func acts(t testing.TB, forge, branch, trailer string) []string {
	t.Helper()
	out, err := exec.Command("git", "--git-dir", forge, "log", "--first-parent", "--format=%(trailers:key="+trailer+",valueonly,separator=%x2C)", branch).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// pushes has a door call meet for the first push that comes through it, in place of the forge. git is the forge.
func (d *door) pushes(meet func(w http.ResponseWriter, q *http.Request, git http.Handler)) {
	var once sync.Once
	f := func(w http.ResponseWriter, q *http.Request, git http.Handler) (met bool) {
		if strings.HasSuffix(q.URL.Path, "/git-receive-pack") {
			once.Do(func() { met = true })
		}
		if met {
			meet(w, q, git)
		}
		return met
	}
	d.meet.Store(&f)
}

// TestFault_P6_AgentDiesOverAPromotion kills the agent that promotes, on a ring of three that follows a forge: once when all gates have said yes and
// nothing is pushed yet, once when the commit is on the forge and the agent has not heard so. Then the answer alone is lost. Each time
// there is one commit of that promotion, and it runs. Asked again nothing is made, and of many who ask at the same time one makes it.
func TestFault_P6_AgentDiesOverAPromotion(t *testing.T) {
	r := newRing(t, 3, "--repository", forgeURL, "--poll", "500ms")
	forge, doors := r.doors()
	r.nodes[0].must("git", "--git-dir", forge, "config", "http.receivepack", "true")
	r.start()
	first := r.nodes[0]
	first.Image("probe:v1")
	app := func(greeting string) string {
		return strings.Replace(stagedApp(greeting), "image:", "replicas: 3\n\timage:", 1)
	}
	repo := first.Repository(map[string]string{"shoal.cue": following, "apps/web/web.cue": app("one")})
	repo.git("remote", "set-url", "origin", forge)
	push := func(greeting string) {
		t.Helper()
		repo.Write("apps/web/web.cue", app(greeting))
		repo.Push(greeting)
	}
	runs := func(environment, greeting string, nodes ...*Node) {
		t.Helper()
		for _, n := range nodes {
			n.Eventually(90*time.Second, n.greetsIn(environment, greeting))
		}
	}
	push("one")
	runs("staging", "one", r.nodes...)
	want := 1
	once := func(what string) {
		t.Helper()
		want++
		time.Sleep(3 * time.Second) // several looks, and tries of who leads
		if got := acts(t, forge, "env/staging", "Shoal-Promoted-From"); len(got) != want {
			t.Errorf("%s: %d promotions on the branch, want %d:\n%s", what, len(got), want, strings.Join(got, "\n"))
		}
	}

	for _, tt := range []struct {
		what string
		meet func(n *Node) func(w http.ResponseWriter, q *http.Request, git http.Handler)
	}{
		{"before the push", func(n *Node) func(http.ResponseWriter, *http.Request, http.Handler) {
			return func(http.ResponseWriter, *http.Request, http.Handler) {
				n.Kill()
				panic(http.ErrAbortHandler)
			}
		}},
		{"after the push", func(n *Node) func(http.ResponseWriter, *http.Request, http.Handler) {
			return func(_ http.ResponseWriter, q *http.Request, git http.Handler) {
				git.ServeHTTP(httptest.NewRecorder(), q)
				n.Kill()
				panic(http.ErrAbortHandler)
			}
		}},
		{"answer lost", func(*Node) func(http.ResponseWriter, *http.Request, http.Handler) {
			return func(_ http.ResponseWriter, q *http.Request, git http.Handler) {
				git.ServeHTTP(httptest.NewRecorder(), q)
				panic(http.ErrAbortHandler)
			}
		}},
	} {
		var met atomic.Pointer[Node]
		for _, d := range doors {
			meet := tt.meet(d.n)
			d.pushes(func(w http.ResponseWriter, q *http.Request, git http.Handler) {
				if !met.CompareAndSwap(nil, d.n) { // of one alone
					git.ServeHTTP(w, q)
					return
				}
				meet(w, q, git)
			})
		}
		begun := time.Now()
		push(tt.what)
		first.Eventually(60*time.Second, func() error {
			if met.Load() == nil {
				return fmt.Errorf("%s: nobody has pushed a promotion", tt.what)
			}
			return nil
		})
		at, rest := r.around(met.Load().name)
		died := tt.what != "answer lost"
		if died {
			<-at.exited
			at.agent = nil
		} else {
			rest = r.nodes
		}
		runs("staging", tt.what, rest...)
		t.Logf("%s: %s pushed it; it runs %s after dev was pushed to", tt.what, at.name, time.Since(begun).Round(time.Millisecond))
		if died {
			at.Start()
		}
		r.nodes[0].Eventually(60*time.Second, func() error { return r.whole(3) })
		once(tt.what)
		runs("staging", tt.what, r.nodes...)
	}

	// Many at the same time, each on a machine of his own; and again.
	first.Eventually(soon, func() error {
		if out, _, code := first.Shoal("promote", "production", "--dry-run"); code != 0 {
			return fmt.Errorf("promote:\n%s", out)
		}
		return nil
	})
	all := func() (said []string, made int) {
		said = make([]string, len(r.nodes))
		var group sync.WaitGroup
		for i, n := range r.nodes {
			group.Go(func() {
				out, errs, code := n.Shoal("promote", "production", "--by", "lead"+n.name)
				said[i] = fmt.Sprintf("%s: exit %d\n%s%s", n.name, code, out, errs)
			})
		}
		group.Wait()
		for _, s := range said {
			switch {
			case !strings.Contains(s, "exit 0"):
				t.Errorf("%s", s)
			case strings.Contains(s, "already, made by lead"), strings.Contains(s, "production runs that already"):
			case strings.Contains(s, "is on env/production\n"):
				made++
			}
		}
		return said, made
	}
	if said, made := all(); made != 1 {
		t.Errorf("%d made it:\n%s", made, strings.Join(said, "\n"))
	} else {
		t.Log(strings.Join(said, "\n"))
	}
	if said, made := all(); made != 0 {
		t.Errorf("asked again %d made it:\n%s", made, strings.Join(said, "\n"))
	}
	if got := strings.Count(strings.Join(acts(t, forge, "env/production", "Shoal-By"), " "), "lead"); got != 1 {
		t.Errorf("%d commits on env/production", got)
	}
	// A promotion and a rollback at the same time: they come one after the other, or one is told of the other.
	push("last")
	runs("staging", "last", r.nodes...)
	first.Eventually(soon, func() error {
		if out, _, code := first.Shoal("promote", "production", "--dry-run"); code != 0 {
			return fmt.Errorf("promote:\n%s", out)
		}
		return nil
	})
	first.shoal(0, "promote", "production", "--by", "rita")
	before := len(acts(t, forge, "env/production", "Shoal-By"))
	var group sync.WaitGroup
	var done atomic.Int64
	said := make([]string, 2)
	for i, args := range [][]string{{"rollback", "production", "--reason", "it is slow", "--by", "bob"}, {"pin", "production", "--for", "1h", "--reason", "it is watched", "--by", "rita"}} {
		group.Go(func() {
			out, errs, code := r.nodes[i+1].Shoal(args...)
			said[i] = fmt.Sprintf("exit %d\n%s%s", code, out, errs)
			if code == 0 {
				done.Add(1)
			}
		})
	}
	group.Wait()
	if got := len(acts(t, forge, "env/production", "Shoal-By")); got != before+int(done.Load()) || done.Load() == 0 {
		t.Errorf("%d commits more, %d commands worked:\n%s", got-before, done.Load(), strings.Join(said, "\n"))
	}
	t.Log(strings.Join(said, "\n"))
}

// signedFor is a pipeline in which somebody must sign before production.
var signedFor = strings.NewReplacer(`gates: soak: "2s"`, `gates: health: false`, `hotfix: waive: ["soak", "health"]`, `gates: approvals: [{of: ["leads"]}]`).Replace(pipeline)

// TestFault_P7_AnotherCommitThanWasMeant: somebody promotes what staging runs, and has to wait for a signature. Meanwhile staging goes on, and the
// newer commit is signed for: neither does that let the one in that was meant, nor does it come in under its name. With its own signature
// the one that was meant does.
func TestFault_P7_AnotherCommitThanWasMeant(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{
		"shoal.cue": signedFor, "apps/web/web.cue": stagedApp("one"),
		"keys/trust.yaml": "groups:\n  leads: {environments: [production]}\nprincipals:\n  bob: {approve: [leads]}\n  ring: {}\n",
	})
	p := &people{&forge{t: t, Repository: repo}, t.TempDir()}
	p.key("bob")
	p.signers("bob")
	repo.git("config", "gpg.format", "ssh")
	toStaging := func(greeting string) (commit string) {
		t.Helper()
		repo.Write("apps/web/web.cue", stagedApp(greeting))
		repo.Push(greeting)
		n.Eventually(soon, n.greetsIn("dev", greeting))
		n.shoal(0, "promote", "staging", "--wait", "--by", "rita")
		n.Eventually(soon, n.greetsIn("staging", greeting))
		repo.git("fetch", "-q", "origin")
		return strings.TrimSpace(repo.git("rev-parse", "origin/env/staging"))
	}
	approve := func(commit string) {
		t.Helper()
		p.as("bob")
		if out, stderr, code := n.ShoalIn(repo.Dir, "", "approve", "production", commit, "--as", "bob"); code != 0 {
			t.Fatalf("approve: %d %s%s", code, out, stderr)
		}
		p.as("")
	}
	one := toStaging("one")
	type answer struct {
		said string
		code int
	}
	came := make(chan answer, 1)
	go func() {
		out, errs, code := n.Shoal("promote", "production", "--wait", "--by", "rita")
		came <- answer{out + errs, code}
	}()
	time.Sleep(2 * time.Second) // it waits
	two := toStaging("two")
	approve(two)
	n.says("approvals: 0 of 1; for commit "+one[:12]+", and bob has approved "+two[:12], "promote", "production", "--to", one[:12], "--dry-run")
	time.Sleep(2 * time.Second)
	select {
	case a := <-came:
		t.Fatalf("it did not wait for its own approval: %d\n%s", a.code, a.said)
	default:
	}
	if out := n.shoal(0, "envs"); strings.Contains(out, "production   staging  "+two[:12]) {
		t.Errorf("production runs what was not meant:\n%s", out)
	}
	// Whose turn it is.
	why := n.says("next: "+two[:12]+", by a promotion", "why", "production")
	for _, want := range []string{"Environment production  env/production, promoted into from staging by people", "runs nothing yet", "open     approvals: 1 of 1: bob", "all gates are open: shoal promote production"} {
		if !strings.Contains(why, want) {
			t.Errorf("why says nothing of %q:\n%s", want, why)
		}
	}
	approve(one)
	select {
	case a := <-came:
		if a.code != 0 || !strings.Contains(a.said, "promotes staging "+one[:12]) {
			t.Errorf("promotion: %d\n%s", a.code, a.said)
		}
	case <-time.After(soon):
		t.Fatal("it waits on, though it is approved")
	}
	n.Eventually(soon, n.greetsIn("production", "one"))
	n.shoal(0, "promote", "production", "--by", "rita")
	n.Eventually(soon, n.greetsIn("production", "two"))
	three := toStaging("three")
	why = n.says("turn: 1 more of leads", "why", "env/production")
	if !strings.Contains(why, "waiting  approvals: 0 of 1; for commit "+three[:12]) || !strings.Contains(why, "behind staging by 2 commits") {
		t.Errorf("why:\n%s", why)
	}
	t.Logf("why:\n%s%s", why, n.says("promoted from staging "+two[:12]+" by rita; approvals 1 of 1: bob", "why", "deploy", "production/web"))
}

// TestFault_P8_PromotedCommitFails: a commit that works in dev crashes in staging. What ran before goes on there, the commit is said to be ill and
// why, nothing of it comes into production, and undoing it takes seconds. With rollbackAfter the ring does that by itself and does not
// promote it again; the next commit, which mends it, comes in.
func TestFault_P8_PromotedCommitFails(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	policy := strings.Replace(pipeline, `gates: soak: "2s"`, `promote: "auto"`, 1)
	crashes := func(greeting string) string {
		return strings.Replace(stagedApp(greeting), `args: ["serve"]`, `args: [if _environment == "staging" {"exit"}, if _environment == "staging" {"3"}, if _environment != "staging" {"serve"}]`, 1)
	}
	repo := n.Repository(map[string]string{"shoal.cue": policy, "apps/web/web.cue": stagedApp("one")})
	repo.Push("one")
	n.Eventually(soon, n.greetsIn("staging", "one"))
	n.Eventually(soon, func() error {
		if _, errs, code := n.Shoal("promote", "production"); code != 0 {
			return fmt.Errorf("promote: %s", errs)
		}
		return nil
	})
	n.Eventually(soon, n.greetsIn("production", "one"))

	repo.Write("apps/web/web.cue", crashes("two"))
	repo.pushInBackground("two")
	n.Eventually(soon, n.greetsIn("dev", "two"))
	n.says("Deployment web: ", "envs", "-e", "staging")
	said := n.says("waiting  health in staging: not healthy: Deployment web: 1 of 1 pods are of its newest revision, beside 1 others", "promote", "production", "--dry-run")
	t.Logf("what is promoted further:\n%s", said)
	n.says("container web ended with 3", "status")
	for environment, greeting := range map[string]string{"staging": "one", "production": "one", "dev": "two"} {
		if err := n.greetsIn(environment, greeting)(); err != nil {
			t.Errorf("with a commit that crashes in staging: %v", err)
		}
	}
	if out := n.shoal(1, "promote", "production"); !strings.Contains(out, "its gates are closed") {
		t.Errorf("promotion of what is ill:\n%s", out)
	}
	healthy := func() error {
		e, err := n.Client().Envs(t.Context(), "staging")
		if err == nil && e.Environments[0].Healthy == 0 {
			err = fmt.Errorf("staging: %+v", e)
		}
		return err
	}
	begun := time.Now()
	n.shoal(0, "rollback", "staging", "--reason", "it crashes", "--by", "rita")
	n.Eventually(soon, healthy)
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("undone after %s", took)
	} else {
		t.Logf("undone after %s", took.Round(time.Millisecond))
	}
	time.Sleep(3 * time.Second) // the ring may want to promote it again
	if err := errors.Join(healthy(), n.greetsIn("staging", "one")()); err != nil {
		t.Errorf("after the rollback: %v", err)
	}

	// By policy.
	repo.Write("shoal.cue", strings.Replace(policy, `promote: "auto"`, `promote: "auto", rollbackAfter: "6s"`, 1))
	repo.Write("apps/web/web.cue", stagedApp("three"))
	repo.Push("three")
	n.Eventually(soon, n.greetsIn("staging", "three"))
	repo.Write("apps/web/web.cue", crashes("four"))
	repo.pushInBackground("four")
	begun = time.Now()
	n.Eventually(soon, func() error {
		repo.git("fetch", "-q", "origin")
		audit, _, _ := n.ShoalIn(repo.Dir, "", "audit", "origin/env/staging")
		if !strings.Contains(audit, "shoal rolled back to ") || !strings.Contains(audit, "not healthy 6s after it came in: Deployment web: 1 of 1 pods are of its newest revision, beside 1 others") {
			return fmt.Errorf("audit:\n%s", audit)
		}
		return nil
	})
	n.Eventually(soon, healthy)
	t.Logf("the ring has taken it back %s after the push", time.Since(begun).Round(time.Millisecond))
	time.Sleep(3 * time.Second)
	if err := errors.Join(healthy(), n.greetsIn("staging", "three")()); err != nil {
		t.Errorf("after the ring took it back: %v", err)
	}
	if out := n.shoal(0, "envs", "-e", "staging"); !strings.Contains(out, "dev: 1, for ") || !strings.Contains(out, "shoal went back from it: not healthy 6s after it came in") {
		t.Errorf("envs:\n%s", out)
	}
	repo.Write("apps/web/web.cue", stagedApp("mended"))
	repo.Push("mended")
	n.Eventually(soon, n.greetsIn("staging", "mended"))
}
