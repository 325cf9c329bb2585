//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// preview is what the node says of a preview; an error if there is none.
func (n *Node) preview(name string) (api.PreviewOf, error) {
	all, err := n.Client().Previews(context.Background())
	if err != nil {
		return api.PreviewOf{}, err
	}
	for _, p := range all.Previews {
		if p.Name == name {
			return p, nil
		}
	}
	return api.PreviewOf{}, fmt.Errorf("there is no preview %s; waiting: %+v", name, all.Waiting)
}

// previewGreets waits until a preview answers with a greeting, and returns where.
func (n *Node) previewGreets(limit time.Duration, name, greeting string) (url string) {
	n.t.Helper()
	n.Eventually(limit, func() error {
		p, err := n.preview(name)
		if err != nil {
			return err
		}
		if len(p.Ports) != 1 {
			return fmt.Errorf("%s has ports %v, problems %v", name, p.Ports, p.Problems)
		}
		_, port, _ := strings.Cut(p.Ports[0], ":")
		url = "http://" + n.address + ":" + port
		return n.answers(url+"/env", "GREETING="+greeting)
	})
	return url
}

// nameOfCommit waits until a preview has a name of the commit that runs, and the name leads to it; it comes with a port.
func (n *Node) nameOfCommit(preview string) (name string) {
	n.t.Helper()
	n.Eventually(soon, func() error {
		p, err := n.preview(preview)
		if err != nil {
			return err
		}
		if len(p.Names) != 1 || !strings.HasPrefix(p.Names[0], p.Active[:12]+".web."+preview+".svc.") {
			return fmt.Errorf("names of %s: %v", preview, p.Names)
		}
		name = p.Names[0]
		if out, _, _ := n.Shoal("previews"); !strings.Contains(out, name) {
			return fmt.Errorf("previews lack %s:\n%s", name, out)
		}
		return n.resolves(name)
	})
	return name
}

// resolves has the pod of dev look a name up.
func (n *Node) resolves(name string) error {
	host, _, _ := strings.Cut(name, ":")
	return n.answers("http://127.0.0.1:30080/dns?name="+host, "10.43.")
}

// waits waits until a pull request has no preview, for a reason.
func (n *Node) waits(limit time.Duration, name, why string) {
	n.t.Helper()
	n.Eventually(limit, func() error {
		all, err := n.Client().Previews(context.Background())
		if err != nil {
			return err
		}
		for _, p := range all.Previews {
			if p.Name == name {
				return fmt.Errorf("%s is there: %+v", name, p)
			}
		}
		for _, w := range all.Waiting {
			if w.Name == name && strings.Contains(w.Why, why) {
				return nil
			}
		}
		return fmt.Errorf("%s does not wait because %q: %+v", name, why, all.Waiting)
	})
}

// trace is what the node's machine has that a preview may leave, but for what belongs to the environment dev.
func (n *Node) trace() (left []string) {
	n.t.Helper()
	note := func(format string, args ...any) { left = append(left, fmt.Sprintf(format, args...)) }
	status := n.Status()
	for _, p := range status.Pods {
		if p.Environment != "dev" {
			note("pod %s of %s", p.Name, p.Environment)
		}
	}
	for _, e := range status.Environments {
		if e.Name != "dev" {
			note("environment %s", e.Name)
		}
	}
	pods := 0
	for _, p := range status.Pods {
		if p.Environment == "dev" && p.Node == n.name {
			pods++
		}
	}
	count := func(what, script string, most int) {
		if found := strings.Fields(n.must("sh", "-c", script)); len(found) > most {
			note("%s: %d for %d pods of dev: %v", what, len(found), pods, found)
		}
	}
	count("links", `ip -o link | grep -o ' sh-[^:@]*'; true`, pods+2) // the node's own pair beside them
	count("cgroups", `find /sys/fs/cgroup -type d -path '*shoal-`+n.instance()+`/pod*' -name 'pod*' | sed 's#.*/##' | sort -u`, pods)
	count("namespaces", `ls `+n.Run+`/c/pods`, pods)
	count("volumes", `ls `+n.Run+`/v/pods`, pods)
	count("data of volumes", `ls `+n.Data+`/volumes/pods`, 0)
	count("scratch", `ls `+n.Data+`/containerd/scratch`, pods)
	count("logs", `ls `+n.Logs, pods)
	rules := n.must("nft", "list", "ruleset")
	for port := 30000; port < 30080; port++ {
		if strings.Contains(rules, fmt.Sprint(port)) {
			note("a rule of port %d", port)
		}
	}
	refs, err := os.ReadFile(filepath.Join(n.Data, "git", "packed-refs"))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(refs)) { // of pull requests a node keeps no ref but pins
		if strings.Contains(line, "refs/pull/") || strings.Contains(line, "/pins/pr-") || strings.Contains(line, "/pins/br-") || strings.Contains(line, "heads/preview/") {
			note("ref %s", strings.TrimSpace(line))
		}
	}
	all, err := n.Client().Previews(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, p := range all.Previews {
		note("preview %s", p.Name)
	}
	return left
}

