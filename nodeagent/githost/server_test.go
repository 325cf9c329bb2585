package githost_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/githost"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

const token = "a-token-of-some-length"

// TestToken needs the right token, in either form, and none on loopback without one.
func TestToken(t *testing.T) {
	closed, free := serve(t, githost.Options{Token: token}), serve(t, githost.Options{})
	w := newWork(t)
	w.commit("a", map[string]string{"x": "1"})
	if out, err := w.try("push", closed.url, "main"); err == nil {
		t.Errorf("a push without token went through:\n%s", out)
	}
	with := func(user string) string { return strings.Replace(closed.url, "http://", "http://"+user+"@", 1) }
	if out, err := w.try("push", with("ada:wrong"), "main"); err == nil {
		t.Errorf("a push with a wrong token went through:\n%s", out)
	}
	w.git("push", with("ada:"+token), "main")
	w.git("-c", "http.extraHeader=Authorization: Bearer "+token, "ls-remote", closed.url)
	w.git("push", free.url, "main")

	for _, c := range []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"plain", func(*http.Request) {}, 200},
		{"a name that resolves to loopback", func(r *http.Request) { r.Host = "evil.example:7443" }, 403},
		{"localhost", func(r *http.Request) { r.Host = "localhost:7443" }, 200},
		{"IPv6", func(r *http.Request) { r.Host = "[::1]:7443" }, 200},
		{"a web page", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		{"dumb http", func(r *http.Request) { r.URL.RawQuery = "" }, 403},
		{"another service", func(r *http.Request) { r.URL.RawQuery = "service=git-shell" }, 403},
		{"another path", func(r *http.Request) { r.URL.Path = "/repo.git/objects/info/packs" }, 404},
		{"outside", func(r *http.Request) { r.URL.Path = "/repo.gitx/info/refs" }, 404},
		{"POST", func(r *http.Request) { r.Method = http.MethodPost }, 405},
	} {
		r, err := http.NewRequest(http.MethodGet, free.url+"/info/refs?service=git-upload-pack", nil)
		if err != nil {
			t.Fatal(err)
		}
		c.change(r)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", c.name, answer.StatusCode, c.want)
		}
	}
	s, err := githost.New(githost.Options{Repo: free.Mirror})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/repo.git/info/refs?service=git-upload-pack", nil)
	r.RemoteAddr = "192.0.2.7:999"
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	if rec.Code != 403 {
		t.Errorf("another machine without a token: status %d, want 403", rec.Code)
	}
	if _, err := githost.New(githost.Options{Repo: free.Mirror, Token: "short"}); err == nil {
		t.Error("a short token was taken")
	}
}

