package forge

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

func TestFeature_V2_StatusOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		c := w.client()
		set := func(c *Client, s Status, writes int) {
			t.Helper()
			before := w.writes()
			if err := c.SetStatus(t.Context(), sha("aa"), s); err != nil {
				t.Error(err)
			}
			if n := w.writes() - before; n != writes {
				t.Errorf("%+v: %d writes, expected %d", s, n, writes)
			}
		}
		pending := Status{State: Pending, Context: "shoal/preview", Description: "rendering", Ref: "topic"}
		done := Status{State: Success, Context: "shoal/preview", Description: "ready", URL: "https://pr-1.example/", Ref: "topic"}
		set(c, pending, 1)
		set(c, pending, 0)
		set(w.client(), pending, 0) // another process looks at the forge
		set(c, done, 1)
		set(c, done, 0)
		set(w.client(), done, 0)
		other := done
		other.Context = "shoal/other"
		set(c, other, 1)
		set(c, pending, 1) // and back
		broken := Status{State: Fault, Context: "shoal/preview", Ref: "topic"}
		set(c, broken, 1)
		set(w.client(), broken, 0)
		reads := w.count("")
		set(c, broken, 0)
		if w.count("") != reads {
			t.Error("what is remembered was asked for")
		}
	})
}

func TestFeature_V2_StatusFits(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		long := Status{State: Failure, Context: "shoal", Description: strings.Repeat("ä\n", 400), URL: "https://x.example/" + strings.Repeat("y", 300), Ref: "topic"}
		if err := w.client().SetStatus(t.Context(), sha("aa"), long); err != nil {
			t.Fatal(err)
		}
		got := w.statuses[0]
		most := map[Kind]int{GitHub: 140, GitLab: 255, Gitea: 255}[w.kind]
		if n := utf8.RuneCountInString(got.text); n != most || !strings.HasSuffix(got.text, "…") || strings.Contains(got.text, "\n") {
			t.Errorf("description of %d characters", n)
		}
		if (got.url == "") != (w.kind == GitLab) || !strings.HasPrefix(long.URL, got.url) || got.url != "" && got.url != long.URL {
			t.Errorf("address %q", got.url)
		}
		want := map[Kind]string{GitLab: "failed"}[w.kind]
		if got.state != first(want, "failure") {
			t.Errorf("state %q", got.state)
		}
		if err := w.client().SetStatus(t.Context(), sha("aa"), long); err != nil || w.writes() != 1 {
			t.Errorf("again: %d writes, %v", w.writes(), err)
		}
	})
}

func TestStatus_PendingOnGitlabAgain(t *testing.T) {
	w := newWorld(t, GitLab)
	c := w.client()
	for _, text := range []string{"rendering", "starting", "starting"} {
		if err := c.SetStatus(t.Context(), sha("aa"), Status{State: Pending, Context: "shoal", Description: text, Ref: "topic"}); err != nil {
			t.Error(err)
		}
	}
	if n := w.writes(); n != 2 {
		t.Errorf("%d writes", n)
	}
}

func TestStatus_Arguments(t *testing.T) {
	w := newWorld(t, GitHub)
	for _, s := range []Status{
		{},
		{State: "done", Context: "x"},
		{State: Success},
		{State: Success, Context: "x", URL: "javascript:alert(1)"},
		{State: Success, Context: "a\nb"},
		{State: Success, Context: "x", URL: "https://u:p@x.example"},
	} {
		if err := w.client().SetStatus(t.Context(), sha("aa"), s); err == nil {
			t.Errorf("%+v was taken", s)
		}
	}
	if err := w.client().SetStatus(t.Context(), "main", Status{State: Success, Context: "x"}); err == nil || w.count("") > 0 {
		t.Errorf("a branch was taken: %v", err)
	}
}

// lose drops the answer to the next write, after or before it was done.
func (w *world) lose(done bool) {
	w.set(func() {
		drop := func(rw http.ResponseWriter, op string) bool {
			if strings.HasPrefix(op, "GET ") {
				return false
			}
			w.before, w.after = nil, nil
			conn, _, err := rw.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
			return true
		}
		if done {
			w.after = drop
		} else {
			w.before = drop
		}
	})
}

func TestFeature_V2_StatusAfterALostAnswer(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		for _, done := range []bool{true, false} {
			c, s := w.client(), Status{State: Success, Context: fmt.Sprint("shoal/", done), Ref: "topic"}
			w.lose(done)
			if err := c.SetStatus(t.Context(), sha("aa"), s); err == nil {
				t.Error("no error")
			}
			if err := c.SetStatus(t.Context(), sha("aa"), s); err != nil {
				t.Error(err)
			}
			w.set(func() {
				n := 0
				for _, had := range w.statuses {
					if had.name == s.Context {
						n++
					}
				}
				if n != 1 {
					t.Errorf("done %v: %d statuses", done, n)
				}
			})
		}
	})
}

