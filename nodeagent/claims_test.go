package nodeagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

const (
	thisRing  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	otherRing = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// host is a repository in memory, as several rings see it.
type host struct {
	mu     sync.Mutex
	at     source.Claim // what stands at the ref; the zero Claim: nothing
	away   error        // why it does not answer
	refuse error        // why it takes no push
	pushes int          // that it was asked for
}

// memClaim is what one node knows of a host.
type memClaim struct {
	*host
	known source.Claim
}

func (m *memClaim) Claim() source.Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

func (m *memClaim) TakeClaim(c source.Claim) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = c
	return nil
}

func (m *memClaim) ReadClaim(context.Context) (source.Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away == nil {
		now := m.at
		now.Read = true
		m.known = m.known.Then(now)
	}
	return m.known, m.away
}

func (m *memClaim) PushClaim(_ context.Context, ring, by string, when time.Time, before source.Claim) (source.Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pushes++
	if before.Gone {
		before.ID = ""
	}
	switch {
	case m.away != nil:
		return source.Claim{}, m.away
	case m.refuse != nil:
		return source.Claim{}, m.refuse
	case before.ID != m.at.ID:
		return source.Claim{}, errors.New("the ref moved meanwhile")
	}
	m.at = claimOf(ring, by, when)
	m.known = m.at
	return m.at, nil
}

func claimOf(ring, by string, when time.Time) source.Claim {
	raw := source.EncodeClaim(ring, by, when, source.Unclaimed)
	return source.ParseClaim(source.ObjectID("commit", raw), raw)
}

type noEntry struct{}

func (noEntry) Error() string { return "403 Forbidden" }
func (noEntry) Refused() bool { return true }

// claimed is a node of this ring and the host of its repository.
type claimed struct {
	*Claims
	repo  *memClaim
	leads bool
	runs  bool
	other []source.Claim // what other nodes have read
	log   bytes.Buffer
	news  []bool
}

