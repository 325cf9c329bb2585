//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// olderBinary is shoal of the engine version before: SHOAL_OLDER, or today's that says so.
func olderBinary(t testing.TB) string {
	if path := os.Getenv("SHOAL_OLDER"); path != "" {
		return path
	}
	return tagged(t, "shoal_before")
}

// churn puts so many entries into the ledger by a node, most of which change something.
func (n *Node) churn(entries int) {
	n.t.Helper()
	const clients = 16
	var done sync.WaitGroup
	for i := range clients {
		done.Go(func() {
			c := n.Client()
			for j := range entries / clients {
				if err := c.Change(context.Background(), n.name, []string{"cordon", "uncordon"}[(i+j)%2]); err != nil {
					n.t.Errorf("%s: %v", n.name, err)
					return
				}
			}
		})
	}
	done.Wait()
	if err := n.Client().Change(context.Background(), n.name, "uncordon"); err != nil {
		n.t.Fatal(err)
	}
}

// snapshots are how many of the ledger's there are on a machine's disk.
func (n *Node) snapshots() int {
	all, _ := filepath.Glob(filepath.Join(n.Data, "ledger/snapshots/*"))
	return len(all)
}

// A ring of which one node has the newer binary: leaders are of both versions, and commits, jobs, runs of a CronJob, restarts and
// kills go on, and more entries than are kept, so that all start from snapshots, and nodes of either version join by one that a
// leader of the other has made. What only the newer node knows it is asked for from the first: that harms nobody, and it
// says why nothing comes of it. When the last one is upgraded the ring goes over, and it works; an older binary joins no more.
func TestFault_U2_MixedRing(t *testing.T) {
	older := olderBinary(t)
	r := newRing(t, 6)
	joins := r.nodes[3:]
	r.nodes = r.nodes[:3]
	for _, n := range slices.Concat(r.nodes, []*Node{joins[0], joins[2]}) {
		n.binary = older
	}
	r.start()
	first := r.nodes[0]
	before := first.engine()
	if before >= cluster.PromotionSince {
		t.Fatalf("the older binary has engine version %d: ask for something that it does not know", before)
	}
	first.Image("probe:v1")
	files := map[string]string{
		"shoal.cue":            shoalFile + "environments: staging: {ref: \"env/staging\", after: [\"dev\"]}\n",
		"apps/web/web.cue":     replicated("one"),
		"apps/cron/short.yaml": fmt.Sprintf(cronYAML, "short", "Allow", `exit, "0"`),
	}
	repo := first.Repository(files)
	repo.Push("first")
	first.Eventually(60*time.Second, func() error { return r.serves(first, "one") })
	newer, old := r.nodes[2], r.nodes[1]
	upgrade := func(n *Node) {
		n.Stop()
		n.binary = ""
		n.Args = append(n.Args, "--wireguard=on")
		n.Start()
		n.Eventually(30*time.Second, func() error { return r.whole(len(r.nodes)) })
	}
	upgrade(newer)
	early := fmt.Sprintf("promotions want engine version %d", cluster.PromotionSince)
	if said := newer.shoal(1, "promote", "staging"); !strings.Contains(said, early) {
		t.Errorf("a promotion before the ring knows of them: %s", said)
	}
	for i := range rounds(1, 2) {
		for j, leader := range []*Node{newer, old} {
			r.lead(leader)
			word := fmt.Sprintf("word%d%d", i, j)
			repo.Write("apps/web/web.cue", replicated(word))
			repo.Write("apps/job/job.yaml", fmt.Sprintf("apiVersion: batch/v1\nkind: Job\nmetadata: {name: %s}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: run, image: \"shoal.local/probe:v1\", args: [exit, \"0\"]}]}}}\n", word))
			repo.PushBy([]*Node{newer, old}[1-j], word)
			leader.churn(4400)
			r.nodes[0].Eventually(60*time.Second, func() error { return r.serves(first, word) })
			for k, n := range r.nodes {
				if n.snapshots() == 0 {
					t.Errorf("%s has no snapshot to start from", n.name)
				}
				if (i+j+k)%2 == 0 {
					n.Kill()
				} else {
					n.Stop()
				}
				n.Start()
				n.Eventually(30*time.Second, func() error { return r.whole(3) })
			}
		}
	}
	if now := first.engine(); now != before {
		t.Fatalf("the ring runs engine version %d, some nodes know only %d", now, before)
	}
	for i, leader := range []*Node{newer, old} { // the snapshot of one version is for a node of the other
		r.lead(leader)
		joining := joins[i]
		token, err := leader.Client().CreateToken(context.Background(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		joining.Args = append(joining.Args, "--join", token.Address, "--token", token.Text)
		joining.Start()
		r.nodes = append(r.nodes, joining)
		joining.Eventually(60*time.Second, func() error { return r.whole(len(r.nodes)) })
		if joining.snapshots() == 0 {
			t.Errorf("%s has joined without a snapshot", joining.name)
		}
	}
	first.Eventually(70*time.Second, func() error {
		if len(cronRuns(first)) == 0 {
			return fmt.Errorf("the CronJob has not run")
		}
		return nil
	})
	for _, n := range r.nodes {
		if n.binary == older {
			upgrade(n)
		}
	}
	upgrade(joins[1]) // it has the newer binary, and is to encrypt
	for _, n := range r.nodes {
		n.Eventually(30*time.Second, func() error {
			if now := n.engine(); now != cluster.EngineVersion {
				return fmt.Errorf("engine version %d, want %d", now, cluster.EngineVersion)
			}
			if w := n.Status().Warnings; slices.ContainsFunc(w, func(s string) bool { return strings.Contains(s, "encrypted") }) {
				return fmt.Errorf("%s warns of %q", n.name, w)
			}
			return nil
		})
	}
	r.nodes[0].Eventually(30*time.Second, func() error { return r.whole(len(r.nodes)) })
	repo.Write("apps/web/web.cue", replicated("last"))
	repo.PushBy(newer, "last")
	first.Eventually(60*time.Second, func() error { return r.serves(first, "last") })
	if said, _, _ := newer.Shoal("promote", "staging", "--dry-run"); !strings.Contains(said, "claim: promotes dev") {
		t.Errorf("a promotion when all are upgraded: %s", said)
	}
	token, err := first.Client().CreateToken(context.Background(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	joins[2].Args = append(joins[2].Args, "--join", token.Address, "--token", token.Text)
	joins[2].StartWithoutWaiting()
	select {
	case <-joins[2].exited:
	case <-time.After(20 * time.Second):
		t.Error("an older binary is let into the ring")
	}
	if said := joins[2].output.String(); !strings.Contains(said, "install a newer shoal there") {
		t.Errorf("an older binary that wants to join is told %q", said)
	}
	list, err := first.Client().Ring(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list.Nodes {
		if n.WireGuard == 0 {
			t.Errorf("%s has no WireGuard", n.Name)
		}
	}
	runs := cronRuns(first)
	for name, pods := range runs {
		if pods != 1 {
			t.Errorf("%s ran %d times", name, pods)
		}
	}
	t.Logf("runs of the CronJob: %v", runs)
}

// cronRuns counts the pods of each run of the CronJob "short".
func cronRuns(n *Node) map[string]int {
	n.t.Helper()
	runs := map[string]int{}
	for _, p := range n.Status().Pods {
		if strings.HasPrefix(p.Name, "short-") {
			runs[p.Name[:strings.LastIndex(p.Name, "-")]]++
		}
	}
	return runs
}

// serves tells whether the web app's three pods answer with a word on every node.
func (r *ring) serves(asked *Node, word string) error {
	s, err := asked.Client().Status(context.Background())
	if err != nil {
		return err
	}
	web := 0
	for _, p := range s.Pods {
		if strings.HasPrefix(p.Name, "web-") && p.Ready == p.Containers && p.Containers > 0 {
			web++
		}
	}
	if web != 3 {
		return fmt.Errorf("%d pods are ready, want 3", web)
	}
	for _, n := range r.nodes {
		if err := n.answers("http://"+n.address+":30080/env", "GREETING="+word); err != nil {
			return err
		}
	}
	return nil
}
