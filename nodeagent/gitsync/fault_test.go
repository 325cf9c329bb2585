package gitsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// fakeGit stands before a real server and does with its answers what a test wants.
type fakeGit struct {
	url      string
	requests atomic.Int64

	mu     sync.Mutex
	broken func(w http.ResponseWriter, r *http.Request) bool // nil or false lets the request through
}

func newFakeGit(t testing.TB, to string) *fakeGit {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: u.Scheme, Host: u.Host})
	f := &fakeGit{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		f.mu.Lock()
		b := f.broken
		f.mu.Unlock()
		if b == nil || !b(w, r) {
			pass.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	f.url = s.URL + u.Path
	return f
}

func (f *fakeGit) breaks(b func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = b
}

// answers makes a break of the requests whose path ends so, which are answered with a status and a body.
func answers(end string, status int, kind, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, end) {
			return false
		}
		if kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
		return true
	}
}

const advertType = "application/x-git-upload-pack-advertisement"

// unmoved fails if the mirror is elsewhere than at id or holds half a pack.
func unmoved(t *testing.T, m *Mirror, id string) {
	t.Helper()
	if now, err := m.Head("main"); string(now) != id {
		t.Errorf("the mirror is at %s, %v, want %s", now, err, id)
	}
	if left, _ := filepath.Glob(filepath.Join(m.Dir(), "objects", "incoming-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := m.Tree(context.Background(), source.ID(id)); err != nil {
		t.Errorf("the last good commit: %v", err)
	}
}

// wrong fails unless err says want.
func wrong(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v\nwant %s", what, err, want)
	}
}

