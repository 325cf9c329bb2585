package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// memForge is a forge and its repository in memory, of which each answer may be another.
type memForge struct {
	u         *upstream
	list      PullList
	err       error
	approves  map[int]source.ID // heads that a maintainer has approved
	asked     [][]int
	marks     map[int]string // what each pull request shows
	refuses   error          // statuses
	conflicts map[source.ID][]string
	lacks     map[source.ID]bool // heads that do not come
	hosts     string             // the ref at which it has its own merge
	merges    int
	branches  []source.Ref
	branchErr error
}

func (f *memForge) Pulls(_ context.Context, known []int) (PullList, error) {
	f.asked = append(f.asked, known)
	out := f.list
	out.Open = slices.Clone(f.list.Open)
	return out, f.err
}

func (f *memForge) Approved(_ context.Context, number int, label string, head source.ID, seenAt time.Time) (bool, error) {
	if label != "ok" || seenAt.IsZero() {
		return false, fmt.Errorf("label %q, seen at %s", label, seenAt)
	}
	return f.approves[number] == head, nil
}

func (f *memForge) Show(_ context.Context, s Shown) error {
	if f.refuses != nil && s.Number == 1 {
		return f.refuses
	}
	f.marks[s.Number] = s.State + " " + s.Line
	return nil
}

func (f *memForge) Hide(_ context.Context, number int, environment, comment string) error {
	f.marks[number] = environment + " " + comment
	return nil
}

func (f *memForge) Has(id source.ID) bool { _, ok := f.u.texts[id]; return ok && !f.lacks[id] }

func (f *memForge) Merge(_ context.Context, base, head source.ID, c source.Commit) (source.ID, []string, error) {
	f.merges++
	if c.Author != c.Committer || c.Author.Name != "shoal" {
		return "", nil, fmt.Errorf("by %s", c.Author)
	}
	if list := f.conflicts[head]; len(list) > 0 {
		return "", list, nil
	}
	id := source.ObjectID("commit", []byte(base+head))
	f.u.texts[id], f.u.parents[id] = f.u.texts[head], []source.ID{base, head}
	return id, nil, nil
}

func (f *memForge) HostMerge(_ context.Context, ref string, base, head source.ID, _ source.Commit) (source.ID, error) {
	if f.hosts != ref {
		return "", nil
	}
	id := source.ObjectID("commit", []byte("the forge's"+base+head))
	f.u.texts[id], f.u.parents[id] = f.u.texts[head], []source.ID{base, head}
	return id, nil
}

func (f *memForge) Branches(context.Context) ([]source.Ref, error) { return f.branches, f.branchErr }

func (f *memForge) Take(_ context.Context, refs []source.Ref) error {
	for _, r := range refs {
		delete(f.lacks, r.ID)
	}
	return nil
}

// previewed is a node that leads and sees to previews when a test says so.
type previewed struct {
	*deploys
	f *memForge
	p *Previewing
}

func newPreviewed(t *testing.T, policy string) *previewed {
	ds := newDeploys(t)
	s := &previewed{deploys: ds, f: &memForge{u: ds.u, approves: map[int]source.ID{}, marks: map[int]string{}, conflicts: map[source.ID][]string{}, lacks: map[source.ID]bool{}}}
	ds.d.opt.Merger = s.f
	s.f.list.At, s.f.list.Complete = time.Now(), true
	s.u.push(deployment("web"))
	s.policy(policy)
	s.lead()
	return s
}

// lead begins anew, as a node does that has just become the leader.
func (s *previewed) lead() {
	s.p = NewPreviewing(PreviewingOptions{
		Deployer: s.d, Leading: func() bool { return true }, Forge: func() Forge { return s.f }, Log: slog.New(slog.DiscardHandler),
		Comment: func(e preview.Environment) (string, string, string, string) {
			return "success", "runs " + e.Note, "", ""
		},
		Farewell: func(g preview.Gone) string { return g.Why },
	})
	s.n.Previewing = s.p
}

