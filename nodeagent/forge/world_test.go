package forge

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const secret = "canary-3f9a-token"

// start is when tests begin, by the forge's clock.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }

// sha makes a commit id that begins with a word of hex digits.
func sha(prefix string) string { return prefix + strings.Repeat("0", 40-len(prefix)) }

// world is a forge of any kind: state behind a server that speaks the kind's API and checks every request against
// its contract.
type world struct {
	t    *testing.T
	kind Kind
	api  contract
	srv  *httptest.Server

	mu       sync.Mutex
	now      time.Time
	pulls    []*wPull
	users    map[string]*wUser
	comments []*wComment
	statuses []wStatus
	deploys  []*wDeploy
	environs []*wEnviron
	last     int64                                       // id given out last
	asked    []string                                    // operations, as the contract has them
	before   func(w http.ResponseWriter, op string) bool // answers in place of the world
	after    func(w http.ResponseWriter, op string) bool // answers in place of the world, when it is done
	seen     func(op string, r *http.Request)            // is told of each request
	header   func(h http.Header, op string)              // adds to each answer
	links    bool                                        // send Link
	tags     bool                                        // send ETag
	page     int                                         // most entries of a page
}

type wUser struct {
	id    int64
	login string
	may   string // admin, write, read, none
	bot   bool
}

type wPull struct {
	number          int
	head, ref, base string
	fork, draft     bool
	agit            bool
	state           string // open, closed, locked
	gone            bool   // deleted
	hidden          bool   // left out of the list
	unread          bool   // GitLab has not read its branch
	author          string
	labels          []string
	events          []wEvent
}

type wEvent struct {
	id    int64
	what  string // label, unlabel, push, force, comment
	at    time.Time
	by    string
	label string
	head  string
	body  string
}

type wComment struct {
	id     int64
	number int
	by     string
	body   string
}

type wStatus struct {
	id                             int64
	commit, state, name, text, url string
}

type wDeploy struct {
	id           int64
	env, commit  string
	states, urls []string
}

type wEnviron struct {
	id               int64
	name, url, state string
}

// newWorld starts a forge on which "ring" is the user of the token, "maria" may write, "tom" may read and "eve" is a
// stranger.
func newWorld(t *testing.T, kind Kind) *world {
	w := &world{t: t, kind: kind, now: start, links: true, tags: kind != Gitea, page: 100, last: 1000}
	w.users = map[string]*wUser{}
	for i, u := range []wUser{
		{login: "ring", may: "write"},
		{login: "maria", may: "write"},
		{login: "olga", may: "admin"},
		{login: "tom", may: "read"},
		{login: "eve", may: "none"},
		{login: "labeler[bot]", may: "write", bot: true},
	} {
		u.id = int64(i + 1)
		w.users[u.login] = &u
	}
	switch kind {
	case GitHub:
		w.api = githubAPI
	case GitLab:
		w.api = gitlabAPI
	default:
		w.api, w.page = giteaAPI, 50
	}
	w.srv = httptest.NewServer(w)
	t.Cleanup(w.srv.Close)
	return w
}

