package forge

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// nonsense is what may come in place of any answer.
var nonsense = []struct{ name, body, want string }{
	{"empty", "", "got nothing"},
	{"null", "null", "got null"},
	{"html", "<!DOCTYPE html><title>Sign in</title>", "got HTML"},
	{"text", "upstream connect error", "begins with"},
	{"number", "17", "begins with"},
	{"cut short", `[{"number":1,"sta`, ""},
	{"deep", strings.Repeat("[", 20000), ""},
	{"a list of null", "[null]", ""},
	{"a list of numbers", "[1]", ""},
	{"a list of lists", "[[]]", ""},
	{"two values", "[] []", ""},
	{"ids of strings", `[{"id":"1","number":"1","iid":"1","sha":1}]`, ""},
	{"ids out of range", `[{"id":0,"number":0,"iid":0}]`, ""},
	{"an object of ids out of range", `{"id":-1,"number":-1,"iid":-1}`, ""},
	{"an object of strings", `{"id":"x","number":"x","iid":"x","permission":3,"access_level":"50"}`, ""},
}

// acts are the calls, each with what it needs to get as far as it can.
var acts = []struct {
	name string
	act  func(t *testing.T, c *Client) (string, error) // what it believes, "" if nothing
}{
	{"pulls", func(t *testing.T, c *Client) (string, error) {
		l, err := c.Pulls(t.Context(), []int{1, 2})
		if len(l.Closed) > 0 {
			return "closed", err
		}
		return "", err
	}},
	{"approved", func(t *testing.T, c *Client) (string, error) {
		a, err := c.Approved(t.Context(), 1, "preview", sha("aa"), at(0))
		if a.Approved {
			return "approved", err
		}
		return "", err
	}},
	{"status", func(t *testing.T, c *Client) (string, error) {
		return "", c.SetStatus(t.Context(), sha("aa"), Status{State: Success, Context: "shoal", Ref: "topic"})
	}},
	{"comment", func(t *testing.T, c *Client) (string, error) {
		return "", c.Comment(t.Context(), 1, "preview", "hello")
	}},
	{"deploy", func(t *testing.T, c *Client) (string, error) {
		return "", c.Deploy(t.Context(), Deployment{Environment: "pr-1", Commit: sha("aa"), Ref: "topic", URL: "https://pr-1.example", State: Success})
	}},
	{"retire", func(t *testing.T, c *Client) (string, error) { return "", c.Retire(t.Context(), "pr-1") }},
}

// ready is a world in which every act would do something.
func ready(w *world) {
	w.set(func() {
		p := w.open(1, sha("aa"))
		w.now = at(30)
		w.label(p, "maria", "preview")
		w.environs = append(w.environs, &wEnviron{id: w.next(), name: "pr-1", state: "available", url: "https://old.example"})
		w.deploys = append(w.deploys, &wDeploy{id: w.next(), env: "pr-1", commit: sha("bb"), states: []string{"running"}, urls: []string{""}})
	})
}

// TestFault_P4_NonsenseInPlaceOfEachAnswer puts each piece of nonsense in the place of the first, second, ... answer
// of each act. Nothing may be closed or approved, no act may panic, and what a forge said wrongly is not believed.
func TestFault_P4_NonsenseInPlaceOfEachAnswer(t *testing.T) {
	eachKind(t, func(t *testing.T, of *world) {
		kind := of.kind
		for _, act := range acts {
			for _, bad := range nonsense {
				for nth := 1; nth < 8; nth++ {
					w := newWorld(t, kind)
					ready(w)
					asked, put, read, fine := 0, false, false, false
					w.set(func() {
						w.before = func(rw http.ResponseWriter, op string) bool {
							if asked++; asked != nth {
								return false
							}
							put, read = true, strings.HasPrefix(op, "GET ")
							if kind == Gitea && strings.HasSuffix(op, "/timeline") && bad.name == "null" {
								fine = true // that is how it says that there is no more
							}
							rw.Header().Set("Content-Type", "application/json")
							_, _ = io.WriteString(rw, bad.body)
							return true
						}
					})
					believed, err := act.act(t, w.client())
					w.srv.Close()
					switch {
					case !put || fine && err == nil:
					case believed != "":
						t.Errorf("%s, answer %d %s: %s", act.name, nth, bad.name, believed)
					case read && err == nil && act.name != "pulls" && act.name != "approved": // these may be incomplete or refused
						t.Errorf("%s, answer %d %s: no error", act.name, nth, bad.name)
					case nth == 1 && err != nil && !strings.Contains(err.Error(), bad.want):
						t.Errorf("%s, answer %d %s: %v, expected %q", act.name, nth, bad.name, err, bad.want)
					}
					if !put {
						break
					}
				}
			}
		}
	})
}