func TestFeature_V2_OneComment(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			w.open(1, sha("aa"))
			for n := range 130 { // ours is not on the first page
				w.comments = append(w.comments, &wComment{id: w.next(), number: 1, by: "tom", body: fmt.Sprint("comment ", n)})
			}
			w.comments[7].body = "<!-- shoal preview -->\nnot by us"
		})
		c := w.client()
		say := func(c *Client, text string, writes int, want ...string) {
			t.Helper()
			before := w.writes()
			if err := c.Comment(t.Context(), 1, "preview", text); err != nil {
				t.Error(err)
			}
			if n := w.writes() - before; n != writes {
				t.Errorf("%q: %d writes, expected %d", text, n, writes)
			}
			w.set(func() {
				var got []string
				for _, c := range w.comments {
					if c.by == "ring" {
						got = append(got, c.body)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("comments %q, expected %q", got, want)
				}
			})
		}
		const mark = "<!-- shoal preview -->\n"
		say(c, "hello", 1, mark+"hello")
		say(c, "hello\r\n", 0, mark+"hello")
		say(c, "hello again", 1, mark+"hello again")
		say(w.client(), "hello again", 0, mark+"hello again") // a new process finds it
		say(w.client(), "third", 1, mark+"third")
		say(c, "fourth", 1, mark+"fourth")
		w.set(func() { w.comments = w.comments[:130] }) // somebody removes it
		say(c, "fourth", 0)
		say(c, "fifth", 2, mark+"fifth") // an edit that finds nothing, then a new one
		w.set(func() {                   // two processes wrote at once
			w.comments = append(w.comments, &wComment{id: w.next(), number: 1, by: "ring", body: mark + "twin"})
		})
		say(w.client(), "sixth", 2, mark+"sixth")
		if w.comments[7].body != "<!-- shoal preview -->\nnot by us" {
			t.Error("another's comment was changed")
		}
	})
}

func TestFeature_V2_CommentAfterALostAnswer(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() { w.open(1, sha("aa")) })
		for _, done := range []bool{true, false} {
			w.set(func() { w.comments = nil })
			c := w.client()
			w.lose(done)
			if err := c.Comment(t.Context(), 1, "preview", "hello"); err == nil {
				t.Fatal("no error")
			}
			err := c.Comment(t.Context(), 1, "preview", "hello")
			if later, ok := errors.AsType[*Later](err); done && err != nil || !done && (!ok || !later.NotBefore.Equal(w.clock().Add(c.opt.Limits.Settle))) {
				t.Errorf("done %v: %v", done, err)
			}
			w.set(func() { w.now = w.now.Add(c.opt.Limits.Settle) })
			if err := c.Comment(t.Context(), 1, "preview", "hello"); err != nil {
				t.Error(err)
			}
			if n := len(w.comments); n != 1 {
				t.Errorf("done %v: %d comments", done, n)
			}
		}
	})
}

