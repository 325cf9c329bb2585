//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/diff"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Random commits on a real node: the digest of the plan before the push is that of what was then done, and so is that of a
// plan from the old commit to the new one after the fact; pods that the plan did not name keep their processes. PLAN_SEED repeats a run.
func TestFeature_G3_PlanIsWhatIsDone(t *testing.T) {
	seed := uint64(soakNumber(t, "PLAN_SEED", int(time.Now().UnixNano()%1_000_000)))
	t.Logf("replay with PLAN_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := NewNode(t).Start()
	n.Image("probe:v1")
	n.Image("probe:v2")
	w := &plannedWeek{n: n, rng: rng, repo: n.Repository(nil), by: enginetest.NewManifests(rng, []string{"serve", "-linger", "0s"}, "shoal.local/probe:v1", "shoal.local/probe:v2")}
	for i := range rounds(40, 300) {
		what := "the first"
		if i > 0 {
			what = w.by.Change()
		}
		w.commit(fmt.Sprintf("commit %d (%s)", i, what))
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d commits: %d changed objects, %d were refused, %d held apps; %d times pods were replaced, started or stopped, %d others went on with their processes; plans took %s",
		rounds(40, 300), w.changed, w.refused, w.held, w.touched, w.kept, w.took)
	if w.changed == 0 || w.touched == 0 || w.kept == 0 {
		t.Error("that shows nothing")
	}
}

// plannedWeek is a repository that changes at random on a real node.
type plannedWeek struct {
	n    *Node
	rng  *rand.Rand
	repo *Repository
	by   *enginetest.Manifests
	took times

	hadHeld                               bool // what runs has apps that were held
	changed, refused, held, touched, kept int
}

// ran is a pod, and the process of its container.
type ran struct{ app, process string }

// commit plans a change, pushes it, waits until all is at rest, and compares.
func (w *plannedWeek) commit(said string) {
	t := w.n.t
	t.Helper()
	if err := os.RemoveAll(filepath.Join(w.repo.Dir, "apps")); err != nil {
		t.Fatal(err)
	}
	for name, text := range w.by.Files() {
		w.repo.Write(name, text)
	}
	message := said
	if w.rng.IntN(2) == 0 {
		message += "\n\nShoal-Allow-Delete: all"
	}
	w.repo.git("add", "-A")
	w.repo.git("commit", "-q", "--allow-empty", "-m", message)
	old, before, was := w.active(), w.set(), w.pods()
	plan := w.plan(said, []string{"HEAD", "main", old + "..HEAD"}[w.rng.IntN(3)], old)

	w.repo.git("push", "-q", "origin", "HEAD:main")
	head := w.repo.Head()
	w.n.Eventually(soon, func() error { return w.rests(head) })
	after, is := w.set(), w.pods()
	if plan.Report.Refused != "" {
		w.refused++
		if w.active() == head {
			t.Errorf("%s: it was activated, and the plan said: %s", said, plan.Report.Refused)
		}
		plan.Digest, plan.Pods, plan.Report.PodsGoOn = string(diff.Digest(nil, nil)), nil, len(was)
	}
	if did := string(diff.Digest(before, after)); did != plan.Digest {
		t.Errorf("%s: done %.12s, planned %.12s\n%s", said, did, plan.Digest, plan.Report.Text())
	}
	if before != nil && before.D != after.D {
		w.changed++
	}
	if len(plan.Held) > 0 {
		w.held++
	} else if old != "" && plan.Report.Refused == "" && !w.hadHeld {
		if again := w.plan(said, old+".."+head, ""); again.Digest != plan.Digest {
			t.Errorf("%s: after the fact %.12s, planned %.12s\n%s", said, again.Digest, plan.Digest, again.Report.Text())
		}
	}
	if plan.Report.Refused == "" {
		w.hadHeld = len(plan.Held) > 0
	}
	w.compare(said, plan, was, is)
}

// plan asks for the plan of a revision; from an old commit of "" it asks for that of HEAD.
func (w *plannedWeek) plan(said, rev, old string) (p api.Plan) {
	w.n.t.Helper()
	if strings.HasPrefix(rev, "..") {
		rev = "HEAD" // nothing runs yet
	}
	begun := time.Now()
	stdout, stderr, code := w.n.ShoalIn(w.repo.Dir, "", "plan", rev, "-e", "dev", "-o", "json")
	w.took = append(w.took, time.Since(begun))
	if err := json.Unmarshal([]byte(stdout), &p); err != nil || p.Report == nil || code != 0 && len(p.Problems) == 0 {
		w.n.t.Fatalf("%s: plan %s: %d %v\n%s%s", said, rev, code, err, stdout, stderr)
	}
	if old != "" && p.Report.Running != "" {
		w.n.t.Errorf("%s: plan %s does not go from what runs:\n%s", said, rev, p.Report.Text())
	}
	return p
}

// set is what is active.
func (w *plannedWeek) set() *desired.Set {
	w.n.t.Helper()
	b, err := w.n.Client().Manifest(context.Background(), "dev")
	if errors.Is(err, api.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.n.t.Fatal(err)
	}
	set, err := desired.DecodeSet(b)
	if err != nil {
		w.n.t.Fatal(err)
	}
	return set
}

// active is the commit that runs.
func (w *plannedWeek) active() string {
	for _, e := range w.n.Status().Environments {
		if e.Name == "dev" {
			return e.Commit
		}
	}
	return ""
}

// rests says whether a commit was judged and carried out.
func (w *plannedWeek) rests(head string) error {
	s := w.n.Status()
	judged := false
	for _, e := range s.Environments {
		for _, p := range e.Problems {
			if strings.HasPrefix(p.File, "(not judged") {
				return errors.New(p.Text) // it is tried again
			}
		}
		judged = judged || e.Name == "dev" && (e.Commit == head || e.Candidate == head)
	}
	if !judged {
		return fmt.Errorf("commit %s is not judged", head)
	}
	want := 0
	for _, r := range s.Rollouts {
		if r.Ready != r.Want || r.State != "Complete" {
			return fmt.Errorf("%s: %d of %d are ready, %s", r.Name, r.Ready, r.Want, r.State)
		}
		want += r.Want
	}
	return w.n.podsReady(want)
}

var podOfCgroup = regexp.MustCompile(`/pod([^/]+)/`)

// pods are those that run, by uid, once all have their processes: a container counts as running a moment before its
// program is its first process.
func (w *plannedWeek) pods() (out map[string]ran) {
	w.n.t.Helper()
	w.n.Eventually(soon, func() error {
		processes := map[string]string{}
		for _, pid := range w.n.containerPIDs("/probe") {
			dir := "/proc/" + strconv.Itoa(pid)
			cgroup, _ := os.ReadFile(dir + "/cgroup")
			stat, _ := os.ReadFile(dir + "/stat")
			fields := strings.Fields(string(stat))
			if m := podOfCgroup.FindStringSubmatch(string(cgroup)); m != nil && len(fields) > 21 {
				processes[m[1]] = fmt.Sprintf("%d since %s", pid, fields[21])
			}
		}
		out = map[string]ran{}
		for _, p := range w.n.Status().Pods {
			app, _, _ := strings.Cut(p.Name, "-")
			if processes[p.UID] == "" {
				return fmt.Errorf("pod %s has no process", p.Name)
			}
			out[p.UID] = ran{app, processes[p.UID]}
		}
		return nil
	})
	return out
}

// compare holds what became of the pods against the plan.
func (w *plannedWeek) compare(said string, plan api.Plan, was, is map[string]ran) {
	t := w.n.t
	t.Helper()
	gone, made, goOn := map[string]int{}, map[string]int{}, 0
	for uid, p := range was {
		now, there := is[uid]
		switch {
		case !there:
			gone[p.app]++
			continue
		case now != p:
			t.Errorf("%s: a pod of %s that goes on is another process: %s, was %s", said, p.app, now.process, p.process)
		default:
			w.kept++
		}
		goOn++
	}
	if goOn != plan.Report.PodsGoOn {
		t.Errorf("%s: %d pods went on, planned %d\n%s", said, goOn, plan.Report.PodsGoOn, plan.Report.Text())
	}
	for uid, p := range is {
		if _, there := was[uid]; !there {
			made[p.app]++
		}
	}
	for _, c := range plan.Pods {
		w.touched++
		k := 0
		if _, err := fmt.Sscanf(c.Why, "%d pod", &k); err != nil {
			t.Fatalf("%s: %s: %v", said, c.Why, err)
		}
		app := strings.TrimPrefix(c.Name, "Deployment dev/")
		switch c.Op {
		case "restart":
			gone[app] -= k
			made[app] -= k
		case "remove":
			gone[app] -= k
		default:
			made[app] -= k
		}
	}
	for what, counts := range map[string]map[string]int{"stopped": gone, "started": made} {
		for app, k := range counts {
			if k != 0 {
				t.Errorf("%s: %d more pods of %s %s than planned\n%s", said, k, app, what, plan.Report.Text())
			}
		}
	}
}