// TestFault_G1 takes the host away in several ways. The last commit stays, Run backs off and says when the source
// grows stale, a restart needs no host, and the next good fetch comes soon after the host is back.
func TestFault_G1(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	real, err := url.Parse(u.serve())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "git")
	m := open(t, Options{Dir: dir, URL: real.String()})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Close()

	hole, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := free.Addr().String()
	free.Close()
	for _, c := range []struct{ url, want string }{
		{"http://" + refused + "/.git", "connection refused"},
		{"http://" + hole.Addr().String() + "/.git", "not done after 300ms"},
		{"https://git.invalid/x.git", "git.invalid"},
		{filepath.Join(t.TempDir(), "gone"), "no such file or directory"},
	} {
		m := open(t, Options{Dir: dir, URL: c.url, Timeout: 300 * time.Millisecond})
		_, err := m.Fetch(t.Context())
		if c.url[:5] != "https" || err == nil { // how a resolver fails, and when, is its own affair
			wrong(t, c.url, err, c.want)
		}
		unmoved(t, m, a)
		m.Close()
	}

	f := newFakeGit(t, real.String())
	f.breaks(answers("/info/refs", 503, "", "down"))
	m = open(t, Options{Dir: dir, URL: f.url, Interval: 10 * time.Millisecond, MaxWait: 80 * time.Millisecond, Stale: 100 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	started := time.Now()
	stale := false
	for !stale {
		select {
		case up := <-m.Updates():
			wrong(t, "Update", up.Err, "the host answers 503 Service Unavailable")
			stale = up.Stale
		case <-time.After(10 * time.Second):
			t.Fatal("never stale")
		}
	}
	if n, most := f.requests.Load(), 4+int64(time.Since(started)/(60*time.Millisecond)); n > most {
		t.Errorf("%d requests in %s: no back-off", n, time.Since(started))
	}
	b := u.commit("b", map[string]string{"x": "2"})
	f.breaks(nil)
	for {
		select {
		case up := <-m.Updates():
			if len(up.Changes) == 0 {
				continue
			}
			if up.Err != nil || up.Stale || string(up.Changes[0].New) != b {
				t.Errorf("Update = %+v", up)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no update after the host came back")
		}
		break
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	unmoved(t, m, b)
}

// TestFault_G2 lets the host stall in the middle of a pack, and before it.
func TestFault_G2(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	f := newFakeGit(t, u.serve())
	m := open(t, Options{URL: f.url, MinRate: 10_000, RateWindow: 100 * time.Millisecond, Timeout: 20 * time.Second})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.commit("b", map[string]string{"y": "2"})
	drip := func(first string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
				return false
			}
			io.WriteString(w, first)
			for i := 0; r.Context().Err() == nil; i++ {
				io.WriteString(w, "0006\x01"+string("PACK\x00\x00\x00\x02\x00\x00\x00\x09"[i%12])) // a byte at a time
				http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
			return true
		}
	}
	f.breaks(drip("0008NAK\n"))
	start := time.Now()
	_, err := m.Fetch(t.Context())
	wrong(t, "a byte at a time", err, "the host stalls: less than 10000 bytes a second over 100ms")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("given up after %s", took)
	}
	unmoved(t, m, a)

	m.opt.Timeout = 300 * time.Millisecond
	f.breaks(func(w http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	_, err = m.Fetch(t.Context())
	wrong(t, "nothing at all", err, "not done after 300ms")
	unmoved(t, m, a)
}

// TestFault_G3 lets a proxy damage the pack on its way.
func TestFault_G3(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	f := newFakeGit(t, u.serve())
	m := open(t, Options{URL: f.url})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := u.commit("b", map[string]string{"x": strings.Repeat("text ", 500)})
	real := strings.Replace(f.url, "", "", 1)
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"cut", func(b []byte) []byte { return b[:len(b)-30] }, "fetch"},
		{"a bit", func(b []byte) []byte { b[len(b)/2] ^= 4; return b }, "fetch"},
		{"trailer", func(b []byte) []byte { b[len(b)-6] ^= 1; return b }, "pack trailer: the checksum is"},
		{"nothing", func([]byte) []byte { return nil }, "cut short before the pack"},
		{"an error of the host", func([]byte) []byte { return []byte("0015ERR out of memory") }, `the host says: "out of memory"`},
		{"noise", func([]byte) []byte { return []byte("<html>") }, "read answer"},
	} {
		f.breaks(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
				return false
			}
			f.breaks(nil)
			body, _ := io.ReadAll(r.Body)
			q, _ := http.NewRequest(http.MethodPost, strings.TrimSuffix(real, "/.git")+r.URL.Path, bytes.NewReader(body))
			q.Header = r.Header.Clone()
			answer, err := http.DefaultClient.Do(q)
			if err != nil {
				t.Error(err)
				return true
			}
			defer answer.Body.Close()
			raw, _ := io.ReadAll(answer.Body)
			w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
			w.Write(c.damage(raw))
			f.breaks(answers("/info/refs", 500, "", "")) // so that a second try does not heal it
			return true
		})
		_, err := m.Fetch(t.Context())
		if err == nil {
			t.Errorf("%s: taken", c.name)
		} else if !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "500") {
			t.Errorf("%s: %v", c.name, err)
		}
		unmoved(t, m, a)
		if m.Has(source.ID(b)) {
			t.Errorf("%s: the commit is in the mirror", c.name)
		}
	}
	f.breaks(nil)
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	unmoved(t, m, b)
}