// gone waits until nothing is left of all previews.
func (n *Node) gone(limit time.Duration, names ...string) {
	n.t.Helper()
	n.Eventually(limit, func() error {
		if left := n.trace(); len(left) > 0 {
			return fmt.Errorf("left: %s", strings.Join(left, "\n  "))
		}
		for _, name := range names {
			if out, errs, code := n.Shoal("previews", "receipt", name); code != 0 || !strings.Contains(out, name+" is gone") {
				return fmt.Errorf("receipt of %s: %s%s", name, out, errs)
			}
		}
		return nil
	})
}

// A pull request has an environment that runs its merge with the base, says so on the forge, follows its pushes and the base's, keeps what
// it showed when it conflicts, and is gone when it is closed. A forge that answers nonsense closes nothing. A fork's is shown once a
// maintainer has approved that very commit.
func TestFeature_V1_Previews(t *testing.T) {
	n := NewNode(t)
	forge, repo := newGitea(t, previewFiles("one", `{quota: 4, forks: approval: "preview-ok"}`), n)
	repo.Write("notes.txt", "a\nb\nc\nd\ne\nf\ng\n")
	repo.Push("one")
	n.Args = giteaFlags()
	n.Start()
	n.Image("probe:v1")
	n.Eventually(soon, func() error { return n.answers("http://127.0.0.1:30080/env", "GREETING=one") })

	// Opened.
	repo.git("checkout", "-q", "-b", "topic")
	repo.greet("topic")
	repo.commit("topic")
	begun := time.Now()
	pull := forge.open(repo, "topic", "ann")
	url := n.previewGreets(50*time.Second, "pr-1", "topic")
	t.Logf("a pull request answers after %s at %s", time.Since(begun).Round(time.Millisecond), url)
	shown := func(commit, state, text string) {
		t.Helper()
		n.Eventually(soon, func() error {
			if s := forge.status(commit); s.state != state || s.name != "shoal/preview" || s.to != url || !strings.Contains(s.text, text) {
				return fmt.Errorf("status of %.12s: %+v", commit, s)
			}
			return nil
		})
	}
	said := func(p *giteaPull, texts ...string) {
		t.Helper()
		n.Eventually(soon, func() error {
			c := forge.comment(p)
			for _, text := range texts {
				if !strings.Contains(c, text) {
					return fmt.Errorf("comment lacks %q: %s", text, c)
				}
			}
			return nil
		})
	}
	shown(pull.head, "success", "runs ")
	said(pull, "**Preview `pr-1`**: ready", url)
	atFirst := n.nameOfCommit("pr-1")
	said(pull, "http://"+atFirst)
	if out, _, _ := n.Shoal("previews"); os.Getenv("SHOW") != "" {
		t.Logf("%s\n%s\n%+v", out, forge.comment(pull), forge.status(pull.head))
	}
	there := strings.Join(n.trace(), "\n")
	for _, kind := range []string{"pod", "environment pr-1", "links", "cgroups", "namespaces", "volumes", "scratch", "logs", "a rule of port 30000", "refs/shoal/pins/pr-1/", "preview pr-1"} {
		if !strings.Contains(there, kind) {
			t.Errorf("what would be left of it is not found: %s in %s", kind, there)
		}
	}
	if err := n.answers("http://127.0.0.1:30080/env", "GREETING=one"); err != nil {
		t.Error("dev is not what it was:", err)
	}

	// Updated: nothing but a setting.
	repo.greet("again")
	repo.commit("again")
	begun = time.Now()
	forge.push(repo, pull)
	n.previewGreets(50*time.Second, "pr-1", "again")
	t.Logf("a change of a setting answers after %s", time.Since(begun).Round(time.Millisecond))
	shown(pull.head, "success", "runs ")
	said(pull, "ready", pull.head[:12])
	if now := n.nameOfCommit("pr-1"); now == atFirst {
		t.Errorf("another commit runs, and its name is %s still", now)
	} else if err := n.resolves(atFirst); err == nil {
		t.Errorf("%s leads to another commit now", atFirst)
	} else {
		t.Logf("%s: %v", atFirst, err)
		said(pull, "http://"+now)
	}

	// The base moves.
	repo.git("checkout", "-q", "main")
	repo.Write("notes.txt", "a\nb\nc\nd\ne\nf\nG\n")
	repo.Write("apps/web/more.cue", "package web\n\napp: web: env: MORE: \"of main\"\n")
	repo.Push("more")
	base := repo.Head()
	n.Eventually(50*time.Second, func() error { return n.answers(url+"/env", "MORE=of main") })
	n.previewGreets(soon, "pr-1", "again")
	said(pull, base[:12])

	// A conflict keeps what was shown, and is shown itself.
	repo.greet("main")
	repo.Push("conflict")
	n.Eventually(soon, func() error {
		p, err := n.preview("pr-1")
		if err == nil && !strings.Contains(p.Note, "it conflicts with main in") {
			err = fmt.Errorf("note %q", p.Note)
		}
		return err
	})
	shown(pull.head, "failure", "it conflicts with main in")
	said(pull, "does not show the newest commit", "apps/web/web.cue")
	n.previewGreets(soon, "pr-1", "again")
	if out, _, _ := n.Shoal("previews"); os.Getenv("SHOW") != "" {
		t.Logf("%s\n%s", out, forge.comment(pull))
	}
	if out, _, _ := n.Shoal("previews"); !strings.Contains(out, "pr-1: it conflicts with main in") {
		t.Errorf("previews:\n%s", out)
	}

	// A forge that answers nonsense closes nothing.
	for what, odd := range map[string]func(w http.ResponseWriter, path string) bool{
		"errors": func(w http.ResponseWriter, _ string) bool { w.WriteHeader(500); return true },
		"HTML": func(w http.ResponseWriter, _ string) bool {
			_, _ = w.Write([]byte("<html>maintenance</html>"))
			return true
		},
		"null": func(w http.ResponseWriter, _ string) bool { _, _ = w.Write([]byte("null")); return true },
		"an empty list": func(w http.ResponseWriter, path string) bool {
			switch {
			case strings.HasSuffix(path, "/pulls"):
				_, _ = w.Write([]byte("[]"))
			case strings.Contains(path, "/pulls/"):
				w.WriteHeader(502)
			default:
				return false
			}
			return true
		},
		"a list that has lost it": func(w http.ResponseWriter, path string) bool {
			switch {
			case strings.HasSuffix(path, "/pulls"):
				_, _ = w.Write([]byte("[]"))
			case strings.Contains(path, "/pulls/"):
				w.WriteHeader(404)
				_, _ = w.Write([]byte(`{"message":"not found"}`))
			default:
				return false
			}
			return true
		},
	} {
		asked := 0
		forge.set(func() {
			forge.odd = func(w http.ResponseWriter, path string) bool {
				if strings.HasSuffix(path, "/pulls") {
					asked++
				}
				return odd(w, path)
			}
		})
		n.Eventually(soon, func() error {
			forge.mu.Lock()
			defer forge.mu.Unlock()
			if asked < 3 {
				return fmt.Errorf("asked %d times", asked)
			}
			return nil
		})
		if err := n.answers(url+"/env", "GREETING=again"); err != nil {
			t.Errorf("a forge that answers %s: %v", what, err)
		}
		forge.set(func() { forge.odd = nil })
	}

	// Mended by its author, and closed; no webhook says so.
	repo.git("checkout", "-q", "topic")
	repo.git("merge", "-q", "-s", "ours", "--no-edit", "main")
	forge.push(repo, pull)
	n.previewGreets(50*time.Second, "pr-1", "again")
	shown(pull.head, "success", "runs ")
	forge.set(func() { pull.closed = true })
	begun = time.Now()
	n.gone(soon, "pr-1")
	t.Logf("a pull request that was closed has left nothing after %s", time.Since(begun).Round(time.Millisecond))
	said(pull, "**Preview `pr-1`** is gone: it is closed")

	// A fork's.
	repo.git("checkout", "-q", "-b", "fork", "main")
	repo.greet("stranger")
	repo.commit("stranger")
	strange := forge.open(repo, "patch-1", "eve", func(p *giteaPull) { p.fork = true })
	n.waits(soon, "pr-2", "a maintainer approves commit "+strange.head[:12])
	forge.label(strange, "eve", "preview-ok") // whoever may not write approves nothing
	time.Sleep(2 * time.Second)
	n.waits(soon, "pr-2", "a maintainer approves commit")
	forge.set(func() { strange.labels = nil })
	forge.label(strange, "ann", "preview-ok")
	n.previewGreets(50*time.Second, "pr-2", "stranger")
	if p, err := n.preview("pr-2"); err != nil || !p.Sandbox.NoSecrets || !p.Sandbox.DenyEgress || !p.Sandbox.Restricted {
		t.Errorf("the preview of a fork has the sandbox %+v, %v", p.Sandbox, err)
	}
	repo.greet("worse")
	repo.commit("worse")
	forge.push(repo, strange)
	n.waits(soon, "pr-2", "a maintainer approves commit "+strange.head[:12])
	said(strange, "**Preview `pr-2`** is gone")
	n.gone(soon, "pr-2")
	if os.Getenv("SHOW") != "" {
		out, _, _ := n.Shoal("previews")
		left, _, _ := n.Shoal("previews", "receipt", "pr-2")
		t.Logf("%s\n%s\n%s", out, left, forge.comment(strange))
	}
	if strings.Contains(n.output.String(), giteaToken) {
		t.Error("the token is in the log")
	}
}

