package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/diff"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// TestFeature_G3_PlanIsWhatIsDone: 300 random commits, rendered, planned, activated and carried out by Step. The plan's
// digest is that of what was done, its pods are those that went and came, and what it did not name was not touched.
// SHOAL_SEED repeats a run that has failed.
func TestFeature_G3_PlanIsWhatIsDone(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("SHOAL_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if t.Failed() {
			t.Logf("SHOAL_SEED=%d", seed)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w := newWeek(t, rand.New(rand.NewPCG(seed, 0)))
		for w.commits = range 300 {
			w.commit()
			if t.Failed() {
				return
			}
		}
		for what, n := range map[string]int{"changed": w.changed, "changed nothing": w.same, "held": w.held, "refused": w.refused, "not compared with what runs": w.elsewhere} {
			if n == 0 {
				t.Errorf("no commit was %s", what)
			}
		}
	})
}

// week is a ring in memory whose repository changes at random.
type week struct {
	t   *testing.T
	rng *rand.Rand
	m   *machine
	u   *worked
	d   *Deployer
	n   *Node
	by  *enginetest.Manifests

	commits                                 int
	done                                    map[source.ID]*desired.Set // what commits without problems came to
	clean                                   []source.ID                // the keys of done, in order
	changed, same, held, refused, elsewhere int
}

func newWeek(t *testing.T, rng *rand.Rand) *week {
	m := newMachine(t)
	m.ring.Up(3)
	u := &worked{upstream: newUpstream(), trees: map[source.ID]source.Tree{}, commits: map[source.ID]source.Commit{}, items: map[source.ID][]source.Item{}, blobs: map[source.ID][]byte{}, rendered: map[string]Rendered{}}
	d := NewDeployer(DeployOptions{
		Ledger: (*memLedger)(m), Content: memContent{Store: m.ring.Content}, Source: u, Renderer: u, Images: u, Branch: dev.Ref, Journal: NewJournal(), Log: slog.New(slog.DiscardHandler),
	})
	return &week{
		t: t, rng: rng, m: m, u: u, d: d, n: &Node{Agent: m.agent(), Deployer: d, Mirror: u},
		by: enginetest.NewManifests(rng, []string{"serve"}, "shoal.local/probe:v1", "shoal.local/probe:v2"), done: map[source.ID]*desired.Set{},
	}
}

