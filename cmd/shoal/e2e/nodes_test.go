//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// limitedFile is a shoal.cue whose environment dev runs on the nodes of a pool with at most four pods, as do previews with at most two. Production runs on the
// blue ones, with at most so many.
func limitedFile(pool string, production int) string {
	return fmt.Sprintf(`package shoal

import "shoal.dev/schema"

schema.#Repository

environments: dev: {
	ref: "main"
	nodes: pool: %q
	quota: pods: 4
}
previews: {
	nodes: pool: "previews"
	each: pods:  2
}
environments: production: {
	ref: "env/production"
	after: ["dev"]
	nodes: pool: "blue"
	quota: pods: %d
}
`, pool, production)
}

// runsOn says whether an environment has so many ready pods, all on one node, and no other pods.
func (n *Node) runsOn(environment, node string, count int) error {
	on, all := map[string]int{}, 0
	for _, p := range n.Status().Pods {
		if p.Environment != environment {
			continue
		}
		if all++; p.Ready == p.Containers && p.Containers > 0 {
			on[p.Node]++
		}
	}
	if all != count || !maps.Equal(on, map[string]int{node: count}) {
		return fmt.Errorf("%s has %d pods, ready on %v; want %d on %s", environment, all, on, count, node)
	}
	return nil
}

// An environment runs only on nodes that have its labels, goes to others when shoal.cue says so, and says why it waits when there is none. A commit
// that asks for more than the quota is refused and the old one goes on; so is a pull request, whatever quota it brings, until it asks for less.
func TestFeature_V5_NodesAndQuota(t *testing.T) {
	r := newRing(t, 3, giteaFlags()...)
	for i, pool := range []string{"blue", "green", "previews"} {
		r.nodes[i].Args = append(r.nodes[i].Args, "--label", "pool="+pool)
	}
	first := r.nodes[0]
	files := previewFiles("one", "{}")
	files["shoal.cue"] = limitedFile("blue", 3)
	web := files["apps/web/web.cue"]
	replicas := func(n int) string { return strings.Replace(web, "args:", fmt.Sprintf("replicas: %d\n\targs:", n), 1) }
	files["apps/web/web.cue"] = replicas(3)
	forge, repo := newGitea(t, files, r.nodes...)
	repo.Push("one")
	r.start()
	first.Image("probe:v1")
	first.Eventually(60*time.Second, func() error { return first.runsOn("dev", "n1", 3) })

	repo.Write("shoal.cue", limitedFile("green", 3))
	repo.Push("other nodes")
	begun := time.Now()
	first.Eventually(60*time.Second, func() error { return first.runsOn("dev", "n2", 3) })
	t.Logf("three pods are on other nodes after %s", time.Since(begun).Round(time.Millisecond))
	for _, n := range r.nodes {
		n.Eventually(soon, func() error { return n.answers("http://"+n.address+":30080/env", "GREETING=one") })
	}

	repo.Write("shoal.cue", limitedFile("nowhere", 3))
	repo.Push("no node")
	const why = "environment dev runs on nodes with pool=nowhere only (environments.dev.nodes, shoal.cue:9), and no node is one"
	for _, n := range r.nodes {
		n.Eventually(soon, func() error {
			pending := ""
			for _, p := range n.Status().Pods {
				if p.Environment == "dev" && p.Node == "" {
					pending = p.Message
					if out, errs, code := n.Shoal("why", "pod/"+p.Name); code != 0 || !strings.Contains(out, why) {
						return fmt.Errorf("why: %s%s", out, errs)
					}
				}
			}
			if !strings.Contains(pending, "0/3 nodes: 3 node selector pool=nowhere does not match; "+why) {
				return fmt.Errorf("a pod that waits says %q", pending)
			}
			return n.answers("http://"+n.address+":30080/env", "GREETING=one") // what ran goes on
		})
	}

	repo.Write("shoal.cue", limitedFile("green", 3))
	repo.Write("apps/web/web.cue", replicas(5))
	repo.Push("too many")
	const over = `shoal.cue:10: environments.dev.quota.pods: quota: environment dev would have 5 of pods, and may have 4: Deployment dev/web has 5 (apps/web/dev.cue:5)`
	if out, errs, code := first.ShoalIn(repo.Dir, "", "check"); code != 1 || !strings.Contains(errs, over) {
		t.Errorf("check: %d %s%s", code, out, errs)
	}
	for _, n := range r.nodes {
		n.Eventually(soon, func() error {
			for _, e := range n.Status().Environments {
				if e.Name == "dev" && e.Candidate == repo.Head() && e.Problems.Error() == over {
					return n.answers("http://"+n.address+":30080/env", "GREETING=one")
				}
			}
			return fmt.Errorf("what is over the quota is not refused: %+v", n.Status().Environments)
		})
	}
	repo.Write("apps/web/web.cue", replicas(4))
	repo.Push("as many as may be")
	first.Eventually(60*time.Second, func() error { return first.runsOn("dev", "n2", 4) })

	const productionOver = "quota: environment production would have 4 of pods, and may have 3: Deployment production/web has 4"
	if out := first.shoal(1, "promote", "production", "--by", "rita"); !strings.Contains(out, productionOver) {
		t.Errorf("promote: %s", out)
	}
	if out := repo.git("ls-remote", "origin", "env/production"); out != "" {
		t.Errorf("a promotion beyond the quota is on the branch: %s", out)
	}
	repo.Write("shoal.cue", limitedFile("green", 4))
	repo.Push("more for production")
	first.Eventually(soon, func() error {
		if out, errs, code := first.Shoal("promote", "production", "--by", "rita"); code != 0 {
			return fmt.Errorf("promote: %s%s", out, errs)
		}
		return nil
	})
	first.Eventually(60*time.Second, func() error { return first.runsOn("production", "n1", 4) })

	repo.git("checkout", "-q", "-b", "topic")
	repo.greet("topic")
	repo.Write("shoal.cue", strings.Replace(limitedFile("green", 4), "pods:  2", "pods:  400", 1))
	repo.commit("topic")
	pull := forge.open(repo, "topic", "ann")
	const previewOver = "shoal.cue:14: previews.each.pods: quota: environment pr-1 would have 4 of pods, and may have 2: Deployment pr-1/web has 4 (apps/web/preview.cue:5)"
	for _, n := range r.nodes {
		n.Eventually(soon, func() error {
			p, err := n.preview("pr-1")
			if err == nil && !strings.Contains(strings.Join(p.Problems, "\n"), previewOver) {
				err = fmt.Errorf("it has the problems %v", p.Problems)
			}
			return err
		})
	}
	first.Eventually(soon, func() error {
		if text := forge.comment(pull); !strings.Contains(text, previewOver) {
			return fmt.Errorf("the pull request says %q", text)
		}
		return nil
	})
	for _, p := range first.Status().Pods {
		if p.Environment == "pr-1" {
			t.Errorf("a preview beyond its quota has the pod %s", p.Name)
		}
	}
	repo.Write("apps/web/web.cue", replicas(2))
	repo.greet("topic")
	repo.commit("less")
	forge.push(repo, pull)
	first.Eventually(60*time.Second, func() error { return first.runsOn("pr-1", "n3", 2) })
	for _, n := range r.nodes {
		n.previewGreets(soon, "pr-1", "topic")
	}
	first.Eventually(soon, func() error {
		if text := forge.comment(pull); strings.Contains(text, "quota") || !strings.Contains(text, "ready") {
			return fmt.Errorf("the pull request says %q", text)
		}
		return nil
	})
}