// TestFault_G4 rewrites a branch beyond where the mirror's history begins. The mirror follows, is never stuck, and
// leaves it to the policy whether the environment goes along.
func TestFault_G4(t *testing.T) {
	u := newUpstream(t)
	root := u.commit("root", map[string]string{"x": "0"})
	for i := range 8 {
		u.commit(fmt.Sprint(i), map[string]string{"x": fmt.Sprint(i)})
	}
	a := u.git("rev-parse", "HEAD")
	m := open(t, Options{URL: u.serve(), Depth: 2})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.git("reset", "-q", "--hard", root)
	b := u.commit("rewritten", map[string]string{"x": "new"})
	list, err := m.Fetch(t.Context())
	if got, want := changes(list, err, a, "A", b, "B"), "refs/heads/main A -> B unrelated\n"; got != want && got != strings.Replace(want, "unrelated", "diverged", 1) {
		t.Errorf("got %swant %s", got, want)
	}
	if len(list) == 1 {
		if ok, why := source.Refuse.Judge(list[0].Relation); ok || why == "" {
			t.Errorf("Refuse goes along: %v %s", ok, why)
		}
		if ok, _ := source.Accept.Judge(list[0].Relation); !ok {
			t.Error("Accept does not go along")
		}
	}
	unmoved(t, m, b)
	c := u.commit("next", map[string]string{"x": "newer"})
	list, err = m.Fetch(t.Context())
	if got, want := changes(list, err, b, "B", c, "C"), "refs/heads/main B -> C forward\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
}

// TestFault_G5 rewrites history and collects the old commits upstream. What was pinned can still be read, also after
// a merge of packs and a restart.
func TestFault_G5(t *testing.T) {
	u := newUpstream(t)
	u.commit("root", nil)
	a := u.commit("a", map[string]string{"apps/web/web.cue": "package web // a\n"})
	dir := filepath.Join(t.TempDir(), "git")
	m := open(t, Options{Dir: dir, URL: u.serve(), Depth: 1})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Pin(t.Context(), "production", source.ID(a)); err != nil {
		t.Fatal(err)
	}
	u.git("reset", "-q", "--hard", "HEAD~1")
	b := u.commit("b", map[string]string{"apps/web/web.cue": "package web // b\n"})
	u.git("reflog", "expire", "--expire=now", "--all")
	u.git("gc", "-q", "--prune=now")
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	unmoved(t, m, b)
	if err := m.repo.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Close()
	m = open(t, Options{Dir: dir, URL: u.serve()})
	tree, err := m.Tree(t.Context(), source.ID(a))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := tree.ReadFile("apps/web/web.cue"); string(raw) != "package web // a\n" {
		t.Errorf("ReadFile = %q, %v", raw, err)
	}
	if got := fmt.Sprint(m.Pins("production")); got != "["+a+"]" {
		t.Errorf("Pins = %s", got)
	}
	if err := m.Unpin(t.Context(), "production", source.ID(a)); err != nil || len(m.Pins("production")) != 0 {
		t.Errorf("Unpin: %v, %v", err, m.Pins("production"))
	}
	for _, environment := range []string{"", "a/b", "..", "a b", "x.lock"} {
		if err := m.Pin(t.Context(), environment, source.ID(b)); err == nil {
			t.Errorf("environment %q was pinned", environment)
		}
	}
}

// TestFault_G6 deletes the branch, then the repository. Nothing goes away here.
func TestFault_G6(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	u.git("branch", "other")
	f := newFakeGit(t, u.serve())
	m := open(t, Options{URL: f.url, Branches: []string{"main", "other"}})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.git("checkout", "-q", "other")
	u.git("branch", "-D", "main")
	b := u.commit("b", nil)
	list, err := m.Fetch(t.Context())
	var gone *GoneError
	if !errors.As(err, &gone) || fmt.Sprint(gone.Refs) != "[refs/heads/main]" {
		t.Errorf("Fetch: %v", err)
	}
	if got, want := changes(list, nil, a, "A", b, "B"), "refs/heads/other A -> B forward\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
	unmoved(t, m, a)
	f.breaks(answers("/info/refs", 404, "", "no such repository"))
	_, err = m.Fetch(t.Context())
	wrong(t, "404", err, "the repository is not there, or the token may not see it")
	unmoved(t, m, a)
	if err := os.Rename(filepath.Join(u.dir, ".git"), filepath.Join(u.dir, "renamed")); err != nil {
		t.Fatal(err)
	}
	f.breaks(nil)
	if _, err := m.Fetch(t.Context()); err == nil {
		t.Error("a repository that is not there was fetched")
	}
	unmoved(t, m, a)
}