// client is one of a repository of this world, whose clock is the world's.
func (w *world) client(more ...func(*Options)) *Client {
	opt := Options{Kind: w.kind, Base: w.srv.URL + w.api.base, Path: "shop/cluster", Token: secret, Now: w.clock, HTTP: w.srv.Client()}
	for _, m := range more {
		m(&opt)
	}
	c, err := New(opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// open adds a pull request of a fork by eve.
func (w *world) open(number int, head string) *wPull {
	p := &wPull{number: number, head: head, ref: "topic", base: "main", fork: true, state: "open", author: "eve"}
	p.events = append(p.events, wEvent{id: w.next(), what: "open", at: w.now, head: head})
	w.pulls = append(w.pulls, p)
	return p
}

func (w *world) next() int64 { w.last++; return w.last }

func (w *world) push(p *wPull, head string, force bool) {
	what := "push"
	if force {
		what = "force"
	}
	p.events = append(p.events, wEvent{id: w.next(), what: what, at: w.now, by: "eve", head: head, body: p.head})
	p.head = head
}

func (w *world) label(p *wPull, by, label string) {
	p.labels = append(p.labels, label)
	p.events = append(p.events, wEvent{id: w.next(), what: "label", at: w.now, by: by, label: label})
}

func (w *world) unlabel(p *wPull, by, label string) {
	p.labels = slices.DeleteFunc(p.labels, func(l string) bool { return l == label })
	p.events = append(p.events, wEvent{id: w.next(), what: "unlabel", at: w.now, by: by, label: label})
}

// count is how often an operation was asked for.
func (w *world) count(op string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, o := range w.asked {
		if o == op || op == "" {
			n++
		}
	}
	return n
}

// writes is how many requests were not GET.
func (w *world) writes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, o := range w.asked {
		if !strings.HasPrefix(o, "GET ") {
			n++
		}
	}
	return n
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.Header().Set("Date", w.now.Format(http.TimeFormat))
	op, vars, body, ok := w.api.check(w.t, r)
	if !ok {
		http.Error(rw, "not in the contract", http.StatusTeapot)
		return
	}
	w.asked = append(w.asked, op)
	if w.seen != nil {
		w.seen(op, r)
	}
	if w.header != nil {
		w.header(rw.Header(), op)
	}
	if w.before != nil && w.before(rw, op) {
		return
	}
	status, out := w.answer(op, vars, r.URL.Query(), body)
	if w.after != nil && w.after(rw, op) {
		return
	}
	w.send(rw, r, status, out)
}

// send writes an answer, a page of it if it is a list that has pages.
func (w *world) send(rw http.ResponseWriter, r *http.Request, status int, out any) {
	q := r.URL.Query()
	if all, ok := out.([]any); ok && q.Get("page") != "" {
		size, _ := strconv.Atoi(first(q.Get("per_page"), q.Get("limit")))
		size = min(size, w.page)
		n, _ := strconv.Atoi(q.Get("page"))
		from := min((n-1)*size, len(all))
		to := min(from+size, len(all))
		timeline := strings.HasSuffix(r.URL.Path, "/timeline") && w.kind == Gitea
		if w.links && !timeline && to < len(all) {
			next := *r.URL
			q.Set("page", strconv.Itoa(n+1))
			next.RawQuery = q.Encode()
			rw.Header().Set("Link", fmt.Sprintf(`<https://elsewhere.example%s>; rel="next", <https://elsewhere.example/>; rel="last"`, next.RequestURI()))
		}
		if w.kind == Gitea && !timeline {
			rw.Header().Set("X-Total-Count", strconv.Itoa(len(all)))
		}
		out = all[from:to]
		if timeline && from == to {
			out = nil // as Gitea has it
		}
	}
	b, _ := json.Marshal(out)
	if w.tags && r.Method == http.MethodGet {
		h := fnv.New64()
		_, _ = h.Write(b)
		tag := fmt.Sprintf(`W/"%x"`, h.Sum64())
		rw.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			rw.Header().Del("Link")
			rw.WriteHeader(http.StatusNotModified)
			return
		}
	}
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	rw.WriteHeader(status)
	if status != http.StatusNoContent {
		_, _ = rw.Write(b)
	}
}

type obj = map[string]any

var nothing = obj{"message": "404 Not Found"}

// answer does what an operation does.
func (w *world) answer(op string, vars []string, q url.Values, body obj) (int, any) {
	_, path, _ := strings.Cut(op, " ")
	get := strings.HasPrefix(op, "GET ")
	num := func(i int) int64 { n, _ := strconv.ParseInt(vars[i], 10, 64); return n }
	text := func(name string) string { s, _ := body[name].(string); return s }
	if w.kind == GitLab && len(vars) > 0 && vars[0] != "shop%2Fcluster" || w.kind != GitLab && len(vars) > 1 && vars[0]+"/"+vars[1] != "shop/cluster" {
		return 404, nothing
	}
	switch path {
	case "/user":
		return 200, w.user("ring")
	case "/repos/{owner}/{repo}/pulls", "/projects/{id}/merge_requests":
		out := []any{}
		for _, p := range w.pulls {
			if p.state == "open" && !p.gone && !p.hidden {
				out = append(out, w.pull(p))
			}
		}
		return 200, out
	case "/repos/{owner}/{repo}/pulls/{int}", "/projects/{id}/merge_requests/{int}":
		if p := w.find(int(num(len(vars) - 1))); p != nil && !p.gone {
			return 200, w.pull(p)
		}
	case "/repos/{owner}/{repo}/issues/{int}/timeline", "/projects/{id}/merge_requests/{int}/resource_label_events", "/projects/{id}/merge_requests/{int}/versions":
		if p := w.find(int(num(len(vars) - 1))); p != nil && !p.gone {
			return 200, w.history(p, strings.HasSuffix(path, "/versions"))
		}
	case "/repos/{owner}/{repo}/collaborators/{username}/permission":
		if u := w.users[vars[2]]; u != nil {
			return 200, obj{"permission": u.may, "role_name": u.may, "user": w.user(u.login)}
		}
	case "/projects/{id}/members/all/{int}":
		levels := map[string]int{"admin": 50, "write": 30, "read": 20}
		for _, u := range w.users {
			if u.id == num(1) && levels[u.may] > 0 {
				return 200, obj{"id": u.id, "username": u.login, "state": "active", "access_level": levels[u.may]}
			}
		}
	case "/repos/{owner}/{repo}/issues/{int}/comments", "/projects/{id}/merge_requests/{int}/notes":
		n := int(num(len(vars) - 1))
		if w.find(n) == nil {
			return 404, nothing
		}
		if !get {
			c := &wComment{id: w.next(), number: n, by: "ring", body: text("body")}
			w.comments = append(w.comments, c)
			return 201, w.comment(c)
		}
		out := []any{}
		for _, c := range w.comments {
			if c.number == n {
				out = append(out, w.comment(c))
			}
		}
		return 200, out
	case "/repos/{owner}/{repo}/issues/comments/{int}", "/projects/{id}/merge_requests/{int}/notes/{int}":
		i := slices.IndexFunc(w.comments, func(c *wComment) bool { return c.id == num(len(vars)-1) })
		if i < 0 {
			return 404, nothing
		}
		if strings.HasPrefix(op, "DELETE ") {
			w.comments = slices.Delete(w.comments, i, i+1)
			return 204, nil
		}
		w.comments[i].body = text("body")
		return 200, w.comment(w.comments[i])
	}
	return w.answerMore(path, get, vars, q, body)
}

