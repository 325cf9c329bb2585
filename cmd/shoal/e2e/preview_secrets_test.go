//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// modest is secretApp as a fork's preview may run it, and which runs without the Secret too.
func modest(app string) string {
	app = strings.Replace(app, "    spec:\n", "    spec:\n      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}\n", 1)
	app = strings.Replace(app, "        image:", "        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}\n        image:", 1)
	for _, r := range [][2]string{{"key: password}", "key: password, optional: true}"}, {"name: db}, prefix", "name: db, optional: true}, prefix"}, {"secretName: db}", "secretName: db, optional: true}"}} {
		app = strings.Replace(app, r[0], r[1], 1)
	}
	return app
}

// A preview of the repository's own branch has the secrets that are sealed for previews, and nothing of what is sealed for another
// environment, though its pull request copies that to where previews' lie. A fork's has none, with the approval of a maintainer too, and
// says so where it wants them. The values are in nothing that others can read.
func TestFeature_V4_ForksHaveNoSecrets(t *testing.T) {
	n := NewNode(t, "--log-level", "debug")
	files := previewFiles("one", `{quota: 4, forks: approval: "preview-ok"}`)
	files["apps/db/db.yaml"] = modest(secretApp("db"))
	forge, repo := newGitea(t, files, n)
	n.Args = append(n.Args, giteaFlags()...)
	n.Start()
	n.Image("probe:v1")
	ofDev, ofPreviews := newCanary(), newCanary()
	t.Log(repo.secret(ofDev.text, "-e", "dev", "set", "db", "password"))
	t.Log(repo.secret(ofPreviews.text, "-e", "preview", "set", "db", "password"))
	repo.Push("one")
	n.Eventually(soon, func() error { return n.sees("db", ofDev.text, ofDev.text) })

	topic := func(branch string, change func(), more ...func(*giteaPull)) *giteaPull {
		t.Helper()
		repo.git("checkout", "-q", "-B", branch, "main")
		repo.greet(branch)
		change()
		repo.commit(branch)
		return forge.open(repo, branch, "ann", more...)
	}
	topic("own", func() {})
	n.Eventually(50*time.Second, func() error { return n.seesIn("pr-1", "db", ofPreviews.text, ofPreviews.text) })

	topic("thief", func() {
		repo.git("rm", "-rq", "secrets/preview")
		if err := os.CopyFS(filepath.Join(repo.Dir, "secrets/preview"), os.DirFS(filepath.Join(repo.Dir, "secrets/dev"))); err != nil {
			t.Fatal(err)
		}
	})
	const refused = `secret pr-2/db: this node has no key of environment preview: identity.age: open identity of preview: is that of another environment, "dev"`
	n.Eventually(50*time.Second, func() error {
		if out, _, _ := n.Shoal("status"); !strings.Contains(out, refused) {
			return fmt.Errorf("status:\n%s", out)
		}
		return nil
	})
	n.previewGreets(soon, "pr-2", "thief") // what wants no secret runs

	fork := topic("stranger", func() {}, func(p *giteaPull) { p.fork, p.author = true, "eve" })
	n.waits(soon, "pr-3", "a maintainer approves commit "+fork.head[:12])
	time.Sleep(2 * time.Second) // the forge tells time in seconds
	forge.label(fork, "ann", "preview-ok")
	n.previewGreets(50*time.Second, "pr-3", "stranger")
	n.Eventually(soon, func() error {
		if err := n.seesIn("pr-3", "db", "", ""); err == nil || !strings.Contains(err.Error(), "no such file") {
			return fmt.Errorf("a fork's pod does not say that there is no such file: %s", fmt.Sprint(err))
		}
		return nil
	})
	for _, p := range n.Status().Pods {
		if p.Environment == "pr-3" && strings.HasPrefix(p.Name, "db-") {
			if out, _, _ := n.Shoal("exec", "-n", "pr-3", p.Name, "--", "/probe", "env"); strings.Contains(out, "PASSWORD=") || !strings.Contains(out, "PATH=") {
				t.Errorf("the environment of a fork's pod:\n%s", out)
			}
		}
	}
	leaks := func(when string) {
		t.Helper()
		found := n.leaks(repo, ofDev, ofPreviews)
		forge.set(func() {
			for _, c := range forge.comments {
				if ofDev.in([]byte(c.body)) || ofPreviews.in([]byte(c.body)) {
					found = append(found, "a comment")
				}
			}
		})
		if found != nil {
			t.Fatalf("%s: the value is in %s", when, strings.Join(found, "\n"))
		}
	}
	leaks("while all run")

	// One that insists on the Secret.
	repo.Write("apps/db/db.yaml", strings.ReplaceAll(modest(secretApp("db")), ", optional: true", ""))
	repo.commit("it must be there")
	forge.push(repo, fork)
	n.waits(soon, "pr-3", "a maintainer approves commit "+fork.head[:12])
	forge.set(func() { fork.labels = nil })
	time.Sleep(2 * time.Second)
	forge.label(fork, "ann", "preview-ok")
	n.Eventually(50*time.Second, func() error {
		out, _, _ := n.Shoal("previews")
		if !strings.Contains(out, "Secret pr-3/db not found: environment pr-3 gets no secrets, as a preview of a fork") {
			return fmt.Errorf("previews:\n%s", out)
		}
		return nil
	})
	n.previewGreets(soon, "pr-3", "stranger")
	n.Eventually(soon, func() error {
		if c := forge.comment(fork); !strings.Contains(c, "as a preview of a fork") {
			return fmt.Errorf("its pull request says %s", c)
		}
		return nil
	})
	if out, _, _ := n.Shoal("previews"); os.Getenv("SHOW") != "" {
		t.Logf("%s\n%s", out, forge.comment(fork))
	}
	leaks("at last")

	// What was in memory goes with them.
	forge.set(func() {
		for _, p := range forge.pulls {
			p.closed = true
		}
	})
	repo.git("checkout", "-q", "main")
	n.gone(50*time.Second, "pr-1", "pr-2", "pr-3")
}
