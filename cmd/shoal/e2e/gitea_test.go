//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// gitea is a forge: a repository, ann/shop, and of Gitea's API what previews need. It listens inside nodes.
type gitea struct {
	t    testing.TB
	bare string

	mu       sync.Mutex // guards what follows
	last     int64      // id that was given
	pulls    []*giteaPull
	statuses []giteaStatus
	comments []*giteaComment
	odd      func(w http.ResponseWriter, path string) bool // answers something else, where it does
	wrong    []string                                      // what was asked that the API does not have, or without the token
}

type giteaPull struct {
	number      int
	branch      string
	base        string // "": main
	head        string
	author      string
	fork, draft bool
	closed      bool
	labels      []string
	events      []any
}

type giteaStatus struct {
	id                            int64
	commit, state, name, text, to string
}

type giteaComment struct {
	id     int64
	number int
	body   string
}

type object = map[string]any

const giteaToken = "forge-secret-4711"

// people of the forge, by id; the ring speaks as the first.
var giteaPeople = []string{"ring", "ann", "bob", "eve", "cat", "dan"}

// giteaURL is where each node finds the repository.
const giteaURL = "http://127.0.0.1:3000/ann/shop.git"

// giteaFlags have an agent follow it.
func giteaFlags() []string {
	return []string{"--repository", giteaURL, "--poll", "300ms", "--forge-token", giteaToken}
}

// newGitea makes the forge and a clone of its repository with some files. It listens on all the nodes; their agents follow it by giteaFlags.
func newGitea(t testing.TB, files map[string]string, nodes ...*Node) (*gitea, *Repository) {
	t.Helper()
	root, n := t.TempDir(), nodes[0]
	f := &gitea{t: t, bare: filepath.Join(root, "ann", "shop.git")}
	n.must("git", "init", "-q", "--bare", "-b", "main", f.bare)
	n.must("git", "-C", f.bare, "config", "http.receivepack", "true")
	n.must("git", "-C", f.bare, "config", "gc.auto", "0")
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	git := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"},
	}
	for _, n := range nodes {
		var l net.Listener
		if err := n.within(func() (err error) {
			l, err = net.Listen("tcp", "127.0.0.1:3000")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/api/") {
				f.api(w, r)
				return
			}
			git.ServeHTTP(w, r)
		})}
		go func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("forge: %v", err)
			}
		}()
		t.Cleanup(func() { _ = server.Close() })
	}
	repo := n.Repository(files)
	repo.git("remote", "set-url", "origin", f.bare)
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.wrong) > 0 {
			t.Errorf("the forge was asked %q", f.wrong[:min(5, len(f.wrong))])
		}
	})
	return f, repo
}

func (f *gitea) id() int64 { f.last++; return f.last }

func giteaUser(login string) any {
	i := slices.Index(giteaPeople, login)
	if i < 0 {
		return nil
	}
	return object{"id": i + 1, "login": login}
}

// open opens a pull request of the commit that a clone is at, from a branch of a name.
func (f *gitea) open(r *Repository, branch, author string, change ...func(*giteaPull)) *giteaPull {
	f.mu.Lock()
	p := &giteaPull{number: len(f.pulls) + 1, branch: branch, author: author}
	f.mu.Unlock()
	for _, c := range change {
		c(p)
	}
	f.push(r, p)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls = append(f.pulls, p)
	return p
}

// push makes the commit that a clone is at the head of a pull request.
func (f *gitea) push(r *Repository, p *giteaPull) {
	f.t.Helper()
	r.git("push", "-q", "-f", "origin", fmt.Sprintf("HEAD:refs/pull/%d/head", p.number))
	head := r.Head()
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.head != "" {
		b, _ := json.Marshal(object{"is_force_push": false, "commit_ids": []string{head}})
		p.events = append(p.events, object{"id": f.id(), "type": "pull_push", "user": giteaUser(p.author), "body": string(b), "created_at": stamp()})
	}
	p.head = head
}

func stamp() string { return time.Now().UTC().Format(time.RFC3339) }

// set changes the forge.
func (f *gitea) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *gitea) label(p *giteaPull, by, label string) {
	f.set(func() {
		p.labels = append(p.labels, label)
		p.events = append(p.events, object{"id": f.id(), "type": "label", "user": giteaUser(by), "body": "1", "created_at": stamp(), "label": object{"id": 3, "name": label}})
	})
}

// status is what stands at a commit.
func (f *gitea) status(commit string) (out giteaStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.statuses {
		if s.commit == commit {
			out = s
		}
	}
	return out
}

// comment is the one on a pull request.
func (f *gitea) comment(p *giteaPull) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, c := range f.comments {
		if c.number == p.number {
			all = append(all, c.body)
		}
	}
	if len(all) > 1 {
		f.t.Errorf("pull request %d has %d comments", p.number, len(all))
	}
	return strings.Join(all, "\n")
}

func (p *giteaPull) json() any {
	state := "open"
	if p.closed {
		state = "closed"
	}
	labels := []any{}
	for _, l := range p.labels {
		labels = append(labels, object{"id": 3, "name": l})
	}
	repo := 1
	if p.fork {
		repo = 2
	}
	return object{
		"id": 9000 + p.number, "number": p.number, "state": state, "draft": p.draft, "user": giteaUser(p.author), "labels": labels,
		"head":       object{"label": p.branch, "ref": p.branch, "sha": p.head, "repo": object{"id": repo}, "repo_id": repo},
		"base":       object{"label": cmp.Or(p.base, "main"), "ref": cmp.Or(p.base, "main"), "sha": p.head, "repo": object{"id": 1}, "repo_id": 1},
		"updated_at": stamp(),
	}
}