// TestFollow follows more branches, and fewer: what is new is fetched, what is not there yet is no error, and what is
// followed no more stays.
func TestFollow(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	u.git("branch", "env/prod")
	m := open(t, Options{URL: u.serve()})
	fetch := func() string {
		t.Helper()
		list, err := m.Fetch(t.Context())
		return changes(list, err, a, "A")
	}
	woken := func() bool {
		select {
		case <-m.wake:
			return true
		default:
			return false
		}
	}
	if got := fetch(); got != "refs/heads/main - -> A unknown\n" {
		t.Errorf("at first: %s", got)
	}
	refs := []string{"refs/heads/main", "refs/heads/env/prod", "refs/heads/none", "refs/shoal/pins/x", "no name"}
	m.Follow(refs)
	if !woken() {
		t.Error("a branch that is new is not looked for")
	}
	if got := fetch(); got != "refs/heads/env/prod - -> A unknown\n" {
		t.Errorf("with another branch: %s", got)
	}
	m.Follow(refs)
	m.Follow(nil)
	if woken() {
		t.Error("woken although there is nothing new to fetch")
	}
	u.git("branch", "-f", "env/prod", u.git("commit-tree", "-p", a, "-m", "b", a+"^{tree}"))
	if got := fetch(); got != "" {
		t.Errorf("a branch that is followed no more: %s", got)
	}
	if id, err := m.Head("env/prod"); string(id) != a || err != nil {
		t.Errorf("it is at %s: %v", id, err)
	}
}

// TestFault_G7 commits an empty tree: it is a tree without entries, and the commit says what it may take away.
func TestFault_G7(t *testing.T) {
	u := newUpstream(t)
	u.commit("a", map[string]string{"apps/web/x": "1"})
	m := open(t, Options{URL: u.dir})
	u.git("rm", "-q", "-r", ".")
	u.git("commit", "-q", "-m", "gone\n\nShoal-Allow-Delete: all")
	b := u.git("rev-parse", "HEAD")
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	tree, err := m.Tree(t.Context(), source.ID(b))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := tree.ReadDir("."); len(list) != 0 || err != nil {
		t.Errorf("ReadDir(.) = %v, %v", list, err)
	}
	if _, err := tree.ReadDir("apps"); err == nil || !strings.Contains(err.Error(), "file does not exist") {
		t.Errorf("ReadDir(apps): %v", err)
	}
	c, err := m.Commit(t.Context(), source.ID(b))
	if n, e := c.AllowDelete(); n != -1 || e != nil || err != nil {
		t.Errorf("AllowDelete = %d, %v, %v", n, e, err)
	}
}

// TestFault_G8 follows one branch of a repository with a long history and many refs.
func TestFault_G8(t *testing.T) {
	u := newUpstream(t)
	var stream strings.Builder // 3,000 commits and 10,000 refs, by fast-import
	for i := range 3000 {
		fmt.Fprintf(&stream, "commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata 1\nm\nM 100644 inline f%d\ndata 2\n%02d\n", 1_700_000_000+i, i%50, i%100)
	}
	for i := range 10_000 {
		fmt.Fprintf(&stream, "reset refs/heads/b%d\nfrom refs/heads/main\n", i)
	}
	u.feed(stream.String(), "fast-import", "--quiet")
	tip := u.git("rev-parse", "main")
	m := open(t, Options{URL: u.serve(), Depth: 5})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	log, err := m.Log(t.Context(), source.ID(tip), 100)
	if len(log) != 5 || err != nil {
		t.Errorf("%d commits of history, %v, want 5", len(log), err)
	}
	if refs := m.Refs(); len(refs) != 1 {
		t.Errorf("%d refs, want the one that is followed", len(refs))
	}
	small := open(t, Options{URL: u.serve(), Depth: -1, Limits: Limits{Objects: 2000}})
	_, err = small.Fetch(t.Context())
	wrong(t, "all history", err, "the pack has more than 2000 objects")
	if small.Has(source.ID(tip)) {
		t.Error("a pack over the limit was taken")
	}
}

