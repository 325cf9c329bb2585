package gitsync

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/deadline"
)

const (
	ringA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	ringB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// forges are hosts of every kind, by the real git, which let everybody write.
var forges = map[string]func(t *testing.T, u upstream) Options{
	"http": func(t *testing.T, u upstream) Options {
		u.git("config", "http.receivepack", "true")
		return Options{URL: u.serve()}
	},
	"ssh": sshForge,
	"file": func(t *testing.T, u upstream) Options {
		return Options{URL: "file://" + u.dir}
	},
}

func sshForge(t *testing.T, u upstream) Options {
	t.Helper()
	host, _ := newKey(t)
	client, pem := newKey(t)
	l := sshHost(t, host, client.PublicKey(), "127.0.0.1:0")
	address := l.Addr().String()
	known := filepath.Join(t.TempDir(), "known_hosts")
	line := knownhosts.Line([]string{knownhosts.Normalize(address)}, host.PublicKey())
	if err := os.WriteFile(known, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{URL: "ssh://git@" + address + u.dir, Auth: Auth{Key: pem, KnownHosts: []string{known}}}
}

// stands says how two rings stand to what a mirror knows.
func stands(m *Mirror) string {
	c := m.Claim()
	return fmt.Sprintf("%s for A, %s for B", c.Standing(ringA), c.Standing(ringB))
}

// A repository is claimed by one ring, taken over by another, and read by both, over every kind of remote; the real git
// finds the repository in order.
func TestClaim(t *testing.T) {
	for how, forge := range forges {
		t.Run(how, func(t *testing.T) {
			u := newUpstream(t)
			u.commit("one", nil)
			opt := forge(t, u)
			a, b := open(t, opt), open(t, opt)
			expect := func(m *Mirror, want string) {
				t.Helper()
				if _, err := m.Fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := stands(m); got != want {
					t.Errorf("it is %s, want %s", got, want)
				}
			}
			if got := stands(a); got != "unread for A, unread for B" {
				t.Errorf("before the first fetch it is %s", got)
			}
			expect(a, "unclaimed for A, unclaimed for B")
			expect(b, "unclaimed for A, unclaimed for B")
			when := time.Unix(1_800_000_000, 0)
			first, err := a.PushClaim(t.Context(), ringA, "shoal on n1", when, a.Claim())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.PushClaim(t.Context(), ringB, "shoal on n9", when, b.Claim()); !errors.Is(err, ErrMoved) {
				t.Errorf("a claim was made where there is one: %v", err)
			}
			expect(a, "claimed for A, claimed by another ring for B")
			expect(b, "claimed for A, claimed by another ring for B")
			if got := b.Claim(); got != first || got.By != "shoal on n1" || got.When != when.Unix() {
				t.Errorf("read %+v, made %+v", got, first)
			}
			second, err := b.PushClaim(t.Context(), ringB, "shoal on n9", when, b.Claim())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.PushClaim(t.Context(), ringA, "shoal on n1", when.Add(time.Second), a.Claim()); !errors.Is(err, ErrMoved) {
				t.Errorf("a claim was taken from a ring that has not got it: %v", err)
			}
			expect(a, "claimed by another ring for A, claimed for B")
			expect(b, "claimed by another ring for A, claimed for B")
			if got := u.git("log", "--format=%H %an: %s %(trailers:key=Shoal-Ring,valueonly,separator=)", source.ClaimRef); got != fmt.Sprintf(
				"%s shoal on n9: Claimed for ring bbbbbbbb %s\n%s shoal on n1: Claimed for ring aaaaaaaa %s", second.ID, ringB, first.ID, ringA) {
				t.Errorf("git log shows\n%s", got)
			}
			u.git("fsck", "--strict", "--full")
			u.git("pack-refs", "--all")
			u.git("gc", "-q", "--prune=now")
			third, err := a.PushClaim(t.Context(), ringA, "shoal on n1", when.Add(2*time.Second), a.Claim())
			if err != nil {
				t.Fatalf("the repository was packed: %v", err)
			}
			if got := u.git("rev-parse", source.ClaimRef); got != string(third.ID) {
				t.Errorf("the ref is at %s", got)
			}
			u.git("fsck", "--strict", "--full")
			expect(b, "claimed for A, claimed by another ring for B")
			u.git("update-ref", "-d", source.ClaimRef)
			expect(a, "unclaimed for A, given up for B")
			expect(b, "unclaimed for A, given up for B")
			if _, err := a.PushClaim(t.Context(), ringA, "shoal on n1", when, a.Claim()); err != nil {
				t.Errorf("it was not claimed again: %v", err)
			}
			if len(a.Refs()) != 1 || len(b.Refs()) != 1 {
				t.Errorf("refs of the mirrors: %v, %v", a.Refs(), b.Refs())
			}
		})
	}
}

// Of many rings that claim a repository at once one has it, and the others know.
func TestClaimRace(t *testing.T) {
	for how, forge := range forges {
		t.Run(how, func(t *testing.T) {
			u := newUpstream(t)
			u.commit("one", nil)
			opt := forge(t, u)
			const rings = 5
			var won [rings]error
			var group sync.WaitGroup
			mirrors := make([]*Mirror, rings)
			for i := range mirrors {
				mirrors[i] = open(t, opt)
				if _, err := mirrors[i].ReadClaim(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ring := func(i int) string { return strings.Repeat(fmt.Sprint(i), 32) }
			for i, m := range mirrors {
				group.Go(func() { _, won[i] = m.PushClaim(t.Context(), ring(i), "shoal", time.Now(), m.Claim()) })
			}
			group.Wait()
			winners := 0
			for i, m := range mirrors {
				if won[i] == nil {
					winners++
				}
				c, err := m.ReadClaim(t.Context())
				if err != nil || (c.Standing(ring(i)) == source.Own) != (won[i] == nil) {
					t.Errorf("ring %d: it is %s after %v; %v", i, c.Standing(ring(i)), won[i], err)
				}
			}
			if winners != 1 {
				t.Errorf("%d rings have it: %v", winners, won)
			}
		})
	}
}

// A host that lets nobody write says so for good, and why; who may read is told whose the repository is.
func TestClaimRefused(t *testing.T) {
	hook := func(t *testing.T, u upstream) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(u.dir, ".git", "hooks", "pre-receive"), []byte("#!/bin/sh\necho only branches here >&2\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for what, s := range map[string]struct {
		forge func(t *testing.T, u upstream) Options
		want  string
	}{
		"http without the right": {func(_ *testing.T, u upstream) Options { return Options{URL: u.serve()} }, "the host answers 403 Forbidden"},
		"http with a hook": {func(t *testing.T, u upstream) Options {
			hook(t, u)
			return forges["http"](t, u)
		}, "only branches here"},
		"ssh with a hook": {func(t *testing.T, u upstream) Options {
			hook(t, u)
			return sshForge(t, u)
		}, "only branches here"},
		"ssh without the right": {func(t *testing.T, u upstream) Options {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "git-receive-pack"), []byte("#!/bin/sh\necho this key is read-only >&2\nexit 128\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			return sshForge(t, u)
		}, "this key is read-only"},
	} {
		t.Run(what, func(t *testing.T) {
			u := newUpstream(t)
			u.commit("one", nil)
			m := open(t, s.forge(t, u))
			if _, err := m.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := m.PushClaim(t.Context(), ringA, "shoal", time.Now(), m.Claim())
			refused, ok := errors.AsType[*RefusedError](err)
			if !ok || !strings.Contains(refused.Error(), s.want) {
				t.Errorf("PushClaim: %v, want a refusal that says %q", err, s.want)
			}
			u.git("update-ref", source.ClaimRef, u.claim(ringB))
			if _, err := m.Fetch(t.Context()); err != nil || stands(m) != "claimed by another ring for A, claimed for B" {
				t.Errorf("it is %s; %v", stands(m), err)
			}
		})
	}
}

// claim makes the commit that a person would by hand.
func (u upstream) claim(ring string) string {
	u.t.Helper()
	return u.git("commit-tree", "-m", source.ClaimSubject(ring), "-m", source.ClaimTrailer(ring), string(source.EmptyTree))
}

// A host that is away is no refusal.
func TestClaimHostIsAway(t *testing.T) {
	u := newUpstream(t)
	u.commit("one", nil)
	away := newFakeGit(t, forges["http"](t, u).URL)
	m := open(t, Options{URL: away.url})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	away.breaks(answers("receive-pack", 503, "text/plain", "later"))
	_, err := m.PushClaim(t.Context(), ringA, "shoal", time.Now(), m.Claim())
	if _, refused := errors.AsType[*RefusedError](err); err == nil || refused {
		t.Errorf("PushClaim: %v", err)
	}
}

// What stands where the claim is expected and is none: it is said what is wrong with it, no more than a claim's size is read
// of it, none of it comes into the mirror, branches are followed, and a claim can be put in its place.
func TestClaimFlawed(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<14) // 256 KiB
	for what, s := range map[string]struct {
		tip  func(u upstream) string
		want string
	}{
		"a blob":   {func(u upstream) string { return u.feed("hello", "hash-object", "-w", "--stdin") }, "it is a blob, expected a commit"},
		"a tag":    {func(u upstream) string { u.git("tag", "-a", "-m", "words", "v1"); return u.git("rev-parse", "v1") }, "it is a tag, expected a commit"},
		"a commit": {func(u upstream) string { return u.git("rev-parse", "HEAD") }, "its commit has no trailer Shoal-Ring"},
		"a name": {func(u upstream) string {
			return u.git("commit-tree", "-m", "x", "-m", "Shoal-Ring: ../../etc", string(source.EmptyTree))
		}, `Shoal-Ring: "../../etc" is no ring's identity; expected 32 hex digits`},
		"a huge message": {func(u upstream) string { return u.feed("x\n\n"+big, "commit-tree", string(source.EmptyTree)) }, "it is larger than a claim: "},
		"a huge blob":    {func(u upstream) string { return u.feed(big, "hash-object", "-w", "--stdin") }, "it is larger than a claim: "},
	} {
		for how, forge := range forges {
			t.Run(what+" over "+how, func(t *testing.T) {
				u := newUpstream(t)
				one := u.commit("one", nil)
				tip := s.tip(u)
				u.git("update-ref", source.ClaimRef, tip)
				m := open(t, forge(t, u))
				if _, err := m.Fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
				unmoved(t, m, one)
				if c := m.Claim(); !strings.HasPrefix(c.Flaw, s.want) || c.Standing(ringA) != source.Unclear || string(c.ID) != tip {
					t.Errorf("claim %+v, want the flaw %q", c, s.want)
				}
				if what != "a commit" && m.Has(source.ID(tip)) {
					t.Error("it came into the mirror")
				}
				if _, err := os.Stat(m.claimFile() + ".read"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("left behind: %v", err)
				}
				if _, err := m.PushClaim(t.Context(), ringA, "shoal", time.Now(), m.Claim()); err != nil {
					t.Fatal(err)
				}
				if c, err := m.ReadClaim(t.Context()); err != nil || c.Standing(ringA) != source.Own {
					t.Errorf("it is %s; %v", c.Standing(ringA), err)
				}
			})
		}
	}
}

// A claim that carries files: a tree does no harm, and one beyond the bound is no claim.
func TestClaimWithFiles(t *testing.T) {
	u := newUpstream(t)
	u.commit("one", map[string]string{"README": "whose is it?"})
	u.git("update-ref", source.ClaimRef, u.git("commit-tree", "-m", "x", "-m", source.ClaimTrailer(ringA), "HEAD^{tree}"))
	m := open(t, forges["http"](t, u))
	if c, err := m.ReadClaim(t.Context()); err != nil || c.Standing(ringA) != source.Own {
		t.Errorf("it is %s; %v", c.Standing(ringA), err)
	}
	noise := &strings.Builder{} // does not deflate
	for i := range 20_000 {
		fmt.Fprint(noise, source.ObjectID("blob", fmt.Append(nil, i)))
	}
	u.commit("two", map[string]string{"README": noise.String()})
	u.git("update-ref", source.ClaimRef, u.git("commit-tree", "-m", "x", "-m", source.ClaimTrailer(ringB), "HEAD^{tree}"))
	if c, err := m.ReadClaim(t.Context()); err != nil || c.Standing(ringA) != source.Unclear || !strings.HasPrefix(c.Flaw, "it is larger than a claim") {
		t.Errorf("%+v; %v", c, err)
	}
}

// What was read is known after a restart with the host away, and forgotten with another URL; other nodes' word is kept alike.
func TestClaimIsKept(t *testing.T) {
	u := newUpstream(t)
	u.commit("one", nil)
	u.git("update-ref", source.ClaimRef, u.claim(ringB))
	dir := filepath.Join(t.TempDir(), "git")
	again := func(url string) *Mirror {
		t.Helper()
		m, err := Open(t.Context(), Options{Dir: dir, URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
	m := again("file://" + u.dir)
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	known := m.Claim()
	m.Close()
	if err := os.Rename(u.dir, u.dir+".away"); err != nil {
		t.Fatal(err)
	}
	m = again("file://" + u.dir)
	if _, err := m.Fetch(t.Context()); err == nil {
		t.Fatal("the host is not away")
	}
	if got := m.Claim(); got != known || got.Standing(ringA) != source.Foreign {
		t.Errorf("%+v, want %+v", got, known)
	}
	gone := known.Then(source.Unclaimed)
	if err := m.TakeClaim(gone, deadline.Now()); err != nil || m.Claim() != gone {
		t.Errorf("taken over: %+v; %v", m.Claim(), err)
	}
	if err := m.TakeClaim(source.Unclaimed, deadline.Now()+1); err != nil || m.Claim() != gone {
		t.Errorf("by a node that has never seen it: %+v; %v", m.Claim(), err)
	}
	if err := m.TakeClaim(source.Claim{Read: true, ID: "x"}, deadline.Now()+2); err == nil || m.Claim() != gone {
		t.Errorf("taken over: %+v; %v", m.Claim(), err)
	}
	m.Close()
	m = again("file://" + u.dir + "-other")
	if got := m.Claim(); got != (source.Claim{}) {
		t.Errorf("of another repository: %+v", got)
	}
	m.Close()
	for _, text := range []string{"{", `{"url":"` + m.urlSum() + `","claim":{"read":true,"ring":"x"}}`} {
		if err := os.WriteFile(dir+".claim", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m = again("file://" + u.dir + "-other")
		if got := m.Claim(); got != (source.Claim{}) {
			t.Errorf("of a file that is none: %+v", got)
		}
		m.Close()
	}
}

// What another node has read before this one did is not taken over.
func TestClaimOfOthersIsOlder(t *testing.T) {
	u := newUpstream(t)
	u.commit("one", nil)
	m := open(t, Options{URL: u.dir})
	before := deadline.Now() - 1
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	own, err := m.PushClaim(t.Context(), ringA, "shoal", time.Now(), m.Claim())
	if err != nil {
		t.Fatal(err)
	}
	theirs := source.ParseClaim(own.ID, source.EncodeClaim(ringB, "shoal", time.Now(), source.Unclaimed))
	if err := m.TakeClaim(theirs, before); err != nil || m.Claim() != own {
		t.Errorf("%+v; %v", m.Claim(), err)
	}
	if err := m.TakeClaim(theirs, deadline.Now()+1); err != nil || m.Claim() != theirs {
		t.Errorf("%+v; %v", m.Claim(), err)
	}
}

// A local repository stays its owner's: git's own user can still write where the agent, which is root, has written.
func TestClaimBelongsToTheRepository(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	u := newUpstream(t)
	u.commit("one", nil)
	u.git("config", "core.sharedRepository", "group")
	const uid, gid = 4321, 4322
	walk := func(f func(path string, s *syscall.Stat_t, mode fs.FileMode)) {
		err := filepath.WalkDir(filepath.Join(u.dir, ".git"), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil {
				f(path, info.Sys().(*syscall.Stat_t), info.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk(func(path string, _ *syscall.Stat_t, mode fs.FileMode) {
		_ = os.Chown(path, uid, gid)
		if mode.IsDir() {
			_ = os.Chmod(path, 0o770|os.ModeSetgid)
		}
	})
	m := open(t, Options{URL: u.dir})
	if _, err := m.PushClaim(t.Context(), ringA, "shoal", time.Now(), source.Unclaimed); err != nil {
		t.Fatal(err)
	}
	walk(func(path string, s *syscall.Stat_t, mode fs.FileMode) {
		if s.Uid != uid || s.Gid != gid || mode.IsDir() && mode.Perm() != 0o770 {
			t.Errorf("%s is %d:%d %s", path, s.Uid, s.Gid, mode)
		}
	})
	if err := os.WriteFile(filepath.Join(u.dir, ".git", "refs", "shoal", "ring.lock"), []byte(u.git("-c", "safe.directory=*", "rev-parse", "main")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.PushClaim(t.Context(), ringB, "shoal", time.Now(), m.Claim()); !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), "ring.lock is there") {
		t.Errorf("under another's lock: %v", err)
	}
	// A work tree beside the first has its refs there.
	tree := filepath.Join(t.TempDir(), "beside")
	if err := os.Remove(filepath.Join(u.dir, ".git", "refs", "shoal", "ring.lock")); err != nil {
		t.Fatal(err)
	}
	u.git("-c", "safe.directory=*", "worktree", "add", "-q", tree)
	m = open(t, Options{URL: tree})
	c, err := m.ReadClaim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.PushClaim(t.Context(), ringB, "shoal", time.Now(), c); err != nil {
		t.Fatal(err)
	}
	if c, err := open(t, Options{URL: u.dir}).ReadClaim(t.Context()); err != nil || c.Standing(ringB) != source.Own {
		t.Errorf("%+v; %v", c, err)
	}
}