// TestPushes goes through what a client may do to refs.
func TestPushes(t *testing.T) {
	var veto atomic.Pointer[string]
	h := serve(t, githost.Options{Accept: func(_ context.Context, p githost.Push) error {
		if why := veto.Load(); why != nil {
			return errors.New(*why)
		}
		return nil
	}})
	w := newWork(t)
	a := w.commit("a", map[string]string{"x": "1"})
	step := func(want string, args ...string) {
		t.Helper()
		out, err := w.try(append([]string{"push"}, args...)...)
		if (err == nil) != (want == "") || !strings.Contains(out, want) {
			t.Errorf("push %v: %v\n%swant %q", args[1:], err, out, want)
		}
	}
	step("", h.url, "main")
	step("", h.url, "main:refs/heads/env/production")
	w.git("tag", "-a", "v1", "-m", "one")
	step("", h.url, "v1")
	b := w.commit("b", map[string]string{"x": "2"})
	step("", h.url, "main")
	w.git("reset", "-q", "--hard", a)
	c := w.commit("c", map[string]string{"x": "3"})
	step("non-fast-forward", h.url, "main")
	step("", "--force", h.url, "main")
	step("", h.url, ":refs/heads/env/production")
	step("the default branch is not deleted", h.url, ":main")
	step("only branches and tags can be pushed", h.url, "main:refs/notes/x")
	step("only branches and tags can be pushed", h.url, "main:refs/shoal/pins/dev/"+c)
	step("stale info", "--force-with-lease=main:"+b, h.url, b+":main")
	why := "production is frozen\nuntil Monday"
	veto.Store(&why)
	d := w.commit("d", map[string]string{"x": "4"})
	step("production is frozen until Monday", h.url, "main")
	veto.Store(nil)
	var refs []string
	for _, r := range h.Refs() {
		refs = append(refs, r.Name+" "+string(r.ID))
	}
	want := "refs/heads/main " + c + "\nrefs/tags/v1 " + w.git("rev-parse", "v1")
	if got := strings.Join(refs, "\n"); got != want {
		t.Errorf("refs are\n%s\nwant\n%s", got, want)
	}
	// All or nothing: one ref that was moved by someone else holds back the other.
	w.git("branch", "two")
	old := source.ID(strings.Repeat("1", 40))
	answer := post(t, h.url, []byte(pkts(
		fmt.Sprintf("%s %s refs/heads/main\x00report-status", c, a),
		fmt.Sprintf("%s %s refs/heads/two", old, a))))
	if !strings.Contains(answer, "ng refs/heads/main refs/heads/two: the ref moved meanwhile") {
		t.Errorf("the answer is %q", answer)
	}
	step("", h.url, "main", "two")
	if now, err := h.Head("two"); string(now) != d || err != nil {
		t.Errorf("two is at %s, %v, want %s", now, err, d)
	}
	w.dir = h.Dir()
	w.git("fsck", "--strict", "--full")
}

// pkts are pkt-lines and a flush.
func pkts(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%04x%s", len(l)+4, l)
	}
	return b.String() + "0000"
}