func newClaimed(h *host) *claimed {
	c := &claimed{repo: &memClaim{host: h}, leads: true}
	c.Claims = NewClaims(ClaimsOptions{
		Ring: thisRing, By: "shoal on n1", URL: "https://forge.example/r.git", Repository: c.repo,
		Leading: func() bool { return c.leads }, Runs: func() bool { return c.runs },
		Others:  func(context.Context) []source.Claim { return c.other },
		Changed: func(_ context.Context, here bool) { c.news = append(c.news, here) },
		Log:     slog.New(slog.NewTextHandler(&c.log, &slog.HandlerOptions{ReplaceAttr: withoutTime})),
	})
	return c
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// says is what comes of a look: whether commits run, how the ring stands, and what people are warned of.
func (c *claimed) says(t *testing.T) string {
	t.Helper()
	held, err := c.Held(t.Context())
	s := c.Status()
	text := "runs"
	switch {
	case err != nil:
		text = "waits: " + err.Error()
	case held != "":
		text = "held"
		if s.Held != held {
			t.Errorf("status says %q where commits are told %q", s.Held, held)
		}
	}
	text += ", " + s.Standing
	if s.Warning != "" {
		text += ", warns"
	}
	return text
}

// TestClaims takes a ring through what may become of its claim.
func TestClaims(t *testing.T) {
	theirs := claimOf(otherRing, "shoal on n9", time.Unix(1_800_000_000, 0))
	flawed := source.FlawedClaim(theirs.ID, "it is a blob, expected a commit")
	away := errors.New("connection refused")
	for _, s := range []struct {
		what string
		do   func(c *claimed)
		want string
	}{
		{"nothing was read, and nothing runs", func(c *claimed) { c.repo.known = source.Claim{} }, "held, unread"},
		{"nothing was read, of a ring that was before there were claims", func(c *claimed) { c.repo.known, c.runs = source.Claim{}, true }, "runs, unread"},
		{"a fresh repository", func(*claimed) {}, "runs, claimed"},
		{"seen by a node that does not lead", func(c *claimed) { c.leads = false }, "runs, unclaimed, warns"},
		{"another was quicker", func(c *claimed) { c.repo.at = theirs }, "held, claimed by another ring"},
		{"another has it", func(c *claimed) { c.repo.known, c.repo.at = theirs, theirs }, "held, claimed by another ring"},
		{"on a ring that runs something", func(c *claimed) { c.repo.known, c.runs = theirs, true }, "held, claimed by another ring"},
		{"garbage", func(c *claimed) { c.repo.known = flawed }, "held, claimed in vain"},
		{"of another, and gone", func(c *claimed) { c.repo.known = theirs.Then(source.Unclaimed) }, "held, given up"},
		{"of another, as an older node of this ring knows", func(c *claimed) { c.other = []source.Claim{source.Unclaimed, theirs.Then(source.Unclaimed)} }, "held, given up"},
		{"ours, and the host is away", func(c *claimed) {
			c.repo.known, c.repo.away = claimOf(thisRing, "x", time.Unix(1, 0)), away
		}, "runs, claimed"},
		{"ours, and put back without it", func(c *claimed) {
			c.repo.known = claimOf(thisRing, "x", time.Unix(1, 0)).Then(source.Unclaimed)
		}, "runs, claimed"},
		{"the host lets nobody write", func(c *claimed) { c.repo.refuse = noEntry{} }, "runs, unclaimed, warns"},
		{"the host has just gone away", func(c *claimed) { c.repo.away = away }, "waits: claim the repository before its first commit runs: connection refused, unclaimed, warns"},
		{"that of a ring that runs something", func(c *claimed) { c.repo.away, c.runs = away, true }, "runs, unclaimed, warns"},
	} {
		t.Run(s.what, func(t *testing.T) {
			c := newClaimed(&host{})
			c.repo.known = source.Unclaimed
			s.do(c)
			if got := c.says(t); got != s.want {
				t.Errorf("%s, want %s", got, s.want)
			}
		})
	}
}

// A host that does not take a claim is not waited for without end, is not asked without end, and is asked again.
func TestClaimsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaimed(&host{away: errors.New("busy")})
		c.repo.known = source.Unclaimed
		for i := range 120 { // a look a second
			if got := strings.HasPrefix(c.says(t), "waits"); got != (i < 60) {
				t.Fatalf("after %d s: waits %t", i, got)
			}
			time.Sleep(time.Second)
		}
		c.repo.away, c.repo.refuse, c.repo.pushes = nil, noEntry{}, 0
		for range 599 {
			if got := c.says(t); got != "runs, unclaimed, warns" {
				t.Fatal(got)
			}
			time.Sleep(time.Second)
		}
		if c.repo.pushes != 1 {
			t.Errorf("it was asked %d times", c.repo.pushes)
		}
		if w := c.Status().Warning; w != "the repository could not be claimed for this ring (403 Forbidden). It runs, but another ring with the same repository would run everything "+
			"a second time. Who may write there claims it by what this prints: shoal ring claim --print" {
			t.Errorf("warning %q", w)
		}
		c.repo.refuse = nil
		time.Sleep(time.Second)
		if got := c.says(t); got != "runs, claimed" {
			t.Error(got)
		}
	})
}

