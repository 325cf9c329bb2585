//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What has hurt users of other systems, played again.

// around are objects beside the web app, each with something of a version in it.
func around(version string) string {
	return strings.ReplaceAll(`apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {level: VERSION}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {token: secret-VERSION}
---
apiVersion: v1
kind: Service
metadata: {name: VERSION}
spec: {selector: {app: worker}, ports: [{port: 8080}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "MINUTE 3 * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: "shoal.local/probe:VERSION", args: [exit, "0"]}]}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker}
spec:
  selector: {matchLabels: {app: worker}}
  template:
    metadata: {labels: {app: worker}}
    spec:
      containers:
      - name: main
        image: shoal.local/probe:VERSION
        args: [sleep, forever]
        env:
        - {name: LEVEL, valueFrom: {configMapKeyRef: {name: settings, key: level}}}
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: token, key: token}}}
`, "VERSION", version)
}

// TestReplay_RollbackIsOfEverything: a rollback, with the forge down, takes back image, settings, secrets, cron and network together; the environment is
// what it was, to the digest, though a tag has been moved since.
func TestReplay_RollbackIsOfEverything(t *testing.T) {
	n := NewNode(t)
	forge := filepath.Join(t.TempDir(), "forge.git")
	n.must("git", "init", "-q", "--bare", "-b", "main", forge)
	n.Args = append(n.Args, "--repository", "file://"+forge, "--poll", "300ms")
	n.Start()
	n.Image("probe:v1")
	n.Image("probe:v2")
	repo := n.Repository(map[string]string{"shoal.cue": strings.Replace(pipeline, `gates: soak: "2s"`, `gates: health: false`, 1)})
	repo.git("remote", "set-url", "origin", forge)
	digest := func() string {
		for _, e := range n.Status().Environments {
			if e.Name == "staging" {
				return e.Digest
			}
		}
		return ""
	}
	stands := func(version string) error {
		var all []error
		all = append(all, n.greetsIn("staging", version)(), n.answers(fmt.Sprintf("http://%s:%d/", n.address, ports["staging"]), "probe "+version))
		s := n.Status()
		pod, services := "", ""
		for _, p := range s.Pods {
			if p.Environment == "staging" && strings.HasPrefix(p.Name, "worker-") && p.Ready > 0 && p.Status == "Running" {
				pod = p.Name
			}
		}
		for _, svc := range s.Services {
			if svc.Namespace == "staging" {
				services += svc.Name + " "
			}
		}
		if services != version+" web " {
			all = append(all, fmt.Errorf("services are %q", services))
		}
		if pod == "" {
			return errors.Join(append(all, errors.New("no worker"))...)
		}
		env, _, _ := n.Shoal("exec", "-n", "staging", pod, "--", "/probe", "env")
		if !strings.Contains(env, "LEVEL="+version+"\n") || !strings.Contains(env, "TOKEN=secret-"+version+"\n") {
			all = append(all, fmt.Errorf("the worker has\n%s", env))
		}
		return errors.Join(all...)
	}
	digests := map[string]string{}
	for i, version := range []string{"v1", "v2"} {
		repo.Write("apps/web/web.cue", strings.Replace(stagedApp(version), "probe:v1", "probe:"+version, 1))
		repo.Write("apps/web/around.yaml", strings.ReplaceAll(around(version), "MINUTE", fmt.Sprint(10+i)))
		repo.Push(version)
		n.Eventually(soon, n.greetsIn("dev", version))
		n.shoal(0, "promote", "staging", "--by", "rita")
		n.Eventually(soon, func() error { return stands(version) })
		digests[version] = digest()
	}
	if digests["v1"] == digests["v2"] {
		t.Fatal("nothing differs")
	}
	n.push(imageLayout(t, "probe:v2"), "probe:v1") // somebody pushes to the tag
	if err := os.Rename(forge, forge+".away"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	n.shoal(0, "rollback", "staging", "--reason", "v2 is slow", "--by", "rita")
	n.Eventually(soon, func() error { return stands("v1") })
	t.Logf("all of it is back after %s", time.Since(begun).Round(time.Millisecond))
	if got := digest(); got != digests["v1"] {
		t.Errorf("staging is %s, and was %s", got, digests["v1"])
	}
}

// TestReplay_FixedByTheNextCommit: a deploy that crashes, that never gets ready, or whose image does not exist is mended by the next commit within 10 s;
// nobody has to take it back, abort it or wait for a deadline.
func TestReplay_FixedByTheNextCommit(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "good")})
	repo.Push("good")
	n.Eventually(soon, n.greetsIn("dev", "good"))
	good := webApp("probe:v1", "bad")
	for i, tt := range []struct{ name, text, shown string }{
		{"crashes", strings.Replace(good, `["serve"]`, `["exit", "3"]`, 1), "CrashLoopBackOff"},
		{"is never ready", strings.Replace(good, `["serve"]`, `["serve", "-ready=false"]`, 1), "0/1     Running"},
		{"has no image", strings.Replace(good, "probe:v1", "nothing:v9", 1), "nothing:v9"},
	} {
		repo.Write("apps/web/web.cue", tt.text)
		repo.pushInBackground(tt.name)
		n.says(tt.shown, "status")
		if err := n.answers(page+"/env", "GREETING="); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		mended := fmt.Sprint("mended", i)
		repo.Write("apps/web/web.cue", webApp("probe:v1", mended))
		begun := time.Now()
		repo.pushInBackground(mended)
		n.Eventually(soon, n.greetsIn("dev", mended))
		took := time.Since(begun)
		t.Logf("what %s is mended after %s", tt.name, took.Round(time.Millisecond))
		if took > 10*time.Second {
			t.Errorf("what %s was mended after %s", tt.name, took)
		}
	}
}