// api answers as Gitea does.
func (f *gitea) api(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/api/v1")
	if f.odd != nil && f.odd(w, path) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if path == "/version" {
		_, _ = w.Write([]byte(`{"version":"1.25.1"}`))
		return
	}
	if r.Header.Get("Authorization") != "token "+giteaToken {
		f.wrong = append(f.wrong, "no token: "+r.URL.Path)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var body struct {
		Body, State, Context, Description string
		To                                string `json:"target_url"`
	}
	if r.Method != http.MethodGet {
		_ = json.NewDecoder(r.Body).Decode(&body)
	}
	status, out := http.StatusOK, any(nil)
	part := strings.Split(strings.TrimPrefix(path, "/repos/ann/shop/"), "/")
	number := func(i int) int { n, _ := strconv.Atoi(part[i]); return n }
	switch {
	case path == "/user":
		out = giteaUser("ring")
	case path == "/repos/ann/shop/pulls":
		list := []any{}
		for _, p := range f.pulls {
			if !p.closed {
				list = append(list, p.json())
			}
		}
		w.Header().Set("X-Total-Count", strconv.Itoa(len(list)))
		out = onPage(r, list)
	case len(part) == 2 && part[0] == "pulls" && number(1) >= 1 && number(1) <= len(f.pulls):
		out = f.pulls[number(1)-1].json()
	case len(part) == 3 && part[2] == "timeline":
		events := onPage(r, f.pulls[number(1)-1].events)
		if out = events; len(events) == 0 {
			out = nil
		}
	case len(part) == 3 && part[2] == "permission":
		may := map[string]string{"ann": "write", "ring": "admin"}
		out = object{"permission": cmp.Or(may[part[1]], "read"), "user": giteaUser(part[1])}
	case len(part) == 2 && part[0] == "statuses":
		if r.Method == http.MethodPost {
			s := giteaStatus{f.id(), part[1], body.State, body.Context, body.Description, body.To}
			f.statuses = append(f.statuses, s)
			status, out = http.StatusCreated, s.json()
			break
		}
		list := []any{}
		for _, s := range slices.Backward(f.statuses) {
			if s.commit == part[1] {
				list = append(list, s.json())
			}
		}
		out = list
	case len(part) == 3 && part[2] == "comments":
		if r.Method == http.MethodPost {
			c := &giteaComment{f.id(), number(1), body.Body}
			f.comments = append(f.comments, c)
			status, out = http.StatusCreated, c.json()
			break
		}
		list := []any{}
		for _, c := range f.comments {
			if c.number == number(1) {
				list = append(list, c.json())
			}
		}
		out = list
	case len(part) == 3 && part[1] == "comments" && r.Method == http.MethodPatch:
		for _, c := range f.comments {
			if c.id == int64(number(2)) {
				c.body = body.Body
				out = c.json()
			}
		}
	default:
		f.wrong = append(f.wrong, r.Method+" "+r.URL.Path)
		status, out = http.StatusNotFound, object{"message": "not found"}
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out)
}

func (s giteaStatus) json() any {
	return object{"id": s.id, "status": s.state, "context": s.name, "description": s.text, "target_url": s.to}
}

func (c *giteaComment) json() any {
	return object{"id": c.id, "body": c.body, "user": giteaUser("ring")}
}

func onPage(r *http.Request, all []any) []any {
	n, _ := strconv.Atoi(r.URL.Query().Get("page"))
	size, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	from := min(max(n-1, 0)*size, len(all))
	return all[from:min(from+size, len(all))]
}

// previewFiles are a repository whose one app says what it was told, on a port of its own in previews.
func previewFiles(greeting, previews string) map[string]string {
	return map[string]string{
		"shoal.cue": shoalFile + "previews: " + previews + "\n",
		"apps/web/web.cue": fmt.Sprintf(`package web

import "shoal.dev/schema"

schema.#Package

app: web: {
	image: "shoal.local/probe:v1"
	args: ["serve"]
	ports: http: 8080
	env: GREETING: %q
	readinessProbe: httpGet: {path: "/readyz", port: 8080}
}
`, greeting),
		"apps/web/dev.cue": "@if(dev)\n\npackage web\n\napp: web: nodePorts: http: 30080\n",
		"apps/web/preview.cue": `@if(preview)

package web

app: web: objects: {
	"service/web": spec: type: "NodePort"
	"deployment/web": spec: template: spec: { // as the standard "restricted" wants it of a fork
		securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: type: "RuntimeDefault"}
		containers: [{securityContext: {allowPrivilegeEscalation: false, capabilities: drop: ["ALL"]}}]
	}
}
`,
	}
}

// greet has the app say something else.
func (r *Repository) greet(greeting string) {
	r.n.t.Helper()
	path := filepath.Join(r.Dir, "apps/web/web.cue")
	b, err := os.ReadFile(path)
	if err != nil {
		r.n.t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		if strings.Contains(line, "env: GREETING:") {
			lines[i] = fmt.Sprintf("\tenv: GREETING: %q", greeting)
		}
	}
	r.Write("apps/web/web.cue", strings.Join(lines, "\n"))
}

// commit commits the work tree.
func (r *Repository) commit(message string) {
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
}