// Two rings on a fresh repository: one has it, the other is held, and takes it over; what the first does then is nothing.
func TestClaimsOfTwoRings(t *testing.T) {
	h := &host{}
	one, two := newClaimed(h), newClaimed(h)
	two.opt.Ring = otherRing
	for _, c := range []*claimed{one, two} {
		c.repo.known = source.Unclaimed
	}
	if a, b := one.says(t), two.says(t); a != "runs, claimed" || b != "held, claimed by another ring" {
		t.Fatalf("one %s, two %s", a, b)
	}
	if _, err := two.Take(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "the claim was moved meanwhile") {
		t.Errorf("taken from a ring that was not shown: %v", err)
	}
	shown, err := two.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if shown.Own || shown.Holder != thisRing {
		t.Errorf("shown %+v", shown)
	}
	if c, err := two.Take(t.Context(), shown.Shown()); err != nil || !c.Own || len(two.news) != 1 {
		t.Errorf("%+v, %v, changes %v", c, err, two.news)
	}
	if got := one.says(t); got != "runs, claimed" {
		t.Errorf("one, before it has fetched: %s", got)
	}
	_, _ = one.repo.ReadClaim(t.Context())
	if a, b := one.says(t), two.says(t); a != "held, claimed by another ring" || b != "runs, claimed" {
		t.Errorf("one %s, two %s", a, b)
	}
	h.refuse = noEntry{}
	if _, err := one.Take(t.Context(), one.Status().Shown()); err == nil || !strings.HasSuffix(err.Error(), "somebody who may write there says what shoal ring claim --print prints") {
		t.Errorf("of a host that refuses: %v", err)
	}
	h.refuse, h.at = nil, source.Claim{}
	_, _ = one.repo.ReadClaim(t.Context())
	if got := one.says(t); got != "held, given up" {
		t.Errorf("the ref is gone: %s", got)
	}
	if c, err := one.Take(t.Context(), one.Status().Shown()); err != nil || !c.Own {
		t.Errorf("%+v, %v", c, err)
	}
	var nobodys *Claims
	if held, err := nobodys.Held(t.Context()); held != "" || err != nil || nobodys.Status() != nil {
		t.Error(held, err)
	}
	if _, err := nobodys.Take(t.Context(), ""); err == nil {
		t.Error("a repository without a host was claimed")
	}
}

// What changes is said once in the log, and commits are looked at again.
func TestClaimsAreSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaimed(&host{refuse: noEntry{}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		_, _ = c.repo.ReadClaim(ctx)
		go func() { done <- c.Run(ctx) }()
		step := func(want string, do func()) {
			t.Helper()
			do()
			_, _ = c.repo.ReadClaim(ctx)
			for range 3 {
				c.Wake()
				synctest.Wait()
				time.Sleep(5 * time.Minute)
				synctest.Wait()
			}
			got := c.log.String()
			c.log.Reset()
			if strings.Count(got, "\n") != min(len(want), 1) || !strings.Contains(got, want) {
				t.Errorf("log %q, want %q", got, want)
			}
		}
		theirs := claimOf(otherRing, "shoal on n9", time.Unix(1_800_000_000, 0))
		step("the repository could not be claimed for this ring (403 Forbidden)", func() {})
		step("", func() {})
		step("the repository is claimed for this ring", func() { c.repo.at = claimOf(thisRing, "Ann", time.Unix(1, 0)) })
		step("the repository is claimed by ring bbbbbbbb (by shoal on n9, since 2027-01-15 08:00 UTC). This ring, aaaaaaaa,", func() { c.repo.at = theirs })
		step("names no ring: it is a blob", func() { c.repo.at = source.FlawedClaim(theirs.ID, "it is a blob") })
		step("named no ring, and is gone", func() { c.repo.at = source.Claim{} })
		cancel()
		<-done
		if fmt.Sprint(c.news) != "[true false false false]" {
			t.Errorf("changes %v", c.news)
		}
	})
}

