package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// other is another node of the ring of ds, with a repository of the same commits.
func (ds *deploys) other(renders *OwnRenders) *deploys {
	u := *ds.u
	u.renders = 0
	a := ds.m.agent()
	a.opt.Renders = renders
	d := NewDeployer(DeployOptions{
		Node: enginetest.Node(1).ID, Renders: renders, Ledger: (*memLedger)(ds.m), Content: memContent{Store: ds.m.ring.Content}, Source: &u, Renderer: &u, Images: &u,
		Branch: dev.Ref, Journal: a.journal, Log: slog.New(slog.DiscardHandler),
	})
	n := *ds.n
	n.Deployer, n.Agent = d, a
	return &deploys{ds.t, ds.m, &u, d, &n}
}

func ownRenders(t *testing.T, path string) *OwnRenders {
	t.Helper()
	r, err := OpenOwnRenders(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run starts the node's loop until the test ends.
func (ds *deploys) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = ds.n.Agent.Run(ctx) }()
	ds.t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

// lacking counts what of an environment has not come out of renders of the node's own.
func (ds *deploys) lacking(environment string) int { return len(ds.d.lacking(environment)) }

// A node that comes late renders what runs before it begins pods; it does so once, and never again as long as its record is
// there.
func TestOwnRenderOfWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "renders")
		first := newDeploys(t)
		first.m.images["web:v1"], first.m.images["api:v1"] = true, true
		first.u.push(deployment("web") + "---\n" + service("web"))
		first.look()
		late := first.other(ownRenders(t, path))
		late.run()
		expect(t, "not rendered yet", late.m.did(), "")
		if got := late.pods(); got != "web: NotRendered" {
			t.Errorf("pods: %s", got)
		}
		where := func(want string) {
			t.Helper()
			e := late.n.Where().Environments["dev"]
			if got := fmt.Sprintf("%.2s %.4s %s", e.Commit, e.Digest, e.Problem); got != want {
				t.Errorf("where: %s, want %s", got, want)
			}
		}
		where("01  2 objects that the ring runs are not rendered by this node")
		late.look()
		synctest.Wait()
		where(fmt.Sprintf("01 %.4s ", first.d.active("dev").D))
		if late.u.renders != 1 || late.lacking("dev") != 0 {
			t.Errorf("%d renders, and %d objects are lacking", late.u.renders, late.lacking("dev"))
		}
		expect(t, "rendered", late.m.did(), "0s start web:v1 #0\n0s 1 endpoints")
		late.look()
		if late.u.renders != 1 {
			t.Errorf("rendered again: %d times", late.u.renders)
		}

		again := late.other(ownRenders(t, path))
		if n := again.lacking("dev"); n != 0 {
			t.Errorf("after a restart %d objects are lacking", n)
		}
		if again.look(); again.u.renders != 0 {
			t.Errorf("rendered %d times after a restart", again.u.renders)
		}
		if err := os.WriteFile(path, []byte("{torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		again = late.other(ownRenders(t, path))
		if again.look(); again.u.renders != 1 || again.lacking("dev") != 0 {
			t.Errorf("without a record: %d renders, %d objects are lacking", again.u.renders, again.lacking("dev"))
		}
	})
}

// Where a node is goes by what the ring runs, when that has followed a commit which the node has judged itself.
func TestOwnRenderFollowsAVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newDeploys(t)
		first.m.images["web:v1"] = true
		first.u.push(deployment("web"))
		late := first.other(ownRenders(t, filepath.Join(t.TempDir(), "renders")))
		late.look()
		where := func() string { return late.n.Where().Environments["dev"].Commit[:2] }
		if got := where(); got != "01" || !late.d.Verdicts()["dev"].Accepted {
			t.Fatalf("where: %s, %+v", got, late.d.Verdicts())
		}
		first.u.push(deployment("web") + "---\n" + service("web"))
		first.look()
		late.u.head = first.u.head
		l, err := late.d.list(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := late.d.renderActive(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		if got := where(); got != "02" {
			t.Errorf("where: %s, want the commit that runs", got)
		}
	})
}

