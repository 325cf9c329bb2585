//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// forge is a repository that rings follow, and a clone from which it is pushed to.
type forge struct {
	t   testing.TB
	dir string
	app func(greeting string) string
	*Repository
}

// oneWeb is a single pod.
func oneWeb(greeting string) string { return webApp("probe:v1", greeting) }

// newForge makes an empty one; the first commit, of an app, is to be pushed.
func newForge(n *Node, app func(greeting string) string) *forge {
	n.t.Helper()
	dir := filepath.Join(n.t.TempDir(), "forge.git")
	n.must("git", "init", "-q", "--bare", "-b", "main", dir)
	f := &forge{n.t, dir, app, n.Repository(map[string]string{"apps/web/web.cue": app("one")})}
	f.git("remote", "set-url", "origin", dir)
	return f
}

// flags are those of an agent that follows the forge.
func (f *forge) flags() []string {
	return []string{"--repository", "file://" + f.dir, "--poll", "300ms"}
}

// greet pushes a commit that has the app say something else.
func (f *forge) greet(greeting string) {
	f.t.Helper()
	f.Write("apps/web/web.cue", f.app(greeting))
	f.Push(greeting)
}

// claim is the ring that the forge names.
func (f *forge) claim() string {
	f.t.Helper()
	out, _ := exec.Command("git", "--git-dir", f.dir, "log", "-1", "--format=%(trailers:key=Shoal-Ring,valueonly)", source.ClaimRef).Output()
	return strings.TrimSpace(string(out))
}

// greets waits until a node answers with a greeting.
func (n *Node) greets(greeting string) {
	n.t.Helper()
	n.Eventually(60*time.Second, func() error { return n.answers(page+"/env", "GREETING="+greeting) })
}

// says waits until a command of a node prints something, and returns what else.
func (n *Node) says(want string, args ...string) (said string) {
	n.t.Helper()
	n.Eventually(90*time.Second, func() error {
		out, errs, _ := n.Shoal(args...)
		if said = out + errs; !strings.Contains(said, want) {
			return fmt.Errorf("shoal %s says %s, want %q", strings.Join(args, " "), said, want)
		}
		return nil
	})
	return said
}

// A second ring on a repository, as after a lost disk: it renders and plans, runs and pushes nothing and says why, with the
// forge gone and after restarts too, until it is told to run it. Then the first takes no more commits. A forge that lets a ring
// write nothing is claimed by hand.
func TestFeature_R2_SecondRingRunsNothing(t *testing.T) {
	first, second, third := NewNode(t), NewNode(t), NewNode(t)
	f := newForge(first, oneWeb)
	for _, n := range []*Node{first, second} {
		n.Args = f.flags()
	}
	first.Start()
	first.Image("probe:v1")
	f.Push("one")
	first.greets("one")
	ring := first.Status().Ring
	if f.claim() != ring {
		t.Fatalf("the forge names ring %q, not %s", f.claim(), ring)
	}
	first.says("is claimed for this ring, "+ring[:8], "ring", "status")
	at := f.git("ls-remote", "origin")

	second.must("mount", "--bind", f.dir, f.dir) // this machine may not write there
	second.must("mount", "-o", "remount,bind,ro", f.dir)
	second.Start()
	second.Image("probe:v1")
	const held = "activates nothing: the repository is claimed by ring "
	second.says("is claimed by ring "+ring[:8]+" (by shoal on n1, since ", "status")
	second.says("has problems:", "status")
	second.says(held+ring[:8], "ring", "status")
	second.says("is claimed by ring "+ring[:8], "why", "deploy/web")
	if out, errs, code := second.ShoalIn(f.Dir, "", "plan"); code != 0 || !strings.Contains(out, "none of this would happen now: ") || !strings.Contains(out, "1 pod starts: it is new") {
		t.Errorf("plan: %d %s%s", code, out, errs)
	}
	if out, errs, code := second.Shoal("ring", "claim"); code != 2 || !strings.Contains(errs, "shoal ring claim --yes") {
		t.Errorf("ring claim without --yes: %d %s%s", code, out, errs)
	}
	if out, errs, code := second.Shoal("ring", "claim", "--yes"); code != 1 || !strings.Contains(errs, "read-only file system") || !strings.Contains(errs, "ring claim --print") {
		t.Errorf("ring claim where it may not write: %d %s%s", code, out, errs)
	}
	runsNothing := func(n *Node) {
		t.Helper()
		time.Sleep(time.Second)
		if s := n.Status(); len(s.Pods) != 0 || s.Environments[0].Commit != "" {
			t.Fatalf("it runs %v", s.Pods)
		}
	}
	runsNothing(second)
	if now := f.git("ls-remote", "origin"); now != at {
		t.Errorf("refs of the forge:\n%swere\n%s", now, at)
	}
	second.must("mount", "-t", "tmpfs", "none", f.dir) // the forge is gone, and the agent starts anew
	second.Stop()
	second.Start()
	second.says("source cannot be read", "status")
	second.says("is claimed by ring "+ring[:8], "status")
	runsNothing(second)
	second.must("umount", f.dir)
	second.Eventually(30*time.Second, func() error {
		if s := second.Status(); s.Source.Stale != "" {
			return fmt.Errorf("the forge is not back: %s", s.Source.Stale)
		}
		return nil
	})
	runsNothing(second)
	if said := strings.Count(second.output.String(), "this ring activates nothing"); said != 2 {
		t.Errorf("the log says so %d times, once for each agent is wanted", said)
	}

	commands, errs, code := second.Shoal("ring", "claim", "--print")
	if code != 0 {
		t.Fatalf("ring claim --print: %s", errs)
	}
	script := exec.Command("sh", "-ec", commands)
	script.Dir = f.Dir
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	second.greets("one")
	first.says(held+second.Status().Ring[:8], "ring", "status")
	f.greet("two")
	second.greets("two")
	if err := first.answers(page+"/env", "GREETING=one"); err != nil {
		t.Errorf("what ran on the first ring: %v", err)
	}
	first.says("nothing newer comes here: the repository is claimed by ring "+second.Status().Ring[:8], "why", "deploy/web")

	if out, errs, code := first.Shoal("ring", "claim", "--yes"); code != 0 || !strings.Contains(out, "is claimed for this ring, "+ring[:8]) {
		t.Fatalf("taken back: %d %s%s", code, out, errs)
	}
	first.greets("two")
	second.says("is claimed by ring "+ring[:8], "status")
	f.greet("three")
	first.greets("three")
	if err := second.answers(page+"/env", "GREETING=two"); err != nil {
		t.Errorf("what ran on the second ring: %v", err)
	}
	first.must("git", "--git-dir", f.dir, "update-ref", "-d", source.ClaimRef) // put back from a copy without it
	first.Eventually(30*time.Second, func() error {
		if f.claim() != ring {
			return fmt.Errorf("the forge names ring %q", f.claim())
		}
		return nil
	})
	f.greet("four")
	first.greets("four")
	if err := second.answers(page+"/env", "GREETING=two"); err != nil {
		t.Errorf("what ran on the second ring: %v", err)
	}
	f.git("fsck", "--strict")
	first.must("git", "--git-dir", f.dir, "fsck", "--strict")

	fresh := newForge(first, oneWeb) // nobody has claimed it, and this ring cannot
	third.Args = fresh.flags()
	third.must("mount", "--bind", fresh.dir, fresh.dir)
	third.must("mount", "-o", "remount,bind,ro", fresh.dir)
	third.Start()
	third.Image("probe:v1")
	fresh.Push("one")
	third.greets("one")
	third.says("warning: the repository could not be claimed for this ring", "status")
	third.says("read-only file system", "ring", "status")
	if said := strings.Count(third.output.String(), "the repository is not claimed"); said != 1 {
		t.Errorf("the log says so %d times", said)
	}
}