// A held ring renders, says why it goes no further, activates and retires nothing, and does both once it may.
func TestFeature_R2_HeldRingActivatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		c := newClaimed(&host{})
		c.repo.known = source.Unclaimed
		ds.d.opt.Claims, ds.n.Claims = c.Claims, c.Claims
		ds.u.push(deployment("web"))
		ds.u.declare("two", dev, prod)
		ds.u.pushTo(prod.Ref, deployment("api"))
		ds.look()
		if c.repo.at.Ring != thisRing || ds.d.active("dev") == nil || ds.d.active("prod") == nil {
			t.Fatalf("claim %+v, dev %v, prod %v", c.repo.at, ds.d.active("dev"), ds.d.active("prod"))
		}
		before := ds.d.running()
		at := ds.d.active("dev").Index
		c.repo.at = claimOf(otherRing, "shoal on n9", time.Unix(1_800_000_000, 0))
		_, _ = c.repo.ReadClaim(t.Context())
		ds.u.push(deployment("web") + "---\n" + service("web"))
		said := ds.look()
		for _, want := range []string{"dev: rendered 1 apps, 2 objects", "is rendered and not activated: the repository is claimed by ring bbbbbbbb (by shoal on n9, since 2027-01-15 08:00 UTC)", "shoal ring claim"} {
			if !strings.Contains(said, want) {
				t.Errorf("the pusher is told\n%s\nwant %q", said, want)
			}
		}
		renders := ds.u.renders
		if said := ds.look(); said != "" || ds.u.renders != renders {
			t.Errorf("a second look says %q and renders %d times", said, ds.u.renders-renders)
		}
		if got := explained(ds.n.Why(t.Context(), "", "dev", "nothing")); !strings.Contains(got, "claimed by ring bbbbbbbb") {
			t.Errorf("why something is not there: %s", got)
		}
		if got := explained(ds.n.Why(t.Context(), "Deployment", "dev", "web")); !strings.Contains(got, "nothing newer comes here: the repository is claimed by ring bbbbbbbb") {
			t.Errorf("why something is as it is: %s", got)
		}
		if got := ds.status(); !strings.Contains(got, "claimed by ring bbbbbbbb") {
			t.Errorf("status: %s", got)
		}
		ds.u.declare("one\n\nShoal-Retire: prod\n", dev)
		for range 2 {
			ds.look()
			if got := ds.d.Vanished()["prod"]; !strings.Contains(got, "retires it, and it goes on: the repository is claimed by ring bbbbbbbb") {
				t.Errorf("of an environment that is retired: %q", got)
			}
		}
		if after := ds.d.running(); after != before || ds.d.active("dev").Index != at {
			t.Errorf("it ran %s and runs %s", before, after)
		}
		if _, err := c.Take(t.Context(), c.Status().Shown()); err != nil {
			t.Fatal(err)
		}
		ds.look()
		if ds.d.active("dev").Commit != ds.u.head || ds.d.active("prod") != nil {
			t.Errorf("dev is at %s, prod is %v", ds.d.active("dev").Commit, ds.d.active("prod"))
		}
	})
}

// A commit that is judged when the other ring takes over is not activated: the leader looks once more when all have agreed.
// Who has given it a vote is told, and gives it again.
func TestHeldWhileTheRingAgrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alone, ds := newDeploys(t), newDeploys(t)
		for _, d := range []*deploys{alone, ds} {
			d.u.push(deployment("web"))
		}
		alone.look()
		vote := Vote{Environment: "dev", Commit: ds.u.head, D: alone.d.active("dev").D}
		c := newClaimed(&host{})
		c.repo.known = source.Unclaimed
		r := &threeVoters{}
		ds.d.opt.Claims, ds.d.opt.Ring, ds.d.opt.Votes, ds.d.opt.Node = c.Claims, r, NewVotes(), "a"
		told := make(chan string, 1)
		go func() {
			time.Sleep(time.Second) // the leader has rendered, and waits for one more
			_ = c.repo.TakeClaim(claimOf(otherRing, "shoal on n9", time.Unix(1_800_000_000, 0)))
			d, err := ds.d.Vote(t.Context(), "b", vote)
			told <- fmt.Sprintf("activated %t, held %t, %v", d.Activated, d.Held, err)
		}()
		said := ds.look()
		if ds.d.active("dev") != nil || !strings.Contains(said, "claimed by ring bbbbbbbb") {
			t.Errorf("the leader says %q and runs %v", said, ds.d.active("dev"))
		}
		if got := <-told; got != "activated false, held true, <nil>" {
			t.Errorf("who votes is told: %s", got)
		}
		_, _ = c.repo.ReadClaim(t.Context()) // it is this ring's, after all
		r.follows, r.decision = true, Decision{Refused: "claimed by another", Held: true}
		if said := ds.look(); !strings.Contains(said, "the leader activates nothing: claimed by another") {
			t.Errorf("a follower says %q", said)
		}
		r.follows = false
		if said := ds.look(); ds.d.active("dev") == nil {
			t.Errorf("it is not activated when it may be: %s", said)
		}
	})
}

// threeVoters is a ring of three in which this node leads, or follows a leader that has decided.
type threeVoters struct {
	follows  bool
	decision Decision
}

func (r *threeVoters) Voters() []place.NodeID                       { return []place.NodeID{"a", "b", "c"} }
func (r *threeVoters) Leading() bool                                { return !r.follows }
func (r *threeVoters) Vote(context.Context, Vote) (Decision, error) { return r.decision, nil }