// TestFault_G10 fetches crafted trees: the fetch works, since old history may hold anything, and the tree is
// refused with its path.
func TestFault_G10(t *testing.T) { testCrafted(t, "link") }

func TestFault_G11(t *testing.T) { testCrafted(t, "name") }

func TestFault_G12(t *testing.T) { testCrafted(t, "module") }

func testCrafted(t *testing.T, kind string) {
	u := newUpstream(t)
	u.commit("a", map[string]string{"x": "1"})
	blob := u.feed("../../etc/passwd", "hash-object", "-w", "--stdin")
	commit := u.git("rev-parse", "HEAD")
	for _, c := range []struct{ kind, line, want string }{
		{"link", "120000 blob " + blob + "\tescape", `escape: a symbolic link to "../../etc/passwd", which leaves the repository`},
		{"name", "100644 blob " + blob + "\t..", "./..: a name that means another directory"},
		{"name", "100644 blob " + blob + "\t.GIT", "./.GIT: a name that some file systems take for .git"},
		{"name", "100644 blob " + blob + "\tA\n100644 blob " + blob + "\ta", "a: differs from A in case only; some file systems hold one of them"},
		{"module", "160000 commit " + commit + "\tsub", "sub: is a submodule: submodules are not supported, commit the files themselves"},
	} {
		if c.kind != kind {
			continue
		}
		tree := u.feed(c.line+"\n", "mktree")
		u.git("update-ref", "refs/heads/main", u.feed("crafted", "commit-tree", tree, "-p", "HEAD"))
		tip := u.git("rev-parse", "main")
		m := open(t, Options{URL: u.dir})
		if _, err := m.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := m.Tree(t.Context(), source.ID(tip))
		wrong(t, c.line, err, "commit "+tip[:12]+": "+c.want)
		if !source.IsFault(err) {
			t.Errorf("%v is not a fault of the tree", err)
		}
	}
}

// TestFault_G13 lets a host advertise crafted names.
func TestFault_G13(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	f := newFakeGit(t, u.serve())
	m := open(t, Options{URL: f.url})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	pkt := func(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }
	head := pkt("# service=git-upload-pack\n") + "0000"
	id := strings.Repeat("1", 40)
	for _, c := range []struct{ body, want string }{
		{head + pkt(id+" refs/heads/../../../etc/x\x00\n") + "0000", `a ref name "refs/heads/../../../etc/x": holds ".."`},
		{head + pkt(id+" refs/heads/main.lock\x00\n") + "0000", `ends in ".lock"`},
		{head + pkt(id+" /etc/passwd\x00\n") + "0000", "an empty component"},
		{head + pkt("xyz refs/heads/main\x00\n") + "0000", `expected "<id> <name>"`},
		{head + pkt(id+" refs/heads/main\x00\n"), "the list is cut short"},
		{head + "zzzz", "read refs"},
		{"<html>", "read refs"},
		{head + strings.Repeat(pkt(id+" refs/heads/"+strings.Repeat("x", 200)+"\n"), 100_000), "longer than 16777216 bytes"},
	} {
		f.breaks(answers("/info/refs", 200, advertType, c.body))
		_, err := m.Fetch(t.Context())
		wrong(t, fmt.Sprintf("%.80q", c.body), err, c.want)
		unmoved(t, m, a)
	}
	for _, name := range []string{"../x", "a..b", "refs/shoal/pins/x/y", "a b"} {
		if _, err := Open(t.Context(), Options{Dir: t.TempDir(), URL: f.url, Branches: []string{name}}); err == nil {
			t.Errorf("branch %q is followed", name)
		}
	}
}