// pods are the status of each pod by the app that it is of, as it is shown.
func (ds *deploys) pods() string {
	ds.t.Helper()
	s, err := ds.n.Status(ds.t.Context())
	if err != nil {
		ds.t.Fatal(err)
	}
	var out []string
	for _, p := range s.Pods {
		out = append(out, strings.Split(p.Name, "-")[0]+": "+p.Status)
	}
	return strings.Join(out, ", ")
}

// A node whose renderer comes to something else begins none of the pods that differ, and says so; those that it runs go on.
func TestOwnRenderDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newDeploys(t)
		for _, image := range []string{"web:v1", "api:v1", "db:v1"} {
			first.m.images[image] = true
		}
		first.u.push(deployment("web"))
		first.look()
		differs := first.other(ownRenders(t, filepath.Join(t.TempDir(), "renders")))
		differs.look()
		differs.run()
		expect(t, "at first", differs.m.did(), "0s start web:v1 #0")

		first.u.push(deployment("web") + "---\n" + deployment("api") + "---\n" + deployment("db"))
		*differs.u = *first.u
		differs.u.edit = func(text string) string {
			return strings.Replace(text, `"api:v1", imagePullPolicy: IfNotPresent`, `"api:v1", imagePullPolicy: Always`, 1)
		}
		first.look()
		synctest.Wait()
		differs.look()
		synctest.Wait()
		expect(t, "what is alike is begun", differs.m.did(), "0s start db:v1 #0")
		if got := differs.pods(); got != "api: RenderMismatch, db: Running, web: Running" {
			t.Errorf("pods: %s", got)
		}
		own := differs.status()
		if !strings.Contains(own, "RenderMismatch: 1 objects that the ring runs are in no commit that this node has rendered: this node's render of commit 02") ||
			strings.Count(own, ", the ring runs ") != 1 {
			t.Errorf("status: %s", own)
		}
		if e := differs.n.Where().Environments["dev"]; !strings.HasPrefix(e.Problem, "RenderMismatch: ") {
			t.Errorf("where: %+v", e)
		}
		renders := differs.u.renders
		for range 3 {
			differs.look()
		}
		if differs.u.renders != renders {
			t.Error("it renders again and again")
		}
		// What runs is started again, whatever the node would make of it now.
		first.m.exit("web:v1", 1)
		expect(t, "a container that ended", differs.m.did(), "0s start web:v1 #1")

		differs.u.edit = nil
		first.u.push(deployment("web") + "---\n" + deployment("api") + "---\n" + deployment("db") + "---\n" + service("web"))
		*differs.u = *first.u
		first.look()
		differs.look()
		synctest.Wait()
		if got := differs.pods(); got != "api: Running, db: Running, web: Running" || strings.Contains(differs.status(), "RenderMismatch") {
			t.Errorf("the renderer is mended: %s, %s", got, differs.status())
		}
	})
}

// What the ring runs of older commits is found there: an app that is held, an environment that was declared otherwise.
func TestOwnRenderOfOlderCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "renders")
		first := newDeploys(t)
		first.u.push(deployment("web"))
		first.look()
		first.u.push("problem")
		first.look()
		if held := first.d.active("dev").Held; fmt.Sprint(held) != "[web]" {
			t.Fatalf("held: %v", held)
		}
		late := first.other(ownRenders(t, path+"1"))
		if late.look(); late.lacking("dev") != 0 {
			t.Errorf("of an app that is held %d objects are lacking", late.lacking("dev"))
		}

		first.u.declare("two environments", dev, prod)
		first.u.pushTo(prod.Ref, deployment("api"))
		first.look()
		if first.d.active("prod") == nil {
			t.Fatal("it does not run")
		}
		elsewhere := prod
		elsewhere.Namespace = "elsewhere"
		first.u.declare("another namespace", dev, elsewhere)
		for range 3 {
			first.u.declare("news", dev, elsewhere)
		}
		late = first.other(ownRenders(t, path+"2"))
		if late.look(); late.lacking("prod") != 0 {
			t.Errorf("of an environment that was declared otherwise %d objects are lacking: %s", late.lacking("prod"), late.status())
		}
		first.u.declare("no more of it", dev)
		late = first.other(ownRenders(t, path+"3"))
		if late.look(); late.lacking("prod") != 0 {
			t.Errorf("of an environment that is declared no longer %d objects are lacking: %s", late.lacking("prod"), late.status())
		}
	})
}

