//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchReleased is how many apps are promoted as one commit.
const benchReleased = 20

// BenchmarkRelease measures what release managers and those who open pull requests wait for: a plan, a promotion of all apps as one
// commit, the way back, and a preview.
func BenchmarkRelease(b *testing.B) {
	fmt.Println() // after the name that the testing package printed
	for b.Loop() {
		floor := measureFloor(b)
		n := NewNode(b).Start()
		n.Image("probe:v1")
		n.benchPromotions(floor)
		n.Stop()
		benchPreviews(b, floor)
	}
}

// benchPromotions has twenty apps in dev and staging, of which one answers on a node port.
func (n *Node) benchPromotions(floor floor) {
	repo := n.Repository(map[string]string{"shoal.cue": strings.Replace(pipeline, `gates: soak: "2s"`, "gates: health: false", 1)})
	push := func(greeting string) {
		old := n.podsIn("dev")
		for i := range benchReleased - 1 {
			repo.writeApp(i, "probe:v1", greeting)
		}
		repo.Write("apps/web/web.cue", stagedApp(greeting))
		repo.Push(greeting)
		n.Eventually(time.Minute, func() error { return n.renewed("dev", old) })
	}
	promote := func() (took time.Duration) {
		old := n.podsIn("staging")
		begun := time.Now()
		n.shoal(0, "promote", "staging")
		n.Eventually(time.Minute, func() error { return n.begun("staging", old) })
		took = time.Since(begun)
		n.Eventually(time.Minute, func() error { return n.renewed("staging", old) })
		return took
	}
	push("before")
	promote()
	var looks, promotions, rollbacks []float64
	for i := range benchTurns {
		push(fmt.Sprint("turn", i))
		begun := time.Now()
		n.shoal(0, "promote", "staging", "--dry-run")
		looks = append(looks, ms(time.Since(begun)))
		commits := repo.lengthOf("env/staging")
		promotions = append(promotions, ms(promote()))
		if more := repo.lengthOf("env/staging") - commits; more != 1 {
			n.t.Fatalf("env/staging has %d commits more, want one", more)
		}
		old := n.podsIn("staging")
		begun = time.Now()
		n.shoal(0, "rollback", "staging", "--reason", "measured")
		n.Eventually(time.Minute, n.greetsIn("staging", "before"))
		rollbacks = append(rollbacks, ms(time.Since(begun)))
		n.Eventually(time.Minute, func() error { return n.renewed("staging", old) })
	}
	figure{Name: "promote --dry-run of 20 apps that all changed", Unit: "ms"}.print(looks...)
	figure{Name: "promotion of 20 apps in one commit: the command to all new pods ready", Unit: "ms", Floor: floor.one * benchReleased / 2}.print(promotions...)
	figure{Name: "rollback of 20 apps: the command to the old version's answer", Unit: "ms", Floor: floor.one * benchReleased / 2}.print(rollbacks...)
	push("settled")
	promote()
	rollbacks = nil
	for i := range benchTurns {
		greeting := fmt.Sprint("one", i)
		repo.Write("apps/web/web.cue", stagedApp(greeting))
		repo.Push(greeting)
		n.Eventually(soon, n.greetsIn("dev", greeting))
		n.shoal(0, "promote", "staging")
		n.Eventually(soon, n.greetsIn("staging", greeting))
		begun := time.Now()
		n.shoal(0, "rollback", "staging", "--reason", "measured")
		n.Eventually(soon, n.greetsIn("staging", "settled"))
		rollbacks = append(rollbacks, ms(time.Since(begun)))
		time.Sleep(time.Second) // its pods are replaced
	}
	figure{Name: "rollback of one app: the command to the old version's answer", Unit: "ms", Goal: 1000, Floor: floor.one}.print(rollbacks...)
}

// podsIn are the names of an environment's pods.
func (n *Node) podsIn(environment string) map[string]bool {
	names := map[string]bool{}
	for _, p := range n.Status().Pods {
		if p.Environment == environment {
			names[p.Name] = true
		}
	}
	return names
}

// begun tells whether an environment has a new pod for each app, and all are ready.
func (n *Node) begun(environment string, old map[string]bool) error {
	_, err := n.newPods(environment, old)
	return err
}

// renewed tells whether the old ones are gone, too.
func (n *Node) renewed(environment string, old map[string]bool) error {
	left, err := n.newPods(environment, old)
	if err == nil && left > 0 {
		err = fmt.Errorf("%s has %d old pods", environment, left)
	}
	return err
}

// newPods counts the old pods; it is an error if an app has no new one that is ready.
func (n *Node) newPods(environment string, old map[string]bool) (left int, err error) {
	ready := 0
	for _, p := range n.Status().Pods {
		switch {
		case p.Environment != environment:
		case old[p.Name]:
			left++
		case p.Containers > 0 && p.Ready == p.Containers && p.Status == "Running":
			ready++
		}
	}
	if ready != benchReleased {
		err = fmt.Errorf("%s has %d new pods that are ready", environment, ready)
	}
	return left, err
}

// lengthOf is how many commits a branch of the ring's repository has, those of branches merged into it aside.
func (r *Repository) lengthOf(branch string) int {
	r.git("fetch", "-q", "origin")
	count, err := strconv.Atoi(strings.TrimSpace(r.git("rev-list", "--count", "--first-parent", "origin/"+branch)))
	if err != nil {
		r.n.t.Fatal(err)
	}
	return count
}

// benchPreviews has a pull request on a forge, opened and then pushed to with nothing but a setting changed.
func benchPreviews(b *testing.B, floor floor) {
	n := NewNode(b)
	forge, repo := newGitea(b, previewFiles("one", `{quota: 4}`), n)
	repo.Push("one")
	n.Args = giteaFlags()
	n.Start()
	n.Image("probe:v1")
	n.Eventually(soon, func() error { return n.answers("http://127.0.0.1:30080/env", "GREETING=one") })
	repo.git("checkout", "-q", "-b", "topic")
	repo.greet("opened")
	repo.commit("opened")
	pull := forge.open(repo, "topic", "ann")
	n.previewGreets(time.Minute, "pr-1", "opened")
	var took []float64
	for i := range benchTurns {
		greeting := fmt.Sprint("turn", i)
		repo.greet(greeting)
		repo.commit(greeting)
		begun := time.Now()
		forge.push(repo, pull)
		n.previewGreets(time.Minute, "pr-1", greeting)
		took = append(took, ms(time.Since(begun)))
	}
	figure{Name: "preview of a change of a setting: the push to its answer", Unit: "ms", Goal: 5000, Floor: floor.one}.print(took...)
}