// Branches of a pattern have an environment each, until they are deleted: of the built-in server, and of a forge of which nothing is known but
// its repository.
func TestFeature_V1_PreviewsOfBranches(t *testing.T) {
	files := previewFiles("one", `{from: "preview/*"}`)
	t.Run("built in", func(t *testing.T) {
		n := NewNode(t).Start()
		n.Image("probe:v1")
		repo := n.Repository(files)
		repo.Push("one")
		previewsOfBranches(t, n, repo)
	})
	t.Run("forge", func(t *testing.T) {
		n := NewNode(t)
		_, repo := newGitea(t, files, n)
		repo.Push("one")
		n.Args = giteaFlags()[:4]
		n.Start()
		n.Image("probe:v1")
		previewsOfBranches(t, n, repo)
	})
}

func previewsOfBranches(t *testing.T, n *Node, repo *Repository) {
	n.Eventually(soon, func() error { return n.answers("http://127.0.0.1:30080/env", "GREETING=one") })
	repo.git("checkout", "-q", "-b", "preview/X_y")
	repo.greet("branch")
	repo.commit("branch")
	begun := time.Now()
	repo.git("push", "-q", "origin", "HEAD:preview/X_y")
	sum := sha256.Sum256([]byte("preview/X_y"))
	name := fmt.Sprintf("br-preview-x-y-%x", sum[:5])
	url := n.previewGreets(50*time.Second, name, "branch")
	t.Logf("a branch answers after %s", time.Since(begun).Round(time.Millisecond))
	repo.git("push", "-q", "origin", "HEAD:other") // of no pattern
	repo.git("checkout", "-q", "-B", "forced", "main")
	repo.greet("forced")
	repo.commit("forced")
	repo.git("push", "-q", "-f", "origin", "HEAD:preview/X_y")
	if again := n.previewGreets(50*time.Second, name, "forced"); again != url {
		t.Errorf("it answered at %s, and then at %s", url, again)
	}
	if all, err := n.Client().Previews(context.Background()); err != nil || len(all.Previews) != 1 {
		t.Errorf("previews %+v, %v", all, err)
	}
	repo.git("push", "-q", "origin", ":preview/X_y")
	n.gone(soon, name)
	if err := n.answers("http://127.0.0.1:30080/env", "GREETING=one"); err != nil {
		t.Error("dev is not what it was:", err)
	}
}
