//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// stepApp is a Job of its own for each commit: what was applied twice would run twice.
func stepApp(i int) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: step%03d}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "shoal.local/probe:v1", args: [exit, "0"]}]
`, i)
}

// The leader's agent is killed again and again, while commits are pushed to one node after the other and CronJobs fire:
// no commit that was acknowledged is lost, none is applied twice, and each CronJob runs once a minute.
func TestFeature_R2_LeaderLosses(t *testing.T) {
	r := newRing(t, 3).start()
	first := r.nodes[0]
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{
		"apps/cron/short.yaml":  fmt.Sprintf(cronYAML, "short", "Allow", `exit, "0"`),
		"apps/cron/forbid.yaml": fmt.Sprintf(cronYAML, "forbid", "Forbid", `sleep, 5s`),
	})
	repo.Push("cron")
	begun := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var pushed []string // that were acknowledged
	group.Go(func() {
		for i := 0; ctx.Err() == nil && i < 500; i++ {
			id, err := r.nodes[i%3].pushStep(repo, i)
			if err != nil {
				t.Logf("push %d to %s: %v", i, r.nodes[i%3].name, err)
			} else {
				pushed = append(pushed, id)
			}
			time.Sleep(300 * time.Millisecond)
		}
	})
	var away times
	kills := rounds(3, 10)
	for i := range kills {
		leader, others := r.around(r.leaderOf(r.nodes[i%3]))
		leader.Kill()
		at := time.Now()
		others[0].Eventually(20*time.Second, func() error {
			if name, err := others[0].leads(); err != nil || name == leader.name {
				return fmt.Errorf("%s leads: %w", name, err)
			}
			return nil
		})
		away = append(away, time.Since(at))
		time.Sleep(2 * time.Second)
		leader.Start()
		first.Eventually(60*time.Second, func() error { return r.whole(3) })
	}
	t.Logf("another leads after %s", away)
	minutes := int(time.Since(begun)/time.Minute) + 1
	time.Sleep(time.Until(begun.Truncate(time.Minute).Add(time.Duration(minutes)*time.Minute + 8*time.Second)))
	cancel()
	group.Wait()
	if len(pushed) < kills {
		t.Fatalf("only %d pushes were acknowledged", len(pushed))
	}
	t.Logf("%d pushes acknowledged", len(pushed))
	first.Eventually(60*time.Second, func() error { return r.whole(3) })
	for _, n := range r.nodes {
		n.Eventually(20*time.Second, func() error { return n.hasCommits(repo, pushed) })
	}
	// Every Job of a commit that counts has run in one pod, once; every CronJob once a minute.
	steps := strings.Fields(repo.git("ls-tree", "--name-only", pushed[len(pushed)-1], "apps/steps/"))
	first.Eventually(60*time.Second, func() error {
		runs := r.instances("step")
		for _, s := range steps {
			if name := strings.TrimSuffix(filepath.Base(s), ".yaml"); runs[name] != 1 {
				return fmt.Errorf("%s ran in %d pods", name, runs[name])
			}
		}
		return nil
	})
	for _, cron := range []string{"short", "forbid"} {
		runs := r.instances(cron)
		for minute := begun.Truncate(time.Minute).Add(time.Minute); minute.Before(time.Now().Add(-5 * time.Second)); minute = minute.Add(time.Minute) {
			if name := fmt.Sprintf("%s-%d", cron, minute.Unix()/60); runs[name] != 1 {
				t.Errorf("%s ran in %d pods", name, runs[name])
			}
		}
		if len(runs) > minutes {
			t.Errorf("%s ran %d times in %d minutes: %v", cron, len(runs), minutes, runs)
		}
	}
}

// leads is the name of the node that leads, as this one has it.
func (n *Node) leads() (string, error) {
	list, err := n.Client().Ring(context.Background(), false)
	if err != nil {
		return "", err
	}
	for _, n := range list.Nodes {
		if n.Leader {
			return n.Name, nil
		}
	}
	return "", fmt.Errorf("nobody leads")
}

// leaderOf waits until a node knows who leads.
func (r *ring) leaderOf(n *Node) (name string) {
	r.t.Helper()
	n.Eventually(20*time.Second, func() (err error) { name, err = n.leads(); return err })
	return name
}

// pushStep commits one more Job and pushes it to a node, and returns the commit if the node acknowledged it.
func (n *Node) pushStep(repo *Repository, i int) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	git := func(args ...string) (string, error) {
		cmd := n.command(ctx, "git", append([]string{"-C", repo.Dir}, args...)...)
		cmd.Env = gitEnv()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
		return strings.TrimSpace(string(out)), nil
	}
	path := filepath.Join(repo.Dir, "apps/steps", fmt.Sprintf("step%03d.yaml", i))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(path, []byte(stepApp(i)), 0o644); err != nil {
		return "", err
	}
	if _, err := git("add", "-A"); err != nil {
		return "", err
	}
	if _, err := git("commit", "-q", "-m", fmt.Sprintf("step %d", i)); err != nil {
		return "", err
	}
	id, err := git("rev-parse", "HEAD")
	if err != nil {
		return "", err
	}
	_, err = git("push", "-q", "http://127.0.0.1:7443/repo.git", "HEAD:main")
	return id, err
}

// hasCommits tells whether a node's repository has commits on its main branch.
func (n *Node) hasCommits(repo *Repository, ids []string) error {
	cmd := n.command(context.Background(), "git", "-C", repo.Dir, "fetch", "-q", "http://127.0.0.1:7443/repo.git", "main")
	cmd.Env = gitEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", n.name, err, out)
	}
	have := strings.Fields(repo.git("rev-list", "FETCH_HEAD"))
	there := map[string]bool{}
	for _, id := range have {
		there[id] = true
	}
	for _, id := range ids {
		if !there[id] {
			return fmt.Errorf("%s: commit %s was acknowledged and is not there", n.name, id)
		}
	}
	return nil
}

// instances counts the pods that ran of each Job whose name begins so, on all machines, by their logs.
func (r *ring) instances(prefix string) map[string]int {
	pods := map[string]bool{}
	for _, n := range r.nodes {
		dirs, _ := filepath.Glob(filepath.Join(n.Logs, "*_"+prefix+"*"))
		for _, dir := range dirs {
			pods[filepath.Base(dir)] = true
		}
	}
	out := map[string]int{}
	for pod := range pods { // namespace_name_uid
		_, name, _ := strings.Cut(pod, "_")
		name, _, _ = strings.Cut(name, "_")
		out[name[:strings.LastIndexByte(name, '-')]]++
	}
	return out
}