// TestFault_P4_NonsenseInTheList has one good pull request and one that is wrong in one field.
func TestFault_P4_NonsenseInTheList(t *testing.T) {
	good := map[Kind]string{
		GitHub: `{"number":1,"state":"open","user":{"id":5,"login":"eve"},"labels":[],"head":{"ref":"t","sha":"` + sha("aa") +
			`","repo":{"id":2}},"base":{"ref":"main","repo":{"id":1}},"updated_at":"2026-03-01T11:00:00Z"}`,
		GitLab: `{"iid":1,"state":"opened","author":{"id":5,"username":"eve"},"labels":[],"source_branch":"t","sha":"` + sha("aa") +
			`","source_project_id":2,"target_project_id":1,"target_branch":"main","updated_at":"2026-03-01T11:00:00Z"}`,
		Gitea: `{"number":1,"state":"open","user":{"id":5,"login":"eve"},"labels":[],"head":{"label":"t","ref":"t","sha":"` + sha("aa") +
			`","repo":{"id":2},"repo_id":2},"base":{"ref":"main","repo_id":1},"updated_at":"2026-03-01T11:00:00Z"}`,
	}
	number := map[Kind]string{GitHub: `"number":1`, GitLab: `"iid":1`, Gitea: `"number":1`}
	commit := `"sha":"` + sha("aa") + `"`
	swaps := []struct {
		name string
		from func(k Kind) string
		to   string // "N" stands for the field's name
		want string
	}{
		{"number 0", func(k Kind) string { return number[k] }, `N:0`, "expected 1 to 2147483647, got 0"},
		{"number below 0", func(k Kind) string { return number[k] }, `N:-7`, "got -7"},
		{"number too large", func(k Kind) string { return number[k] }, `N:2147483648`, "got 2147483648"},
		{"number far too large", func(k Kind) string { return number[k] }, `N:99999999999999999999`, "expected a whole number"},
		{"number with a fraction", func(k Kind) string { return number[k] }, `N:1.5`, "expected a whole number, got number 1.5"},
		{"number as text", func(k Kind) string { return number[k] }, `N:"1"`, "expected a whole number, got string"},
		{"no number", func(k Kind) string { return number[k] }, `"x":1`, "got 0"},
		{"commit of words", func(Kind) string { return commit }, `"sha":"not a commit"`, "hex digits"},
		{"commit in capitals", func(Kind) string { return commit }, `"sha":"` + strings.ToUpper(sha("aa")) + `"`, "hex digits"},
		{"commit cut short", func(Kind) string { return commit }, `"sha":"abc"`, "hex digits"},
		{"commit as a number", func(Kind) string { return commit }, `"sha":7`, "expected a string"},
		{"state closed", func(Kind) string { return `"state":"open` }, `"state":"closed","x":"`, "expected open"},
		{"state unknown", func(Kind) string { return `"state":"open` }, `"state":"half-open`, "state: expected"},
		{"no time", func(Kind) string { return `"updated_at":"2026-03-01T11:00:00Z"` }, `"x":1`, "updated_at: expected a time"},
		{"time of words", func(Kind) string { return `"2026-03-01T11:00:00Z"` }, `"yesterday"`, "RFC 3339"},
		{"time as a number", func(Kind) string { return `"2026-03-01T11:00:00Z"` }, `17`, "RFC 3339"},
		{"labels of the wrong type", func(Kind) string { return `"labels":[]` }, `"labels":{}`, "expected a list"},
		{"base of nothing", func(Kind) string { return `"main"` }, `""`, "expected a branch"},
		{"branch with control characters", func(Kind) string { return `"main"` }, `"a\u0000b"`, "expected a branch"},
		{"base of no repository", func(k Kind) string {
			return map[Kind]string{GitHub: `"repo":{"id":1}`, GitLab: `"target_project_id":1`, Gitea: `"repo_id":1`}[k]
		}, `"x":1`, "expected"},
	}
	eachKind(t, func(t *testing.T, w *world) {
		answer := ""
		w.set(func() {
			w.open(2, sha("bb")).state = "closed"
			w.before = func(rw http.ResponseWriter, op string) bool {
				if strings.HasSuffix(op, "{int}") {
					return false
				}
				_, _ = io.WriteString(rw, answer)
				return true
			}
		})
		try := func(body string) (List, error) {
			w.set(func() { answer = body })
			return w.client().Pulls(t.Context(), []int{2})
		}
		if l, err := try("[" + good[w.kind] + "]"); err != nil || len(l.Open) != 1 || len(l.Closed) != 1 {
			t.Fatalf("good: %+v, %v", l, err)
		}
		if _, err := try("[" + good[w.kind] + "," + good[w.kind] + "]"); err == nil || !strings.Contains(err.Error(), "got 1 twice") {
			t.Errorf("twice: %v", err)
		}
		for _, s := range swaps {
			field, _, _ := strings.Cut(number[w.kind], ":")
			bad := strings.Replace(good[w.kind], s.from(w.kind), strings.Replace(s.to, "N", field, 1), 1)
			if bad == good[w.kind] {
				t.Fatalf("%s: nothing to replace", s.name)
			}
			other := strings.Replace(good[w.kind], number[w.kind], field+":9", 1)
			l, err := try("[" + other + "," + bad + "]")
			if err == nil || !strings.Contains(err.Error(), "entry 2") || !strings.Contains(err.Error(), s.want) {
				t.Errorf("%s: %v, expected entry 2 and %q", s.name, err, s.want)
			}
			if len(l.Closed)+len(l.Open)+len(l.Gone) > 0 || l.Complete {
				t.Errorf("%s: believed %+v", s.name, l)
			}
		}
	})
}