// TestFault_G14 redirects. Credentials reach nobody but the host they are for.
func TestFault_G14(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	f := newFakeGit(t, u.serve())
	var leaked atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked.Add(1)
	}))
	defer thief.Close()
	m := open(t, Options{URL: f.url, Auth: Auth{Token: "the-secret-token"}})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	own, _ := url.Parse(f.url)
	for _, c := range []struct{ to, want string }{
		{thief.URL + "/x.git", "redirect to another host refused"},
		{strings.Replace(thief.URL, "127.0.0.1", "localhost", 1) + "/x", "redirect to another host refused"},
		{"https://" + own.Host + "/x.git", "redirect from http to https refused: another scheme"},
		{"file:///etc/passwd", "redirect from http to file refused: another scheme"},
		{"http://169.254.169.254/latest/meta-data/", "redirect to another host refused"},
	} {
		for _, end := range []string{"/info/refs", "/git-upload-pack"} {
			u.commit("more", nil)
			f.breaks(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, end) {
					http.Redirect(w, r, c.to, http.StatusTemporaryRedirect)
					return true
				}
				return false
			})
			_, err := m.Fetch(t.Context())
			wrong(t, c.to, err, c.want)
			if err != nil && strings.Contains(err.Error(), "the-secret-token") {
				t.Errorf("the token is in the error: %v", err)
			}
			unmoved(t, m, a)
		}
	}
	f.breaks(func(w http.ResponseWriter, r *http.Request) bool { // a repository that moved within its host
		if strings.HasPrefix(r.URL.Path, "/old/") {
			http.Redirect(w, r, strings.TrimPrefix(r.URL.String(), "/old"), http.StatusMovedPermanently)
			return true
		}
		return false
	})
	m.opt.URL = strings.Replace(f.url, "/.git", "/old/.git", 1)
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Errorf("a redirect within the host: %v", err)
	}
	if n := leaked.Load(); n > 0 {
		t.Errorf("%d requests reached another host", n)
	}
}

// TestFault_G17 replays an old tip: it is told as what it is, and the policy refuses it.
func TestFault_G17(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	old := u.t.TempDir()
	u.git("clone", "-q", "--bare", u.dir, old) // a mirror of the host that lags behind
	b := u.commit("b", map[string]string{"x": "2"})
	m := open(t, Options{URL: u.dir})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	accepted, err := m.Head("main")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Pin(t.Context(), "dev", accepted); err != nil {
		t.Fatal(err)
	}
	m.opt.URL = old
	list, err := m.Fetch(t.Context())
	if got, want := changes(list, err, a, "A", b, "B"), "refs/heads/main B -> A backward\n"; got != want {
		t.Fatalf("got %swant %s", got, want)
	}
	if ok, why := source.Refuse.Judge(list[0].Relation); ok || !strings.Contains(why, "older than the accepted commit") {
		t.Errorf("Judge = %v, %s", ok, why)
	}
	m.opt.URL = u.dir // the accepted commit is what counts, not what the ref was last
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := m.Relation(t.Context(), accepted, source.ID(b)); r != source.Same || err != nil {
		t.Errorf("Relation = %s, %v", r, err)
	}
}

// TestFault_G18 wakes a thousand times: few fetches come of it, one at a time, and the last commit is found.
func TestFault_G18(t *testing.T) {
	u := newUpstream(t)
	u.commit("a", map[string]string{"x": "1"})
	f := newFakeGit(t, u.serve())
	var flying, most atomic.Int64
	f.breaks(func(w http.ResponseWriter, r *http.Request) bool {
		n := flying.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		flying.Add(-1)
		return false
	})
	m := open(t, Options{URL: f.url, Interval: time.Hour})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	<-m.Updates()
	before := f.requests.Load()
	var last string
	for i := range 1000 {
		if i%250 == 249 {
			last = u.commit(fmt.Sprint(i), map[string]string{"x": fmt.Sprint(i)})
		}
		m.Wake()
		time.Sleep(time.Millisecond)
	}
	for end := time.After(20 * time.Second); ; {
		select {
		case up := <-m.Updates():
			if n := len(up.Changes); n == 0 || string(up.Changes[n-1].New) != last {
				continue
			}
		case <-end:
			t.Fatal("the last commit was not found")
		}
		break
	}
	stop()
	<-done
	if n := f.requests.Load() - before; n > 300 {
		t.Errorf("%d requests for 1000 wakes", n)
	}
	if n := most.Load(); n > 1 {
		t.Errorf("%d requests at once", n)
	}
}