// onForge is a ring of three that follows a forge, and runs what is there.
func onForge(t *testing.T) (*ring, *forge) {
	t.Helper()
	r := newRing(t, 3)
	first := r.nodes[0]
	f := newForge(first, replicated)
	for _, n := range r.nodes {
		n.Args = append(n.Args, f.flags()...)
	}
	r.start()
	first.Image("probe:v1")
	f.Push("one")
	for _, n := range r.nodes {
		n.greets("one")
	}
	return r, f
}

// A ring of three whose repository another takes over: none of its nodes leads it to activate anything, whoever leads, with the
// forge gone and after restarts; by the word of a node that follows it goes on.
func TestFeature_R2_HeldRingOfThree(t *testing.T) {
	r, f := onForge(t)
	first := r.nodes[0]
	ring := first.Status().Ring
	if f.claim() != ring || strings.Count(f.git("ls-remote", "origin", source.ClaimRef), "\n") != 1 {
		t.Fatalf("the forge names ring %q", f.claim())
	}
	other := strings.Repeat("c", 32)
	id := strings.TrimSpace(f.git("commit-tree", "-m", source.ClaimSubject(other), "-m", source.ClaimTrailer(other), string(source.EmptyTree)))
	f.git("push", "-q", "--force", "origin", id+":"+source.ClaimRef)
	f.greet("two")
	for _, n := range r.nodes {
		n.says("is claimed by ring cccccccc (by Ann Author, since ", "status")
	}
	stays := func(what string) {
		t.Helper()
		time.Sleep(time.Second)
		for _, n := range r.nodes {
			n.Eventually(30*time.Second, func() error { return n.answers(page+"/env", "GREETING=") })
			if err := n.answers(page+"/env", "GREETING=one"); err != nil {
				t.Fatalf("%s: %v\n%s", what, err, n.describe())
			}
		}
	}
	stays("another has it")
	leader, rest := r.around(r.leader())
	leader.Stop()
	rest[0].Eventually(30*time.Second, func() error {
		name, err := rest[0].leads()
		if err == nil && name == leader.name {
			err = fmt.Errorf("%s leads", name)
		}
		return err
	})
	stays("another node leads")
	leader.Start()
	for _, n := range r.nodes {
		n.must("mount", "-t", "tmpfs", "none", f.dir)
	}
	for _, n := range r.nodes { // all at once: what each of them knows is from its disk
		n.Stop()
	}
	for _, n := range r.nodes {
		n.Start()
	}
	first.Eventually(60*time.Second, func() error { return r.whole(3) })
	stays("all were restarted without the forge")
	for _, n := range r.nodes {
		n.must("umount", f.dir)
	}
	_, rest = r.around(r.leader())
	if _, err := rest[0].Client().Claim(context.Background()); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := rest[0].Shoal("ring", "claim", "--yes"); code != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	for _, n := range r.nodes {
		n.greets("two")
		n.says("is claimed for this ring, "+ring[:8], "ring", "status")
	}
}