// A commit that is not here yet is no fault: it is looked at when it is there.
func TestOwnRenderOfAnAbsentCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newDeploys(t)
		first.u.push(deployment("web"))
		first.look()
		first.u.push(deployment("web") + "---\n" + deployment("api"))
		first.look()
		late := first.other(ownRenders(t, filepath.Join(t.TempDir(), "renders")))
		late.u.texts = map[source.ID]string{first.u.order[0]: first.u.texts[first.u.order[0]]}
		late.u.head = first.u.order[0]
		if said := late.look(); said != "" {
			t.Errorf("it says %q", said)
		}
		late.run()
		if got := late.pods(); got != "api: NotRendered, web: NotRendered" {
			t.Errorf("pods: %s", got)
		}
		late.m.images["web:v1"], late.m.images["api:v1"] = true, true
		*late.u = *first.u
		late.look()
		synctest.Wait()
		if got := late.pods(); got != "api: Running, web: Running" {
			t.Errorf("pods: %s", got)
		}
	})
}

// ringOf is a ring in which this node leads, or not.
type ringOf struct{ leads bool }

func (r *ringOf) Voters() []place.NodeID { return []place.NodeID{enginetest.Node(1).ID} }
func (r *ringOf) Leading() bool          { return r.leads }
func (r *ringOf) Vote(context.Context, Vote) (Decision, error) {
	return Decision{}, errors.New("nobody leads")
}

// Who sees the word that retires an environment waits for the leader, and does it as soon as it leads itself.
func TestLeaderRetires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		ds.u.push(deployment("web"))
		ds.u.declare("two", dev, prod)
		ds.u.pushTo(prod.Ref, deployment("api"))
		ds.look()
		r := &ringOf{}
		ds.d.opt.Ring, ds.d.opt.Votes = r, NewVotes()
		ds.u.declare("one\n\nShoal-Retire: prod\n", dev)
		if said := ds.look(); !strings.Contains(said, "the leader has not retired it yet") || ds.d.active("prod") == nil {
			t.Errorf("one that does not lead says %q", said)
		}
		go func() {
			time.Sleep(time.Second)
			_, _ = (*memLedger)(ds.m).Append(context.Background(), cluster.Input{Retire: &cluster.Retire{Environment: "prod", Why: "by another"}})
		}()
		begun := time.Now()
		if said := ds.look(); !strings.Contains(said, "prod: retired by commit") || time.Since(begun) > 1100*time.Millisecond {
			t.Errorf("after %s: %q", time.Since(begun), said)
		}

		ds.u.declare("two again", dev, prod)
		r.leads = true
		ds.look()
		ds.u.declare("one\n\nShoal-Retire: prod\n", dev)
		if said := ds.look(); !strings.Contains(said, "prod: retired by commit") || ds.d.active("prod") != nil {
			t.Errorf("the leader says %q", said)
		}
	})
}

// A node that lacks the bytes of what runs, since the ring activated it by the word of others, has them once it has rendered that:
// the next commit is compared with them. So it is when it finds that others were quicker with a commit that it could not judge.
func TestOwnRenderIsKept(t *testing.T) {
	for _, quicker := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			first := newDeploys(t)
			first.u.push(deployment("web") + "---\n" + service("web"))
			first.look()
			late := first.other(ownRenders(t, filepath.Join(t.TempDir(), "renders")))
			store, lost := maps.Clone(first.m.ring.Content), 0
			for o := range first.m.ring.State.ObjectsOf("dev") {
				if o.Key.Kind == "Service" {
					delete(store, o.Digest)
					lost++
				}
			}
			late.d.opt.Content = memContent{Store: store}
			if quicker {
				late.d.opt.Renders = nil
				late.d.note(Verdict{Environment: "dev", Commit: first.d.active("dev").Commit, Err: errors.New("no majority")})
			}
			late.look()
			if lost != 1 || len(store) != len(first.m.ring.Content) {
				t.Errorf("quicker %v: %d of %d blobs are here, %d were taken away", quicker, len(store), len(first.m.ring.Content), lost)
			}
		})
	}
}