// TestFault_G21 damages the mirror on disk. It is noticed at start, rebuilt from the host with the pins that can be
// read, and without a host nothing is touched.
func TestFault_G21(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "1"})
	url := u.serve()
	packs := func(dir, end string) []string {
		list, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*."+end))
		if err != nil || len(list) == 0 {
			t.Fatal(list, err)
		}
		return list
	}
	newest := func(list []string) string {
		best := list[0]
		for _, p := range list {
			i, _ := os.Stat(p)
			j, _ := os.Stat(best)
			if i.ModTime().After(j.ModTime()) {
				best = p
			}
		}
		return best
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		damage func(dir string)
		sound  bool // nothing was really damaged
	}{
		{"pack cut", func(dir string) { check(os.Truncate(newest(packs(dir, "pack")), 40)) }, false},
		{"a bit of a pack", func(dir string) {
			p := newest(packs(dir, "pack"))
			b, err := os.ReadFile(p)
			check(err)
			b[len(b)/2] ^= 1
			check(os.Chmod(p, 0o600))
			check(os.WriteFile(p, b, 0o600))
		}, false},
		{"index gone", func(dir string) { check(os.Remove(newest(packs(dir, "idx")))) }, false},
		{"index cut", func(dir string) { check(os.Truncate(newest(packs(dir, "idx")), 100)) }, false},
		{"pack gone", func(dir string) {
			check(os.Remove(newest(packs(dir, "pack"))))
		}, false},
		{"refs are noise", func(dir string) {
			check(os.WriteFile(filepath.Join(dir, "packed-refs"), []byte("\x00\x00\x00"), 0o600))
		}, false},
		{"index.lock and halves of a crash left behind", func(dir string) {
			check(os.WriteFile(filepath.Join(dir, "index.lock"), nil, 0o600))
			check(os.WriteFile(filepath.Join(dir, "packed-refs.new"), []byte("half"), 0o600))
			check(os.MkdirAll(filepath.Join(dir, "objects", "incoming-1"), 0o700))
			check(os.WriteFile(filepath.Join(dir, "objects", "incoming-1", "pack"), []byte("PACK"), 0o600))
			check(os.WriteFile(filepath.Join(dir, "objects", "pack", "pack-"+a+".idx"), []byte("alone"), 0o600))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "git")
			u.git("reset", "-q", "--hard", a)
			m := open(t, Options{Dir: dir, URL: url})
			if _, err := m.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			check(m.Pin(t.Context(), "dev", source.ID(a)))
			time.Sleep(20 * time.Millisecond)
			b := u.commit("b "+c.name, map[string]string{"x": c.name})
			if _, err := m.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.Close()
			c.damage(dir)

			if !c.sound {
				if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrCorrupt) {
					t.Errorf("without a host: %v, want ErrCorrupt", err)
				}
			}
			m = open(t, Options{Dir: dir, URL: url})
			if (m.Rebuilt() == "") != c.sound {
				t.Errorf("Rebuilt = %q", m.Rebuilt())
			}
			t.Log("rebuilt: ", m.Rebuilt())
			if !c.sound && c.name != "refs are noise" { // the pin lay in the older pack, which is whole
				if _, err := m.Tree(t.Context(), source.ID(a)); err != nil || len(m.Pins("dev")) != 1 {
					t.Errorf("the pinned commit: %v, pins %v", err, m.Pins("dev"))
				}
			}
			if _, err := m.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			unmoved(t, m, b)
			if left, _ := filepath.Glob(filepath.Join(dir, "objects", "incoming-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
