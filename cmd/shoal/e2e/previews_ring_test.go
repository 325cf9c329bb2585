//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// On a ring the merge that the leader makes comes to all nodes, each renders it, and the preview runs on all of them. The agent that leads
// is killed: the next one goes on from the ledger. When the pull request is closed nothing is left on any node.
func TestFeature_V1_PreviewsOnARing(t *testing.T) {
	r := newRing(t, 3, giteaFlags()...)
	files := previewFiles("one", `{quota: 2}`)
	files["apps/web/web.cue"] = strings.Replace(files["apps/web/web.cue"], "args:", "replicas: 3\n\targs:", 1)
	forge, repo := newGitea(t, files, r.nodes...)
	repo.Push("one")
	r.start()
	first := r.nodes[0]
	first.Image("probe:v1")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })

	repo.git("checkout", "-q", "-b", "topic")
	repo.greet("topic")
	repo.commit("topic")
	begun := time.Now()
	pull := forge.open(repo, "topic", "ann")
	all := func(greeting string, on int, nodes ...*Node) {
		t.Helper()
		url := nodes[0].previewGreets(50*time.Second, "pr-1", greeting)
		port := url[strings.LastIndex(url, ":"):]
		for _, n := range nodes {
			n.Eventually(soon, func() error { return n.answers("http://"+n.address+port+"/env", "GREETING="+greeting) })
			n.Eventually(soon, func() error {
				here := map[string]bool{}
				for _, p := range n.Status().Pods {
					if p.Environment == "pr-1" && p.Ready == p.Containers && p.Containers > 0 {
						here[p.Node] = true
					}
				}
				if len(here) < on {
					return fmt.Errorf("it runs on %v", here)
				}
				return nil
			})
		}
	}
	all("topic", 3, r.nodes...)
	t.Logf("a preview runs on three machines after %s", time.Since(begun).Round(time.Millisecond))

	leader, rest := r.around(r.leader())
	leader.Kill()
	repo.greet("again")
	repo.commit("again")
	forge.push(repo, pull)
	begun = time.Now()
	rest[0].Eventually(60*time.Second, func() error {
		p, err := rest[0].preview("pr-1")
		if err == nil && (string(p.Head) != pull.head || p.Active != string(p.Commit)) {
			err = fmt.Errorf("it shows %s, runs %s", p.Head, p.Active)
		}
		return err
	})
	t.Logf("the next leader shows a push %s after the one before was killed", time.Since(begun).Round(time.Millisecond))
	leader.Start()
	first.Eventually(60*time.Second, func() error { return r.whole(3) })
	all("again", 1, r.nodes...)

	forge.set(func() { pull.closed = true })
	for _, n := range r.nodes {
		n.gone(soon, "pr-1")
	}
}