// policy pushes what shoal.cue says of previews to the default branch.
func (s *previewed) policy(text string) {
	s.t.Helper()
	e := dev
	e.Policy.Previews = []byte(text)
	if text == "" {
		e.Policy.Previews = nil
	}
	s.u.declare("policy", e)
	s.look()
}

// pull lists a pull request whose newest commit has a text.
func (s *previewed) pull(number int, text string, change ...func(*OpenPull)) source.ID {
	o := OpenPull{HeadRef: fmt.Sprintf("refs/pull/%d/head", number), Pull: preview.Pull{
		Number: number, Branch: fmt.Sprint("topic-", number), Author: "ann", Base: "main", Head: s.u.add(text), Opened: int64(number), Updated: time.Now().UnixMilli(),
	}}
	for _, c := range change {
		c(&o)
	}
	s.f.list.Open = slices.DeleteFunc(s.f.list.Open, func(p OpenPull) bool { return p.Number == number })
	s.f.list.Open = append(s.f.list.Open, o)
	return o.Head
}

func (s *previewed) closed(number int) {
	s.f.list.Open = slices.DeleteFunc(s.f.list.Open, func(p OpenPull) bool { return p.Number == number })
}

// sees lets the leader look, and the deployer, and says which previews there are, what each runs, and what waits.
func (s *previewed) sees() string {
	s.t.Helper()
	var out []string
	if err := s.p.round(s.t.Context()); err != nil {
		out = append(out, "error: "+err.Error())
	}
	s.look()
	all, err := s.n.Previews(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range all.Previews {
		line := p.Name + " shows " + strings.TrimLeft(string(p.Head[:2]), "0")
		if e := s.d.active(p.Name); e == nil || e.Commit != p.Commit {
			line += ", does not run it"
		}
		if p.Sandbox != (preview.Sandbox{}) {
			line += ", sandboxed"
		}
		if p.Note != "" {
			line += ": " + p.Note
		}
		out = append(out, line)
	}
	for _, w := range all.Waiting {
		out = append(out, w.Name+" waits: "+w.Why)
	}
	for _, e := range slices.Sorted(maps.Keys(s.environments())) {
		if e != "dev" && !slices.ContainsFunc(out, func(line string) bool { return strings.HasPrefix(line, e+" ") }) {
			out = append(out, e+" runs, and is no preview")
		}
	}
	return strings.Join(out, "\n")
}

func (s *previewed) environments() map[string]bool {
	out := map[string]bool{}
	s.d.opt.Ledger.View(func(st *cluster.State) {
		for e := range st.Environments().Values() {
			out[e.Name] = true
		}
	})
	return out
}

func (s *previewed) step(what, want string) {
	s.t.Helper()
	if got := s.sees(); got != want {
		s.t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

const pullsPolicy = `{"from": "pulls", "quota": 2, "forks": {"approval": "ok"}}`

// No answer of a forge that is not a whole and good list takes a preview away; what it says to be closed goes all the same.
func TestFault_P4_NonsenseClosesNothing(t *testing.T) {
	s := newPreviewed(t, pullsPolicy)
	s.pull(1, deployment("one"))
	s.pull(2, deployment("two"))
	both := "pr-1 shows 3\npr-2 shows 4"
	s.step("opened", both)
	open := s.f.list
	s.f.err, s.f.list = errors.New("502 Bad Gateway"), PullList{}
	s.step("an error", "error: 502 Bad Gateway\n"+both)
	s.f.err = nil
	s.f.list = PullList{Complete: false, Why: "half of it"}
	note := ": the list of pull requests is not complete, so nothing is taken away"
	s.step("an incomplete list", "pr-1 shows 3"+note+"\npr-2 shows 4"+note)
	s.f.list = PullList{Complete: true, Unknown: []int{1, 2}}
	note = ": the forge neither lists nor finds it, which is no proof that it is closed"
	s.step("neither listed nor found", "pr-1 shows 3"+note+"\npr-2 shows 4"+note)
	s.f.list = open
	s.step("a good list", both)
	if got := s.f.asked[len(s.f.asked)-1]; !slices.Equal(got, []int{1, 2}) {
		t.Errorf("the forge is asked about %v", got)
	}
	s.u.pushTo("refs/heads/other", deployment("other"))
	s.u.push("no list")
	s.u.declared[s.u.head] = nil
	s.look()
	s.f.list = PullList{Complete: true}
	s.step("a shoal.cue that cannot be read", both)
	s.u.push(deployment("web"))
	s.policy(pullsPolicy)
	s.f.list = PullList{Complete: false, Closed: []int{1}}
	s.step("incomplete, and one is closed for sure", "pr-2 shows 4: the list of pull requests is not complete, so nothing is taken away")
	if s.f.marks[1] != "pr-1 it is closed" {
		t.Errorf("pull request 1 shows %q", s.f.marks[1])
	}
	s.policy("")
	s.step("shoal.cue says nothing of previews any more", "")
	s.f.err = errors.New("asked although there are none")
	s.step("and the forge is not asked", "")
}

// What previews may do is what the default branch says, not what a pull request brings; and where the newest commit there is not taken, it
// is what is active.
func TestFault_P3_PolicyOfTheBase(t *testing.T) {
	s := newPreviewed(t, `{"from": "pulls", "quota": 1}`)
	one := s.pull(1, deployment("one"))
	two := s.pull(2, deployment("two"))
	hostile := dev
	hostile.Policy.Previews = []byte(`{"from": "pulls", "quota": 500, "forks": {"approval": "ok"}}`)
	s.u.declared[one], s.u.declared[two] = []render.Environment{hostile}, []render.Environment{hostile}
	queue := "\npr-2 waits: all 1 previews are taken; it is number 1 in the queue"
	s.step("a pull request that wants more", "pr-1 shows 3"+queue)
	s.pull(3, deployment("three"), func(o *OpenPull) { o.Fork, o.Labels = true, []string{"ok"} })
	s.f.approves[3] = s.f.list.Open[2].Head
	s.step("a fork that brings its own rules", "pr-1 shows 3"+queue+"\npr-3 waits: it comes from a fork, and forks get no previews")
}

// Branches may be called anything; names of previews are labels, and nobody takes another's, or an environment's.
func TestFault_P4_HostileBranches(t *testing.T) {
	s := newPreviewed(t, `{"from": "**", "quota": 10}`)
	s.step("a pattern that is none", "error: shoal.cue: previews.from: expected pulls, or a pattern of branches like preview/* or feature/**")
	s.policy(`{"from": "p/**", "quota": 10}`)
	for _, name := range []string{"p/../../etc", "p/pr-1", "p/-rf", "p/" + strings.Repeat("x", 200), "p/a b", "p/A_b", "q/no", "main"} {
		s.f.branches = append(s.f.branches, source.Ref{Name: "refs/heads/" + name, ID: s.u.add(deployment("web"))})
	}
	s.sees()
	names := map[string]bool{}
	all, err := s.n.Previews(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all.Previews {
		names[p.Name] = true
		if strings.Trim(p.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(p.Name) > 63 || !strings.HasPrefix(p.Name, "br-") {
			t.Errorf("a preview is called %q", p.Name)
		}
		if s.d.active(p.Name) == nil {
			t.Errorf("%s does not run: %v", p.Name, p.Problems)
		}
	}
	if len(names) < 4 || len(all.Previews) != len(names) {
		t.Errorf("previews %v", all.Previews)
	}
	s.f.branchErr = errors.New("an empty list")
	if got := s.sees(); !strings.HasPrefix(got, "error: an empty list\nbr-") || strings.Count(got, "br-") != len(names) {
		t.Errorf("after an error:\n%s", got)
	}
	s.f.branchErr, s.f.branches = nil, nil
	s.step("all are deleted", "")
}

// A fork's commit is shown once that very commit is approved; a push drops it.
func TestFault_P1_Forks(t *testing.T) {
	s := newPreviewed(t, pullsPolicy)
	fork := func(labels ...string) source.ID {
		return s.pull(1, deployment("fork"), func(o *OpenPull) { o.Fork, o.Labels = true, labels })
	}
	waits := func(head source.ID) string {
		return fmt.Sprintf("pr-1 waits: it comes from a fork; a maintainer approves commit %s by the label \"ok\"", head.Short())
	}
	head := fork()
	s.step("without a label", waits(head))
	if want := "pending it comes from a fork; a maintainer approves commit " + head.Short() + ` by the label "ok"`; s.f.marks[1] != want {
		t.Errorf("it shows %q, want %q", s.f.marks[1], want)
	}
	head = fork("ok")
	s.step("a label that nobody who may has set", waits(head))
	s.f.approves[1] = head
	s.step("approved", "pr-1 shows 4, sandboxed")
	next := fork("ok")
	s.step("a push", waits(next))
	if len(s.environments()) != 1 {
		t.Errorf("environments %v", s.environments())
	}
	s.f.approves[1] = next
	s.step("approved again", "pr-1 shows 5, sandboxed")
	s.lead()
	delete(s.f.approves, 1) // a new leader does not know when the head was seen first
	s.step("another leader", "pr-1 shows 5, sandboxed")
}

// A new leader has nothing but the ledger, and changes nothing. What an old one missed it mends.
func TestFault_P5_LeaderChanges(t *testing.T) {
	s := newPreviewed(t, pullsPolicy)
	s.pull(1, deployment("one"))
	s.pull(2, deployment("two"))
	s.pull(3, deployment("three"))
	want := "pr-1 shows 3\npr-2 shows 4\npr-3 waits: all 2 previews are taken; it is number 1 in the queue"
	s.step("opened", want)
	if s.f.merges != 2 {
		t.Errorf("%d merges for 2 previews", s.f.merges)
	}
	before := s.m.ring.State.Index()
	s.lead()
	s.step("another leader", want)
	if now := s.m.ring.State.Index(); now != before {
		t.Errorf("a new leader appended %d entries", now-before)
	}
	s.closed(1) // while nobody looked
	s.lead()
	s.step("closed while nobody led", "pr-2 shows 4\npr-3 shows 5")

	// The old one's deployer activates what has gone meanwhile.
	s.closed(2)
	env := PreviewEnvironment(preview.Environment{Name: "pr-2", Number: 2})
	if err := s.p.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := s.d.deploy(t.Context(), env, s.u.head, false, nopWriter{}); !v.Accepted {
		t.Fatalf("not activated: %+v", v)
	}
	if !s.environments()["pr-2"] {
		t.Fatal("nothing to clean up")
	}
	s.step("an environment whose preview is gone", "pr-3 shows 5")
}

type nopWriter struct{}

func (nopWriter) Write(b []byte) (int, error) { return len(b), nil }

// A conflict keeps what was shown; heads that have not come wait; a pull request whose forge refuses a mark keeps no other from its own.
func TestFeature_V1_ConflictsAndMarks(t *testing.T) {
	s := newPreviewed(t, pullsPolicy)
	s.pull(1, deployment("one"))
	s.step("opened", "pr-1 shows 3")
	s.f.conflicts[s.pull(1, deployment("more"))] = []string{"web.yaml: both"}
	s.f.refuses = errors.New("403")
	late := s.pull(2, deployment("two"))
	s.f.lacks[late] = true
	s.step("a conflict", "pr-1 shows 3: it conflicts with main in \"web.yaml: both\"\npr-2 shows 5")
	if s.f.marks[2] != "success runs " {
		t.Errorf("marks %v", s.f.marks)
	}
	s.f.refuses = nil
	s.step("and it is shown", "pr-1 shows 3: it conflicts with main in \"web.yaml: both\"\npr-2 shows 5")
	if !strings.Contains(s.f.marks[1], "it conflicts with main") {
		t.Errorf("marks %v", s.f.marks)
	}
	s.f.conflicts[s.pull(3, deployment("x"))] = []string{"a: b"}
	s.policy(`{"from": "pulls", "quota": 3}`)
	s.sees()
	if s.f.marks[3] != `failure it conflicts with main in "a: b"` {
		t.Errorf("marks %v", s.f.marks)
	}
}

// Where our merge has a conflict, and the forge's has none, the forge's is shown, also when that comes later. Where ours has none nobody asks.
func TestFeature_V1_TheForgesMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPreviewed(t, pullsPolicy)
		merges := func(o *OpenPull) { o.MergeRef = "refs/pull/1/merge" }
		s.pull(1, deployment("one"), merges)
		s.step("opened", "pr-1 shows 3")
		s.f.conflicts[s.pull(1, deployment("more"), merges)] = []string{"web.yaml: both"}
		s.step("a conflict", "pr-1 shows 3: it conflicts with main in \"web.yaml: both\"")
		s.f.hosts = "refs/pull/1/merge"
		s.step("asked not long ago", "pr-1 shows 3: it conflicts with main in \"web.yaml: both\"")
		time.Sleep(mergeAgain + time.Second)
		s.step("asked again", "pr-1 shows 4")
	})
}

// A preview's time is counted from its newest commit: what is said on a pull request, by the ring itself too, gives it no more. What a forge
// has lost without a word goes when its time is over.
func TestFeature_V3_TimeToLive(t *testing.T) {
	s := newPreviewed(t, `{"from": "pulls", "quota": 3, "ttl": "1h", "pin": "keep"}`)
	s.u.when = map[source.ID]time.Time{}
	old := func(age time.Duration) func(*OpenPull) {
		return func(o *OpenPull) { s.u.when[o.Head] = time.Now().Add(-age) }
	}
	s.pull(1, deployment("one"), old(59*time.Minute))
	s.pull(2, deployment("two"), old(2*time.Hour))
	s.pull(3, deployment("three"), old(2*time.Hour), func(o *OpenPull) { o.Labels = []string{"keep"} })
	want := "pr-1 shows 3\npr-3 shows 5\npr-2 waits: its head was not updated for 1h0m0s"
	s.step("of three ages", want)
	s.step("and again", want)
	s.u.when[s.f.list.Open[0].Head] = time.Now().Add(-61 * time.Minute)
	s.step("time goes by", "pr-3 shows 5\npr-1 waits: its head was not updated for 1h0m0s\npr-2 waits: its head was not updated for 1h0m0s")
	for i := range s.f.list.Open {
		s.f.list.Open[i].Updated = time.Now().UnixMilli() // the comment that says so
	}
	s.step("a comment", "pr-3 shows 5\npr-1 waits: its head was not updated for 1h0m0s\npr-2 waits: its head was not updated for 1h0m0s")
}

// A node that comes to a preview which runs already renders it, though no shoal.cue declares it.
func TestFeature_V1_PreviewOnANodeThatJoins(t *testing.T) {
	s := newPreviewed(t, pullsPolicy)
	s.pull(1, deployment("one"))
	s.step("opened", "pr-1 shows 3")
	opt := s.d.opt
	var err error
	if opt.Renders, err = OpenOwnRenders(filepath.Join(t.TempDir(), "renders")); err != nil {
		t.Fatal(err)
	}
	joined := NewDeployer(opt)
	if lacks := joined.lacking("pr-1"); len(lacks) == 0 {
		t.Fatal("it knows a preview that it has not rendered")
	}
	if _, err := joined.Look(t.Context(), nopWriter{}); err != nil {
		t.Fatal(err)
	}
	if lacks := joined.lacking("pr-1"); len(lacks) > 0 {
		t.Errorf("it has not rendered %v: %+v", lacks, opt.Renders.explained("pr-1"))
	}
}

// A ring whose repository is another ring's makes and drops no preview, and says nothing on pull requests.
func TestFeature_R2_HeldRingHasNoPreviews(t *testing.T) {
	s := newPreviewed(t, pullsPolicy)
	s.pull(1, deployment("one"))
	s.step("opened", "pr-1 shows 3")
	c := newClaimed(&host{at: claimOf(otherRing, "shoal on n9", time.Now())})
	if _, err := c.repo.ReadClaim(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.d.opt.Claims = c.Claims
	s.closed(1)
	s.pull(2, deployment("two"))
	asked := len(s.f.asked)
	s.step("held", "pr-1 shows 3")
	if len(s.f.asked) != asked || s.f.marks[1] != "success runs " || s.f.marks[2] != "" {
		t.Errorf("asked %d times more, shows %v", len(s.f.asked)-asked, s.f.marks)
	}
	s.d.opt.Claims = nil
	s.step("its own again", "pr-2 shows 4")
}

// TestFeature_V5_IdleCountsRequests: previews fall asleep when nobody asked for them at any node for as long as shoal.cue says, and not before; the
// ring is told of requests four times in that time at most, and of none to what sleeps.
func TestFeature_V5_IdleCountsRequests(t *testing.T) {
	const idle = 400 * time.Millisecond
	s := newPreviewed(t, `{"from": "pulls", "quota": 2, "idle": "400ms"}`)
	s.pull(1, deployment("one")+"---\n"+`{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}}`)
	s.sees()
	asleep := func() (asleep bool) {
		s.sees()
		s.d.opt.Ledger.View(func(st *cluster.State) {
			p, ok := st.Previews().Get("pr-1")
			if !ok {
				t.Fatal("there is no preview")
			}
			asleep = p.Asleep
		})
		return asleep
	}
	if got := s.d.previewIdle(); got != idle {
		t.Fatalf("idle is %s", got)
	}
	visits, looks, told, busy := false, 0, 0, map[string]bool{}
	w := NewIdleWatch(IdleWatchOptions{
		Deployer: s.d, Log: slog.New(slog.DiscardHandler), Busy: func() map[string]bool { return busy },
		Wake: func(ctx context.Context, preview string) error { told++; return s.n.WakePreview(ctx, preview) },
		Visited: func(ports map[uint16]bool) (map[uint16]bool, error) {
			if looks++; len(ports) != 1 {
				t.Errorf("asked about ports %v", ports)
			}
			if visits {
				return ports, nil
			}
			return nil, nil
		},
	})
	for how, ask := range map[string]func(bool){
		"requests by the packet filter": func(on bool) { visits = on },
		"connections that were held":    func(on bool) { busy["pr-1"] = on; maps.DeleteFunc(busy, func(_ string, on bool) bool { return !on }) },
	} {
		ask(true)
		told = 0
		begun := time.Now()
		for time.Since(begun) < 3*idle {
			w.look(t.Context(), idle)
			if asleep() {
				t.Fatalf("%s: it fell asleep after %s", how, time.Since(begun))
			}
			time.Sleep(10 * time.Millisecond)
		}
		if most := int(4*time.Since(begun)/idle) + 1; told == 0 || told > most {
			t.Errorf("%s: the ring was told %d times in %s", how, told, time.Since(begun))
		}
		ask(false)
		told, begun = 0, time.Now()
		for !asleep() {
			if w.look(t.Context(), idle); time.Since(begun) > 20*idle {
				t.Fatalf("%s: it does not fall asleep", how)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if told > 1 {
			t.Errorf("%s: without any the ring was told of %d", how, told)
		}
		looks, told = 0, 0
		ask(true)
		if w.look(t.Context(), idle); looks+told > 0 {
			t.Errorf("%s: of a preview that sleeps: %d looks, told %d", how, looks, told)
		}
		ask(false)
		if err := s.n.WakePreview(t.Context(), "pr-1"); err != nil || asleep() {
			t.Errorf("%s: it does not wake: %v", how, err)
		}
	}
}