// TestFault_P4_StatusesCloseNothing has every status a server or a proxy may send in place of a list.
func TestFault_P4_StatusesCloseNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() { w.open(2, sha("bb")).state = "closed" })
		for _, status := range []int{201, 204, 206, 304, 400, 401, 403, 404, 410, 418, 422, 429, 451, 500, 502, 503, 504} {
			w.set(func() {
				w.now = w.now.Add(2 * time.Hour)
				w.before = func(rw http.ResponseWriter, op string) bool {
					if strings.HasSuffix(op, "{int}") {
						return false
					}
					rw.WriteHeader(status)
					if status != 204 && status != 304 {
						_, _ = io.WriteString(rw, "[]")
					}
					return true
				}
			})
			l, err := w.client().Pulls(t.Context(), []int{2})
			if err == nil || l.Complete || len(l.Closed) > 0 {
				t.Errorf("%d: %+v, %v", status, l, err)
			}
		}
	})
}

func TestFault_P4_AnAnswerThatBreaksOff(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			w.before = func(rw http.ResponseWriter, _ string) bool {
				rw.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(rw, "[]")
				return true
			}
		})
		if l, err := w.client().Pulls(t.Context(), []int{1}); err == nil || l.Complete {
			t.Errorf("%+v, %v", l, err)
		}
	})
}