// TestFetches goes through what a client may ask for.
func TestFetches(t *testing.T) {
	h := serve(t, githost.Options{})
	w := newWork(t)
	w.commit("0", map[string]string{"x": "0"})
	w.git("push", "-q", h.url, "main")
	if out := w.git("ls-remote", "--symref", h.url, "HEAD"); !strings.HasPrefix(out, "ref: refs/heads/main\tHEAD") {
		t.Errorf("ls-remote: %s", out)
	}
	for i := range 40 {
		w.commit(fmt.Sprint(i), map[string]string{"x": strings.Repeat(fmt.Sprintln(i), i), fmt.Sprintf("d%d/f", i%5): fmt.Sprint(i)})
	}
	w.git("merge", "-q", "--no-ff", "-m", "merge", w.git("commit-tree", "HEAD~3^{tree}", "-p", "HEAD~3", "-m", "side"))
	w.git("push", "-q", h.url, "main")
	tip := w.git("rev-parse", "HEAD")
	clone := func(args ...string) work {
		t.Helper()
		c := newWork(t)
		c.git(append([]string{"clone", "-q"}, append(args, h.url, "c")...)...)
		c.dir = filepath.Join(c.dir, "c")
		if got := c.git("rev-parse", "HEAD"); got != tip {
			t.Errorf("clone %v is at %s, want %s", args, got, tip)
		}
		c.git("fsck", "--full")
		return c
	}
	full, shallow := clone(), clone("--depth", "1")
	if n := full.git("rev-list", "--count", "HEAD"); n != w.git("rev-list", "--count", "HEAD") {
		t.Errorf("a clone has %s commits", n)
	}
	if n := shallow.git("rev-list", "--count", "HEAD"); n != "1" {
		t.Errorf("a shallow clone has %s commits", n)
	}
	v2 := clone("-c", "protocol.version=2") // falls back
	v2.git("pull", "-q")
	for range 3 {
		tip = w.commit("more", map[string]string{"x": "more" + tip})
		w.git("push", "-q", h.url, "main")
		for _, c := range []work{full, shallow} {
			c.git("pull", "-q", "--ff-only")
			if got := c.git("rev-parse", "HEAD"); got != tip {
				t.Errorf("pull came to %s, want %s", got, tip)
			}
			c.git("fsck", "--full")
		}
	}
	shallow.git("fetch", "-q", "--depth", "10")
	shallow.git("fsck", "--full")
	shallow.git("fetch", "-q", "--unshallow")
	if n := shallow.git("rev-list", "--count", "HEAD"); n != w.git("rev-list", "--count", "HEAD") {
		t.Errorf("an unshallowed clone has %s commits", n)
	}
	shallow.git("fsck", "--full")
	// A clone with history of its own negotiates over many haves.
	for i := range 60 {
		full.commit(fmt.Sprint("own ", i), nil)
	}
	tip = w.commit("last", nil)
	w.git("push", "-q", h.url, "main")
	full.git("fetch", "-q")
	if got := full.git("rev-parse", "origin/main"); got != tip {
		t.Errorf("fetch came to %s, want %s", got, tip)
	}
	// A mirror fetches from another node's server.
	m, err := gitsync.Open(t.Context(), gitsync.Options{Dir: filepath.Join(t.TempDir(), "git"), URL: h.url, Depth: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	tip = w.commit("for the mirror", map[string]string{"x": "mirror"})
	w.git("push", "-q", h.url, "main")
	if list, err := m.Fetch(t.Context()); err != nil || len(list) != 1 || string(list[0].New) != tip || list[0].Relation != source.Forward {
		t.Errorf("Fetch = %+v, %v", list, err)
	}
}

// TestBigPush is one that git sends in pieces after a probe.
func TestBigPush(t *testing.T) {
	h := serve(t, githost.Options{})
	w := newWork(t)
	files := map[string]string{}
	for i := range 300 {
		sum := sha256.Sum256([]byte(fmt.Sprint(i)))
		files[fmt.Sprintf("f%d", i)] = strings.Repeat(hex.EncodeToString(sum[:]), 10) + string(bytes.Repeat(sum[:], 50))
	}
	var noise bytes.Buffer
	for i := range 100_000 {
		sum := sha256.Sum256([]byte(fmt.Sprint("noise", i)))
		noise.Write(sum[:])
	}
	files["noise"] = noise.String()
	tip := w.commit("big", files)
	w.git("push", "-q", h.url, "main")
	if now, err := h.Head("main"); string(now) != tip || err != nil {
		t.Errorf("main is at %s, %v", now, err)
	}
}

// TestPushSurvives copies the repository at the moment the hook runs: what was acknowledged is in the copy.
func TestPushSurvives(t *testing.T) {
	var h host
	var n int
	h = serve(t, githost.Options{Pushed: func(ctx context.Context, u []source.RefUpdate, _ io.Writer) {
		n++
		dir := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(dir, os.DirFS(h.Dir())); err != nil {
			t.Error(err)
			return
		}
		m, err := gitsync.Open(ctx, gitsync.Options{Dir: dir})
		if err != nil {
			t.Error(err)
			return
		}
		defer m.Close()
		if now, err := m.Head(u[0].Name); now != u[0].New || err != nil {
			t.Errorf("the copy is at %s, %v, want %s", now, err, u[0].New)
		}
		if _, err := m.Tree(ctx, u[0].New); err != nil {
			t.Error(err)
		}
	}})
	w := newWork(t)
	for i := range 5 {
		w.commit(fmt.Sprint(i), map[string]string{"x": fmt.Sprint(i)})
		w.git("push", "-q", h.url, "main")
	}
	if n != 5 {
		t.Errorf("Pushed ran %d times, want 5", n)
	}
}

// TestFault_G18 pushes 300 commits from 6 clients as fast as they can: none is lost, whatever is merged meanwhile. Then it
// sends webhooks: a storm, forged ones and one of 1 GiB.
func TestFault_G18(t *testing.T) {
	var hooks atomic.Int64
	h := serve(t, githost.Options{Pushed: func(context.Context, []source.RefUpdate, io.Writer) { hooks.Add(1) }})
	tree := source.EncodeTree(nil)
	const clients, each = 6, 50
	var wg sync.WaitGroup
	tips := make([]source.ID, clients)
	for c := range clients {
		wg.Go(func() {
			var old source.ID
			for i := range each {
				commit := source.Commit{Tree: source.ObjectID("tree", tree), Message: fmt.Sprintln(c, i)}
				if old != "" {
					commit.Parents = []source.ID{old}
				}
				raw := source.EncodeCommit(commit)
				tip := source.ObjectID("commit", raw)
				objects := map[string][][]byte{"commit": {raw}}
				if old == "" {
					objects["tree"] = [][]byte{tree}
				}
				body := pushBody(t, old, tip, objects)
				body = bytes.Replace(body, []byte("refs/heads/main"), fmt.Appendf(nil, "refs/heads/br%02d", c), 1)
				if answer := post(t, h.url, body); !strings.Contains(answer, "ok refs/heads/") {
					t.Errorf("client %d push %d: %q", c, i, answer)
					return
				}
				old = tip
			}
			tips[c] = old
		})
	}
	wg.Wait()
	for c, tip := range tips {
		log, err := h.Log(t.Context(), tip, 1000)
		if now, e := h.Head(fmt.Sprintf("br%02d", c)); now != tip || len(log) != each || err != nil || e != nil {
			t.Errorf("client %d: at %s with %d commits, %v, %v", c, now, len(log), err, e)
		}
	}
	if n := hooks.Load(); n != clients*each {
		t.Errorf("Pushed ran %d times, want %d", n, clients*each)
	}

	const secret = "webhook-secret"
	var wakes atomic.Int64
	hook := httptest.NewServer(githost.Webhook(secret, func() { wakes.Add(1) }))
	defer hook.Close()
	sign := func(body, key string) string {
		m := hmac.New(sha256.New, []byte(key))
		io.WriteString(m, body)
		return hex.EncodeToString(m.Sum(nil))
	}
	const body = `{"ref":"refs/heads/main"}`
	long := strings.Repeat("x", githost.MaxWebhook+1)
	for _, c := range []struct {
		name, header, value, body string
		want                      int
	}{
		{"GitHub", "X-Hub-Signature-256", "sha256=" + sign(body, secret), body, 202},
		{"Gitea", "X-Gitea-Signature", sign(body, secret), body, 202},
		{"GitLab", "X-Gitlab-Token", secret, body, 202},
		{"other body", "X-Hub-Signature-256", "sha256=" + sign(body, secret), body + " ", 403},
		{"other key", "X-Hub-Signature-256", "sha256=" + sign(body, "x"), body, 403},
		{"sha1 of old", "X-Hub-Signature", "sha1=" + sign(body, secret), body, 403},
		{"no prefix", "X-Hub-Signature-256", sign(body, secret), body, 403},
		{"cut", "X-Gitea-Signature", sign(body, secret)[:32], body, 403},
		{"no hex", "X-Gitea-Signature", "zz", body, 403},
		{"other token", "X-Gitlab-Token", "x", body, 403},
		{"none", "X", "y", body, 403},
		{"too long", "X-Gitea-Signature", sign(long, secret), long, 413},
		{"as long as may be", "X-Gitea-Signature", sign(long[1:], secret), long[1:], 202},
	} {
		before := wakes.Load()
		r, _ := http.NewRequest(http.MethodPost, hook.URL, strings.NewReader(c.body))
		r.Header.Set(c.header, c.value)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if woke := wakes.Load() > before; answer.StatusCode != c.want || woke != (c.want == 202) {
			t.Errorf("%s: status %d, woke: %v, want %d", c.name, answer.StatusCode, woke, c.want)
		}
	}
	// 1 GiB without a length is cut off after 1 MiB.
	r, _ := http.NewRequest(http.MethodPost, hook.URL, io.LimitReader(endless{}, 1<<30))
	r.Header.Set("X-Gitea-Signature", "00")
	start := time.Now()
	if answer, err := http.DefaultClient.Do(r); err == nil {
		answer.Body.Close()
		if answer.StatusCode != 413 {
			t.Errorf("1 GiB: status %d, want 413", answer.StatusCode)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("1 GiB took %s", took)
	}
	rec := httptest.NewRecorder()
	githost.Webhook("", func() { t.Error("woken without a secret") }).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/", nil))
	if rec.Code != 403 {
		t.Errorf("without a secret: status %d", rec.Code)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestHostileRequests sends what no client would. Each gets an error that says what was wrong, and the server goes on.
func TestHostileRequests(t *testing.T) {
	h := serve(t, githost.Options{Limits: githost.Limits{Body: 1 << 20, Commands: 10, Haves: 100}})
	w := newWork(t)
	a := w.commit("a", map[string]string{"x": "1"})
	w.git("push", "-q", h.url, "main")
	zero, one := strings.Repeat("0", 40), strings.Repeat("1", 40)
	zip := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, s)
		z.Close()
		return b.String()
	}
	line := func(i int) string { return fmt.Sprintf("%s %s refs/heads/x%d", zero, one, i) }
	var many, haves []string
	for i := range 11 {
		many = append(many, line(i))
	}
	for range 101 {
		haves = append(haves, "have "+one)
	}
	for _, c := range []struct {
		name, service, encoding, body string
		status                        int
		want                          string
	}{
		{"empty", "receive-pack", "", "", 400, "push: EOF"},
		{"a probe", "receive-pack", "", "0000", 200, ""},
		{"no length", "receive-pack", "", "zzzz", 400, `"zzzz" is no pkt-line length`},
		{"length 1", "receive-pack", "", "0001", 400, "a pkt-line of length 1"},
		{"too long", "receive-pack", "", "fff5", 400, "a pkt-line of length 65525"},
		{"cut", "receive-pack", "", "0010abc", 400, "unexpected EOF"},
		{"no command", "receive-pack", "", pkts("hello"), 400, `expected \"<old> <new> <ref>\"`},
		{"too many", "receive-pack", "", pkts(many...), 400, "a push of more than 10 refs"},
		{"a certificate", "receive-pack", "", pkts("push-cert\x00x"), 400, "signed pushes are not offered"},
		{"no pack", "receive-pack", "", pkts(line(1) + "\x00report-status"), 200, "ng refs/heads/x1 pack header: the pack is cut short"},
		{"a bad name", "receive-pack", "", pkts(zero + " " + one + " refs/heads/../x\x00report-status"), 200, `holds ".."`},
		{"twice", "receive-pack", "", pkts(line(1)+"\x00report-status", line(1)), 200, "stands twice in one push"},
		{"a blob as a branch", "receive-pack", "", string(pushBody(t, "", source.ObjectID("blob", []byte("b")), map[string][][]byte{"blob": {[]byte("b")}})), 200, "the ref moved meanwhile"},
		{"no gzip", "upload-pack", "gzip", "x", 400, "not gzip"},
		{"a gzip bomb", "receive-pack", "gzip", zip(pkts(line(1)+"\x00report-status") + "PACK\x00\x00\x00\x02\x00\x00\x00\x01" + strings.Repeat("\x00", 8<<20)), 200, "ng refs/heads/x1"},
		{"brotli", "upload-pack", "br", "", 415, "not supported"},
		{"a want we lack", "upload-pack", "", pkts("want "+one) + "0009done\n", 200, "not our ref"},
		{"a filter", "upload-pack", "", pkts("want "+a+" side-band-64k", "filter blob:none"), 400, "filter is not offered"},
		{"a bad depth", "upload-pack", "", pkts("want "+a, "deepen -1"), 400, "deepen"},
		{"too many haves", "upload-pack", "", pkts("want "+a) + strings.TrimSuffix(pkts(haves...), "0000"), 400, "more than 100 objects"},
		{"no want", "upload-pack", "", pkts("have " + one), 400, `"have" in a fetch`},
	} {
		r, _ := http.NewRequest(http.MethodPost, h.url+"/git-"+c.service, strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/x-git-"+c.service+"-request")
		if c.encoding != "" {
			r.Header.Set("Content-Encoding", c.encoding)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		b, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != c.status || !strings.Contains(string(b), strings.ReplaceAll(c.want, `\"`, `"`)) {
			t.Errorf("%s: status %d: %q\nwant %d: %s", c.name, answer.StatusCode, b, c.status, c.want)
		}
	}
	if now, err := h.Head("main"); string(now) != a || err != nil || len(h.Refs()) != 1 {
		t.Errorf("main is at %s, %v; refs %v", now, err, h.Refs())
	}
	if left, _ := filepath.Glob(filepath.Join(h.Dir(), "objects", "incoming-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	w.commit("b", nil)
	w.git("push", "-q", h.url, "main")
}

// TestSlowClient gives up a client that stalls in the middle of a push, and leaves nothing.
func TestSlowClient(t *testing.T) {
	h := serve(t, githost.Options{Limits: githost.Limits{Idle: 200 * time.Millisecond}})
	address := strings.TrimSuffix(strings.TrimPrefix(h.url, "http://"), githost.Path)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /repo.git/git-receive-pack HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-git-receive-pack-request\r\nContent-Length: 100000\r\n\r\n%s", address,
		pkts(strings.Repeat("0", 40)+" "+strings.Repeat("1", 40)+" refs/heads/x\x00report-status")+"PACK")
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	start := time.Now()
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the server did not let go: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("given up after %s", took)
	}
	if left, _ := filepath.Glob(filepath.Join(h.Dir(), "objects", "incoming-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestLongRollout lets Pushed take longer than a client may be idle, then lets the client go away in the middle.
func TestLongRollout(t *testing.T) {
	const idle = 150 * time.Millisecond
	ended := make(chan error, 1)
	wait := 5 * idle
	h := serve(t, githost.Options{Limits: githost.Limits{Idle: idle}, Pushed: func(ctx context.Context, _ []source.RefUpdate, progress io.Writer) {
		io.WriteString(progress, "rolling out\n")
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		io.WriteString(progress, "rolled out\n")
		ended <- ctx.Err()
	}})
	w := newWork(t)
	w.commit("a", map[string]string{"x": "1"})
	if out := w.git("push", h.url, "main"); !strings.Contains(out, "remote: rolled out") {
		t.Errorf("the end of the rollout is not shown:\n%s", out)
	}
	if err := <-ended; err != nil {
		t.Errorf("the context ended while the client waited: %v", err)
	}
	wait = time.Minute
	b := w.commit("b", nil)
	a, err := h.Head("main")
	if err != nil {
		t.Fatal(err)
	}
	raw := w.git("cat-file", "commit", b) + "\n"
	body := pushBody(t, a, source.ID(b), map[string][][]byte{"commit": {[]byte(raw)}})
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/git-receive-pack", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/x-git-receive-pack-request")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	answer.Body.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the context did not end with the client")
		}
	case <-time.After(10 * time.Second):
		t.Error("Pushed was not told that the client went away")
	}
	if now, err := h.Head("main"); string(now) != b || err != nil {
		t.Errorf("main is at %s, %v, want %s: the push stands", now, err, b)
	}
}

// FuzzPush sends noise to the front door of a push.
func FuzzPush(f *testing.F) {
	h := serve(f, githost.Options{})
	s, err := githost.New(githost.Options{Repo: h.Mirror})
	if err != nil {
		f.Fatal(err)
	}
	zero, one := strings.Repeat("0", 40), strings.Repeat("1", 40)
	f.Add([]byte(pkts(zero+" "+one+" refs/heads/x\x00report-status side-band-64k") + "PACK\x00\x00\x00\x02\x00\x00\x00\x01"))
	f.Add([]byte(pkts("shallow "+one, zero+" "+one+" refs/heads/x\x00report-status")))
	f.Add([]byte("0000"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/repo.git/git-receive-pack", bytes.NewReader(body))
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("Content-Type", "application/x-git-receive-pack-request")
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		if rec.Code != 200 && rec.Code != 400 {
			t.Fatalf("status %d", rec.Code)
		}
	})
}

// FuzzFetch sends noise to the front door of a fetch.
func FuzzFetch(f *testing.F) {
	h := serve(f, githost.Options{})
	tree := source.EncodeTree(nil)
	raw := source.EncodeCommit(source.Commit{Tree: source.ObjectID("tree", tree), Message: "m"})
	tip := source.ObjectID("commit", raw)
	post(f, h.url, pushBody(f, "", tip, map[string][][]byte{"tree": {tree}, "commit": {raw}}))
	s, err := githost.New(githost.Options{Repo: h.Mirror})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(pkts("want "+string(tip)+" side-band-64k multi_ack_detailed no-done", "deepen 1") + "0009done\n"))
	f.Add([]byte(pkts("want "+string(tip), "shallow "+string(tip)) + pkts("have "+string(tip)) + "0009done\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/repo.git/git-upload-pack", bytes.NewReader(body))
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("Content-Type", "application/x-git-upload-pack-request")
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		if rec.Code != 200 && rec.Code != 400 {
			t.Fatalf("status %d", rec.Code)
		}
	})
}

// FuzzWebhook sends noise to the webhook; only the right signature wakes.
func FuzzWebhook(f *testing.F) {
	f.Add([]byte("{}"), "sha256=00")
	f.Fuzz(func(t *testing.T, body []byte, signature string) {
		woke := false
		hook := githost.Webhook("secret", func() { woke = true })
		m := hmac.New(sha256.New, []byte("secret"))
		m.Write(body)
		for _, header := range []string{"X-Hub-Signature-256", "X-Gitea-Signature", "X-Gitlab-Token"} {
			r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
			r.Header.Set(header, signature)
			hook.ServeHTTP(httptest.NewRecorder(), r)
		}
		if woke && signature != "secret" && !strings.EqualFold(strings.TrimPrefix(signature, "sha256="), hex.EncodeToString(m.Sum(nil))) {
			t.Fatalf("%q woke", signature)
		}
	})
}

// TestInside is a server that others are let in to by what it is mounted in: it asks nobody who they are, and is for
// reading alone.
func TestInside(t *testing.T) {
	h := serve(t, githost.Options{Inside: true, Token: token})
	w := newWork(t)
	w.commit("a", map[string]string{"x": "1"})
	if out, err := w.try("push", h.url, "main"); err == nil || !strings.Contains(out, "403") {
		t.Errorf("a push went through: %v\n%s", err, out)
	}
	free := serve(t, githost.Options{})
	w.git("push", free.url, "main")
	tip := source.ID(w.git("rev-parse", "main"))
	if err := h.TakeFrom(t.Context(), http.DefaultClient, free.url, []source.ID{tip}); err != nil {
		t.Fatal(err)
	}
	if err := h.Adopt(free.Refs(), nil); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, h.url+"/info/refs?service=git-upload-pack", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "node"
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("status %d", answer.StatusCode)
	}
	if got := w.git("ls-remote", h.url, "main"); !strings.HasPrefix(got, string(tip)) {
		t.Errorf("another node reads %q", got)
	}
}