// commit plans a random change, pushes it, lets all settle, and compares.
func (w *week) commit() {
	what := "the first"
	if w.commits > 0 {
		what = w.by.Change()
	}
	files := fstest.MapFS{}
	for name, text := range w.by.Files() {
		files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	tree, err := source.FromFS(files, source.FSOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	id := source.ID(fmt.Sprintf("%040x", w.commits+1))
	message := "subject\n"
	if w.rng.IntN(2) == 0 {
		message += "\nShoal-Allow-Delete: all\n"
	}
	c := source.Commit{ID: id, Message: message, Author: source.Person{Name: "Ann", Email: "ann@shop.example"}}
	said := fmt.Sprintf("commit %d (%s)", w.commits, what)

	req := api.PlanRequest{Environment: "dev", To: w.bring(tree, c)}
	from := source.ID("")
	if len(w.clean) > 0 && w.rng.IntN(2) == 0 {
		from = w.clean[w.rng.IntN(len(w.clean))]
		req.From = &api.Tree{Revision: string(from)}
	}
	req.Objects = w.u.brought
	log, hash := len(w.m.ring.Log), w.m.ring.State.Hash()
	plan, err := w.n.Plan(w.t.Context(), req)
	if err != nil {
		w.t.Fatalf("%s: %v", said, err)
	}
	if len(w.m.ring.Log) != log || w.m.ring.State.Hash() != hash {
		w.t.Errorf("%s: the plan changed the ring", said)
	}

	before, was := w.active(), w.pods()
	w.u.push(w.t, tree, c)
	verdicts, err := w.d.Look(w.t.Context(), io.Discard)
	if err != nil || len(verdicts) != 1 {
		w.t.Fatalf("%s: %v, %v", said, verdicts, err)
	}
	w.settle()
	after, is := w.active(), w.pods()
	v := verdicts[0]

	did := diff.Digest(before, after)
	if plan.Report.Refused != "" && did != diff.Digest(nil, nil) {
		w.t.Errorf("%s: something was done", said)
	}
	running := before != nil && w.done[from] != nil && w.done[from].D == before.D
	switch {
	case plan.Report.Refused != "":
		w.refused++
		if v.Accepted {
			w.t.Errorf("%s: the plan says that it would not be accepted: %s", said, plan.Report.Refused)
		}
	case from == "" || running:
		if did != plan.Report.Digest {
			w.t.Errorf("%s: done %.12s, planned %.12s\n%s", said, did, plan.Report.Digest, plan.Report.Text())
		}
	default:
		w.elsewhere++
		if want := diff.Digest(w.done[from], after); len(v.Held) == 0 && plan.Report.Digest != want {
			w.t.Errorf("%s: from %s to it are %.12s, planned %.12s\n%s", said, from.Short(), want, plan.Report.Digest, plan.Report.Text())
		}
		if plan.Report.Running == "" {
			w.t.Errorf("%s: the plan does not say that its pods go from what runs", said)
		}
	}
	if plan.Report.Refused == "" && len(v.Held) != len(plan.Held) {
		w.t.Errorf("%s: held %v, planned %v", said, v.Held, plan.Held)
	}
	if plan.Report.Refused == "" {
		w.compare(said, plan, was, is)
	}
	if v.Accepted && len(v.Problems) == 0 {
		w.done[id] = after
		w.clean = append(w.clean, id)
	}
	if len(v.Held) > 0 {
		w.held++
	}
	if before != nil && before.D == after.D {
		w.same++
	} else {
		w.changed++
	}
}

// compare holds what became of pods against the plan.
func (w *week) compare(said string, plan api.Plan, was, is map[control.PodID]string) {
	goneOf, madeOf, goOn := map[string]int{}, map[string]int{}, 0
	for id, object := range was {
		if _, there := is[id]; there {
			goOn++
		} else {
			goneOf[object]++
		}
	}
	for id, object := range is {
		if _, there := was[id]; !there {
			madeOf[object]++
		}
	}
	for _, c := range plan.Pods {
		n := 0
		if _, err := fmt.Sscanf(c.Why, "%d pod", &n); err != nil {
			w.t.Fatalf("%s: %s: %v", said, c.Why, err)
		}
		switch c.Op {
		case "restart":
			goneOf[c.Name] -= n
			madeOf[c.Name] -= n
		case "remove":
			goneOf[c.Name] -= n
		case "create", "wait":
			madeOf[c.Name] -= n
		}
	}
	for kind, counts := range map[string]map[string]int{"stopped": goneOf, "started": madeOf} {
		for object, n := range counts {
			if n != 0 {
				w.t.Errorf("%s: %d more pods of %s were %s than planned\n%s", said, n, object, kind, plan.Report.Text())
			}
		}
	}
	if goOn != plan.Report.PodsGoOn {
		w.t.Errorf("%s: %d pods went on, planned %d", said, goOn, plan.Report.PodsGoOn)
	}
}

// bring is the tree as a request names it; its objects are those that the mirror lacks.
func (w *week) bring(tree source.Tree, c source.Commit) *api.Tree {
	w.u.brought = nil
	root, err := source.Walk(tree, func(id source.ID) bool { return !w.u.Has(id) }, func(_ source.ID, kind string, raw []byte) error {
		w.u.brought = append(w.u.brought, api.GitObject{Kind: kind, Data: raw})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return &api.Tree{Name: "next", Root: string(root), Commit: string(c.ID), Message: c.Message}
}

func (w *week) active() *desired.Set {
	e, ok := w.m.ring.State.Environments().Get("dev")
	if !ok {
		return nil
	}
	set, err := readSet(w.m.ring.Content, e.D)
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

// pods are those that are to run, with the object in Git that they are of.
func (w *week) pods() map[control.PodID]string {
	out := map[control.PodID]string{}
	for p := range w.m.ring.State.Pods().Values() {
		if p.Deleting == 0 {
			out[p.ID] = workload(w.m.ring.State, p).String()
		}
	}
	return out
}

// settle lets nodes on which all goes well carry out what is to be done.
func (w *week) settle() {
	for range 100 {
		w.m.ring.Settle()
		busy := false
		for dep := range w.m.ring.State.Deployments().Values() {
			busy = busy || dep.State == control.Progressing
		}
		if !busy {
			time.Sleep(time.Until(time.UnixMilli(w.m.ring.Now)))
			return
		}
		w.m.ring.Advance(1)
	}
	w.t.Fatal("the ring does not settle")
}

// worked is the repository of a week: its commits, rendered in this process.
type worked struct {
	*upstream
	trees    map[source.ID]source.Tree
	commits  map[source.ID]source.Commit
	head     source.ID
	items    map[source.ID][]source.Item
	blobs    map[source.ID][]byte
	rendered map[string]Rendered // by directory and its id
	brought  []api.GitObject
}

func (u *worked) push(t *testing.T, tree source.Tree, c source.Commit) {
	root, err := source.Walk(tree, func(id source.ID) bool { return !u.Has(id) }, func(id source.ID, kind string, raw []byte) error {
		if kind == "blob" {
			u.blobs[id] = raw
			return nil
		}
		var err error
		u.items[id], err = source.ParseTree(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Tree = root
	u.trees[c.ID], u.commits[c.ID], u.head = source.New(c.ID, root, u), c, c.ID
}

func (u *worked) Has(id source.ID) bool {
	return u.items[id] != nil || u.blobs[id] != nil || u.trees[id] != nil
}

func (u *worked) Items(id source.ID) ([]source.Item, error) {
	if items, ok := u.items[id]; ok {
		return items, nil
	}
	return nil, fs.ErrNotExist
}

func (u *worked) Blob(id source.ID) ([]byte, error) {
	if b, ok := u.blobs[id]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (u *worked) Objects() source.Objects { return u }
func (u *worked) Refs() []source.Ref      { return []source.Ref{{Name: dev.Ref, ID: u.head}} }
func (u *worked) Log(context.Context, source.ID, int) ([]source.Commit, error) {
	return nil, errors.New("nobody asks")
}

func (u *worked) Tree(_ context.Context, id source.ID) (source.Tree, error) {
	return u.trees[id], nil
}

func (u *worked) Commit(_ context.Context, id source.ID) (source.Commit, error) {
	return u.commits[id], nil
}

// Raw is a commit as Git has it.
func (u *worked) Raw(id source.ID) (kind string, raw []byte, err error) {
	c, ok := u.commits[id]
	if !ok {
		return "", nil, fs.ErrNotExist
	}
	c.Committer = c.Author
	return "commit", source.EncodeCommit(c), nil
}

func (u *worked) Head(context.Context, string) (source.ID, bool, error) {
	return u.head, u.head != "", nil
}

func (u *worked) Relate(context.Context, source.ID, source.ID) (source.Relation, error) {
	return source.Forward, nil
}

func (u *worked) Resolve(context.Context, string) (string, error) {
	return "sha256:" + strings.Repeat("0", 64), nil
}

func (u *worked) Environments(_ context.Context, tree source.Tree) ([]render.Environment, render.Problems, error) {
	list, problems := render.Environments(tree)
	return list, problems, nil
}

// Render evaluates the apps whose directories it has not seen; nothing else in a week's repository matters to an app.
func (u *worked) Render(_ context.Context, tree source.Tree, env render.Environment) ([]Rendered, error) {
	names, err := render.Apps(tree)
	if err != nil {
		return nil, err
	}
	out := make([]Rendered, len(names))
	for i, name := range names {
		at, err := tree.Lookup("apps/" + name)
		if err != nil {
			return nil, err
		}
		key := name + " " + string(at.ID)
		if _, ok := u.rendered[key]; !ok {
			compiled, blobs := desired.Compile(env, render.Eval(tree, env, []string{name})[0])
			u.rendered[key] = Rendered{App: compiled, Blobs: func() ([]desired.Blob, error) { return blobs, nil }}
		}
		out[i] = u.rendered[key]
	}
	return out, nil
}