// TestReplay_ForgeAnswersNonsense: pages in place of answers, answers that break off, refs to nothing, a branch that is gone, a tree that is empty or half
// there: nothing that runs is touched, status says what is wrong, and the next good commit comes in.
func TestReplay_ForgeAnswersNonsense(t *testing.T) {
	r := newRing(t, 1, "--repository", forgeURL, "--poll", "300ms")
	forge, doors := r.doors()
	n, d := r.nodes[0], doors[0]
	n.must("git", "--git-dir", forge, "config", "http.receivepack", "true")
	n.must("git", "--git-dir", forge, "config", "gc.auto", "0")
	n.must("git", "--git-dir", forge, "config", "receive.unpackLimit", "10000")
	r.start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one"), "apps/more/more.yaml": around("v1")})
	repo.Write("apps/more/more.yaml", strings.ReplaceAll(around("v1"), "MINUTE", "10"))
	repo.git("remote", "set-url", "origin", forge)
	repo.Push("one")
	n.Eventually(soon, func() error { return errors.Join(n.podsReady(2), n.greetsIn("dev", "one")()) })
	before := places(n)
	count := 1
	next := func() (greeting string) {
		count++
		greeting = fmt.Sprint("commit", count)
		repo.Write("apps/web/web.cue", webApp("probe:v1", greeting))
		return greeting
	}
	meet := func(f func(w http.ResponseWriter, q *http.Request, git http.Handler) bool) {
		if f == nil {
			d.meet.Store(nil)
			return
		}
		d.meet.Store(&f)
	}
	instead := func(status int, kind, body string) func(http.ResponseWriter, *http.Request, http.Handler) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	changed := func(path string, change func([]byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) bool {
		return func(w http.ResponseWriter, q *http.Request, git http.Handler) bool {
			if !strings.HasSuffix(q.URL.Path, path) {
				return false
			}
			answer := httptest.NewRecorder()
			git.ServeHTTP(answer, q)
			maps.Copy(w.Header(), answer.Header())
			w.Header().Del("Content-Length")
			w.WriteHeader(answer.Code)
			_, _ = w.Write(change(answer.Body.Bytes()))
			return true
		}
	}
	stands := func(what, says string) {
		t.Helper()
		begun := time.Now()
		said := n.says(says, "status")
		t.Logf("%s: said after %s: %s", what, time.Since(begun).Round(time.Millisecond), regexp.MustCompile(".*"+regexp.QuoteMeta(says)+".*").FindString(said))
		time.Sleep(time.Second) // some polls more
		if now := places(n); now != before {
			t.Errorf("%s: pods are\n%s\nwere\n%s", what, now, before)
		}
		if err := n.answers(page+"/env", "GREETING="); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	mended := func(what, greeting string) {
		t.Helper()
		n.Eventually(60*time.Second, n.greetsIn("dev", greeting))
		n.Eventually(soon, func() error { return n.podsReady(2) })
		n.Eventually(soon, func() error {
			if out := n.shoal(0, "status"); strings.Contains(out, "cannot be read") {
				return fmt.Errorf("%s: status\n%s", what, out)
			}
			return nil
		})
		before = places(n)
	}
	ids := regexp.MustCompile(`[0-9a-f]{40} refs/heads/`)
	for _, tt := range []struct {
		what, says string
		meet       func(http.ResponseWriter, *http.Request, http.Handler) bool
	}{
		{"a page for people", "source cannot be read", instead(200, "text/html", "<html><body>Please sign in</body></html>")},
		{"garbage", "source cannot be read", instead(200, "application/x-git-upload-pack-advertisement", strings.Repeat("\x00\xff garbage", 100))},
		{"nothing at all", "source cannot be read", instead(200, "application/x-git-upload-pack-advertisement", "")},
		{"an error", "source cannot be read", instead(500, "text/plain", "it broke")},
		{"refs to nothing", "source cannot be read", changed("/info/refs", func(b []byte) []byte {
			return ids.ReplaceAll(b, []byte(strings.Repeat("d", 40)+" refs/heads/"))
		})},
		{"a pack that breaks off", "source cannot be read", changed("/git-upload-pack", func(b []byte) []byte {
			if i := bytes.Index(b, []byte("PACK")); i >= 0 {
				return b[:i+40]
			}
			return b
		})},
	} {
		greeting := next()
		meet(tt.meet)
		repo.Push(tt.what)
		stands(tt.what, tt.says)
		meet(nil)
		mended(tt.what, greeting)
	}

	// The branch is gone.
	main := strings.TrimSpace(repo.git("rev-parse", "HEAD"))
	n.must("git", "--git-dir", forge, "update-ref", "-d", "refs/heads/main")
	stands("the branch is gone", "the host has no refs/heads/main; the last known commits stay")
	n.must("git", "--git-dir", forge, "update-ref", "refs/heads/main", main)
	greeting := next()
	repo.Push("the branch is back")
	mended("the branch is gone", greeting)

	// The tree is empty, or all but.
	for _, tt := range []struct{ what, gone, says string }{{"no apps", "apps", "has problems:"}, {"an empty tree", ".", "shoal.cue: is missing"}} {
		what := tt.what
		repo.git("rm", "-rq", tt.gone)
		repo.git("commit", "-q", "-m", what)
		repo.git("push", "-q", "origin", "HEAD:main")
		stands(what, tt.says)
		repo.git("revert", "--no-edit", "HEAD")
		greeting := next()
		repo.Push("back")
		mended(what, greeting)
	}

	// Half the tree: the forge has lost objects of its newest commit.
	greeting = next()
	repo.git("add", "-A")
	repo.git("commit", "-q", "-m", "half of it")
	blob := strings.TrimSpace(repo.git("rev-parse", "HEAD:apps/web/web.cue"))
	repo.git("push", "-q", "origin", "HEAD:refs/heads/aside")
	object := filepath.Join(forge, "objects", blob[:2], blob[2:])
	if err := os.Rename(object, object+".lost"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "--git-dir", forge, "update-ref", "refs/heads/main", repo.Head()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	stands("half of the tree", "source cannot be read")
	if err := os.Rename(object+".lost", object); err != nil {
		t.Fatal(err)
	}
	mended("half of the tree", greeting)
}