func TestFeature_V2_OneCommentThoughManyWrite(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() { w.open(1, sha("aa")); w.open(2, sha("bb")) })
		c := w.client()
		var all sync.WaitGroup
		for n := range 20 {
			all.Go(func() {
				if err := c.Comment(t.Context(), 1+n%2, "preview", fmt.Sprint("text ", n)); err != nil {
					t.Error(err)
				}
				if err := c.SetStatus(t.Context(), sha("aa"), Status{State: Success, Context: "shoal", Ref: "topic"}); err != nil {
					t.Error(err)
				}
				if _, err := c.Pulls(t.Context(), []int{1, 2}); err != nil {
					t.Error(err)
				}
				if _, err := c.Approved(t.Context(), 1, "preview", sha("aa"), at(0)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(w.comments) != 2 || len(w.statuses) != 1 {
			t.Errorf("%d comments, %d statuses", len(w.comments), len(w.statuses))
		}
	})
}

func TestComment_AsAnApp(t *testing.T) {
	w := newWorld(t, GitHub)
	w.set(func() {
		w.open(1, sha("aa"))
		w.users["ring"].login = "shoal[bot]"
		w.before = func(rw http.ResponseWriter, op string) bool {
			if op == "GET /user" {
				http.Error(rw, `{"message":"Resource not accessible by integration"}`, http.StatusForbidden)
				return true
			}
			return false
		}
	})
	if err := w.client().Comment(t.Context(), 1, "preview", "x"); err == nil || !strings.Contains(err.Error(), "set User") || w.writes() > 0 {
		t.Errorf("got %v", err)
	}
	for _, text := range []string{"one", "two"} {
		if err := w.client(func(o *Options) { o.User = "shoal[bot]" }).Comment(t.Context(), 1, "preview", text); err != nil {
			t.Error(err)
		}
	}
	if len(w.comments) != 1 || !strings.HasSuffix(w.comments[0].body, "two") {
		t.Errorf("%d comments", len(w.comments))
	}
}

func TestComment_Arguments(t *testing.T) {
	w := newWorld(t, GitHub)
	w.set(func() { w.open(1, sha("aa")) })
	for _, marker := range []string{"", "a b", "a-->", "a--b", "é", strings.Repeat("x", 101)} {
		if err := w.client().Comment(t.Context(), 1, marker, "x"); err == nil {
			t.Errorf("%q was taken", marker)
		}
	}
	if err := w.client().Comment(t.Context(), 0, "x", "x"); err == nil || w.count("") > 0 {
		t.Errorf("number 0 was taken: %v", err)
	}
	if err := w.client().Comment(t.Context(), 1, "x", strings.Repeat("ä", 100_000)+"\xff"); err != nil {
		t.Error(err)
	}
	if n := utf8.RuneCountInString(w.comments[0].body); n != maxBody {
		t.Errorf("%d characters", n)
	}
}

func TestFeature_V2_DeployAndRetire(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		c := w.client()
		act := func(writes int, f func(c *Client) error, on ...*Client) {
			t.Helper()
			before := w.writes()
			if err := f(append(on, c)[0]); err != nil {
				t.Error(err)
			}
			if n := w.writes() - before; w.kind != Gitea && n != writes {
				t.Errorf("%d writes, expected %d", n, writes)
			}
		}
		deploy := func(commit, url string, s State) func(*Client) error {
			return func(c *Client) error {
				return c.Deploy(t.Context(), Deployment{Environment: "preview/pr-1", Commit: commit, Ref: "topic", URL: url, State: s})
			}
		}
		retire := func(c *Client) error { return c.Retire(t.Context(), "preview/pr-1") }
		const url = "https://pr-1.example/"
		act(0, retire) // not known: nothing to do
		act(2, deploy(sha("aa"), url, Pending))
		act(0, deploy(sha("aa"), url, Pending))
		act(1, deploy(sha("aa"), url, Success))
		act(0, deploy(sha("aa"), url, Success), w.client())
		act(map[Kind]int{GitHub: 2, GitLab: 1}[w.kind], deploy(sha("bb"), url, Success))
		w.set(func() {
			if w.kind == Gitea {
				if len(w.asked) > 0 {
					t.Errorf("gitea was asked %v", w.asked)
				}
				return
			}
			if n := len(w.deploys); n != 2 {
				t.Errorf("%d deployments", n)
			}
			if w.kind == GitLab && (len(w.environs) != 1 || w.environs[0].url != url || w.environs[0].state != "available") {
				t.Errorf("environments %+v", w.environs)
			}
		})
		act(1, retire)
		act(0, retire)
		act(0, retire, w.client())
		act(map[Kind]int{GitHub: 2, GitLab: 1}[w.kind], deploy(sha("bb"), url, Success)) // opened again at the same commit
		act(map[Kind]int{GitHub: 2, GitLab: 2}[w.kind], deploy(sha("cc"), "https://new.example/", Failure))
	})
}

func TestRetire_ManyDeployments(t *testing.T) {
	w := newWorld(t, GitHub)
	w.set(func() {
		for n := range 40 {
			d := &wDeploy{id: w.next(), env: "pr-1", commit: sha(fmt.Sprintf("%04x", n)), states: []string{"inactive"}, urls: []string{""}}
			w.deploys = append(w.deploys, d)
		}
		w.deploys[39].states[0], w.deploys[38].states[0] = "success", "error"
	})
	if err := w.client().Retire(t.Context(), "pr-1"); err != nil {
		t.Fatal(err)
	}
	if w.writes() != 2 || w.count("") > 10 {
		t.Errorf("%d writes of %d requests", w.writes(), w.count(""))
	}
	for _, d := range w.deploys {
		if d.states[len(d.states)-1] != "inactive" {
			t.Errorf("%s is %v", d.commit, d.states)
		}
	}
}

func TestDeploy_Arguments(t *testing.T) {
	w := newWorld(t, GitLab)
	good := Deployment{Environment: "pr-1", Commit: sha("aa"), Ref: "topic", State: Success}
	for _, edit := range []func(*Deployment){
		func(d *Deployment) { d.Environment = "" },
		func(d *Deployment) { d.Environment = "/x" },
		func(d *Deployment) { d.Environment = "x\ny" },
		func(d *Deployment) { d.Environment = strings.Repeat("x", 256) },
		func(d *Deployment) { d.Commit = "main" },
		func(d *Deployment) { d.State = "" },
		func(d *Deployment) { d.URL = "ftp://x" },
		func(d *Deployment) { d.Ref = "" },
	} {
		d := good
		edit(&d)
		if err := w.client().Deploy(t.Context(), d); err == nil {
			t.Errorf("%+v was taken", d)
		}
	}
	if err := w.client().Retire(t.Context(), "../x\x00"); err == nil || w.count("") > 0 {
		t.Errorf("taken: %v", err)
	}
}

func TestMemory(t *testing.T) {
	m := newMemory(3)
	for n := range 100 {
		key := fmt.Sprint(n % 10)
		m.set(key, line{text: key})
		m.forget(fmt.Sprint((n + 1) % 10))
		if len(m.lines) > 3 || len(m.order) > 3 {
			t.Fatalf("%d lines, %d in order", len(m.lines), len(m.order))
		}
	}
	if l, ok := m.get("9"); !ok || l.text != "9" {
		t.Errorf("got %+v", l)
	}
	if _, ok := m.get("1"); ok {
		t.Error("the oldest is still there")
	}
}