// answerMore is for statuses and deployments.
func (w *world) answerMore(path string, get bool, vars []string, q url.Values, body obj) (int, any) {
	num := func(i int) int64 { n, _ := strconv.ParseInt(vars[i], 10, 64); return n }
	text := func(name string) string { s, _ := body[name].(string); return s }
	switch path {
	case "/repos/{owner}/{repo}/commits/{sha}/statuses", "/repos/{owner}/{repo}/statuses/{sha}",
		"/projects/{id}/repository/commits/{sha}/statuses", "/projects/{id}/statuses/{sha}":
		commit := vars[len(vars)-1]
		if get {
			out := []any{}
			for _, s := range slices.Backward(w.statuses) {
				if s.commit == commit && (q.Get("name") == "" || q.Get("name") == s.name) {
					out = append(out, w.status(s))
				}
			}
			return 200, out
		}
		s := wStatus{w.next(), commit, text("state"), first(text("context"), text("name")), text("description"), text("target_url")}
		if w.kind == GitLab {
			if text("ref") == "" {
				return 404, obj{"message": "404 References for commit Not Found"}
			}
			for _, had := range w.statuses {
				if had.commit == commit && had.name == s.name && had.state == "pending" && s.state == "pending" {
					return 400, obj{"message": `Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via "enqueue")`}
				}
			}
			w.statuses = slices.DeleteFunc(w.statuses, func(had wStatus) bool { return had.commit == commit && had.name == s.name })
		}
		w.statuses = append(w.statuses, s)
		return 201, w.status(s)
	case "/repos/{owner}/{repo}/deployments", "/projects/{id}/deployments":
		if get {
			out := []any{}
			for _, d := range slices.Backward(w.deploys) {
				if d.env == q.Get("environment") {
					out = append(out, w.deploy(d))
				}
			}
			if q.Get("per_page") == "1" {
				out = out[:min(1, len(out))]
			}
			return 200, out
		}
		d := &wDeploy{id: w.next(), env: text("environment"), commit: first(text("sha"), text("ref"))}
		if s := text("status"); s != "" {
			d.states = []string{s}
		}
		w.deploys = append(w.deploys, d)
		for _, e := range w.environs {
			if e.name == d.env {
				e.state = "available"
			}
		}
		return 201, w.deploy(d)
	case "/projects/{id}/deployments/{int}":
		for _, d := range w.deploys {
			if d.id == num(1) {
				d.states = append(d.states, text("status"))
				return 200, w.deploy(d)
			}
		}
	case "/repos/{owner}/{repo}/deployments/{int}/statuses":
		for _, d := range w.deploys {
			if d.id != num(2) {
				continue
			}
			if get {
				out := []any{}
				for i, s := range slices.Backward(d.states) {
					out = append(out, obj{"id": i + 1, "state": s, "environment_url": d.urls[i]})
				}
				return 200, out[:min(1, len(out))]
			}
			d.states, d.urls = append(d.states, text("state")), append(d.urls, text("environment_url"))
			if text("state") == "success" && body["auto_inactive"] == true {
				for _, older := range w.deploys {
					if older.env == d.env && older.id < d.id && len(older.states) > 0 {
						older.states, older.urls = append(older.states, "inactive"), append(older.urls, "")
					}
				}
			}
			return 201, obj{"id": len(d.states), "state": text("state")}
		}
	case "/projects/{id}/environments":
		if get {
			out := []any{}
			for _, e := range w.environs {
				if e.name == q.Get("name") {
					out = append(out, w.environ(e))
				}
			}
			return 200, out
		}
		e := &wEnviron{id: w.next(), name: text("name"), url: text("external_url"), state: "available"}
		w.environs = append(w.environs, e)
		return 201, w.environ(e)
	case "/projects/{id}/environments/{int}", "/projects/{id}/environments/{int}/stop":
		for _, e := range w.environs {
			if e.id != num(1) {
				continue
			}
			if strings.HasSuffix(path, "/stop") {
				e.state = "stopped"
			} else {
				e.url = text("external_url")
			}
			return 200, w.environ(e)
		}
	}
	return 404, nothing
}

func (w *world) find(number int) *wPull {
	for _, p := range w.pulls {
		if p.number == number {
			return p
		}
	}
	return nil
}
