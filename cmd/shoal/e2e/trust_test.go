//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// people have keys, by which git signs in a clone.
type people struct {
	*forge
	dir string
}

func (p *people) key(name string) {
	p.t.Helper()
	p.n.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", filepath.Join(p.dir, name))
}

// signers writes who may sign.
func (p *people) signers(names ...string) {
	p.t.Helper()
	var b strings.Builder
	for _, name := range names {
		public, err := os.ReadFile(filepath.Join(p.dir, name) + ".pub")
		if err != nil {
			p.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s namespaces=\"git\" %s", name, public)
	}
	p.Write("keys/signers", b.String())
}

// as has git sign with somebody's key from now on; "" signs nothing.
func (p *people) as(name string) {
	p.git("config", "commit.gpgsign", fmt.Sprint(name != ""))
	p.git("config", "user.signingkey", filepath.Join(p.dir, name))
}

// refused waits until status says why a commit is not accepted, and sees that what ran goes on.
func (p *people) refused(why, runs string) {
	p.t.Helper()
	begun := time.Now()
	p.n.Eventually(soon, func() error {
		if out, _, _ := p.n.Shoal("status"); !strings.Contains(out, why) {
			return fmt.Errorf("status does not say %q:\n%s", why, out)
		}
		return nil
	})
	p.t.Logf("refused %s after the push: %s", time.Since(begun).Round(time.Millisecond), why)
	if err := p.n.answers(page+"/env", "GREETING="+runs); err != nil {
		p.t.Error(err)
	}
}

// back takes the last commits back, on the forge too.
func (p *people) back(count int) {
	p.git("reset", "-q", "--hard", fmt.Sprintf("HEAD~%d", count))
	p.git("push", "-q", "-f", "origin", "HEAD:main")
}

// approvals are the tags in a repository that approve commits.
func approvals(t testing.TB, dir string) string {
	out, err := exec.Command("git", "--git-dir", dir, "for-each-ref", "--format=%(objecttype) %(refname:lstrip=4)", "refs/tags/shoal/approve").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// On a forge: what is not signed is refused, what is goes live, a key that was taken away is good for nothing from the next commit
// on, and an agent that is killed forgets none of it. Approvals come to the ring and go.
func TestFeature_G10_SignedCommits(t *testing.T) {
	n := NewNode(t)
	p := &people{newForge(n, oneWeb), t.TempDir()}
	p.key("ada")
	p.key("bob")
	n.Args = append(n.Args, p.flags()...)
	n.Start()
	n.Image("probe:v1")
	p.git("config", "gpg.format", "ssh")
	p.signers("ada", "bob")
	p.Write("keys/trust.yaml", "require: true\n")
	p.as("")
	p.greet("zero")
	n.Eventually(soon, func() error {
		if out, _, _ := n.Shoal("status"); !strings.Contains(out, "is not trusted (unsigned): is not signed") {
			return fmt.Errorf("status:\n%s", out)
		}
		return nil
	})
	p.as("ada")
	p.greet("one")
	n.greets("one")

	p.as("")
	p.greet("unsigned")
	p.refused("\"unsigned\" by Ann Author <ann@shop.example> is not trusted (unsigned): is not signed", "one")
	n.Kill()
	n.Start()
	p.refused("is not trusted (unsigned): is not signed", "one")
	p.back(1)
	p.as("bob")
	p.greet("two")
	n.greets("two")

	p.as("ada")
	p.signers("ada")
	p.greet("three")
	n.greets("three")
	p.as("bob")
	p.greet("four")
	p.refused("is not trusted (unknown key): signed by key", "three")
	n.Kill()
	n.Start()
	p.refused("is not trusted (unknown key): signed by key", "three")
	p.back(1)
	p.as("ada")
	p.greet("five")
	n.greets("five")

	p.as("ada")
	shoal := func(want string, args ...string) {
		t.Helper()
		if out, errs, code := n.ShoalIn(p.Dir, "", args...); code != 0 || !strings.Contains(out, want) {
			t.Fatalf("shoal %s: %d\n%s%s", strings.Join(args, " "), code, out, errs)
		}
	}
	shoal(`"five" for dev as ada`, "approve", "dev", "--reason", "it answers")
	mirror := filepath.Join(n.Data, "git")
	n.Eventually(soon, func() error {
		if got := approvals(t, mirror); got != "tag dev/"+p.Head()+"/ada" {
			return fmt.Errorf("approvals %q", got)
		}
		return nil
	})
	shoal("withdrew the approval", "approve", "dev", "--withdraw")
	n.Eventually(soon, func() error {
		if got := approvals(t, mirror); got != "" {
			return fmt.Errorf("approvals %q", got)
		}
		return nil
	})

	// The ring's own key, listed, stays the same over a restart.
	line, _, code := n.Shoal("ring", "key")
	if code != 0 || !strings.HasPrefix(line, `ring namespaces="git" ssh-ed25519 `) {
		t.Errorf("ring key: %d %s", code, line)
	}
	n.Kill()
	n.Start()
	if again, _, _ := n.Shoal("ring", "key"); again != line {
		t.Errorf("another key after a restart: %s", again)
	}
	n.greets("five")
}

// On the built-in Git server, the ring of two: who pushes sees why a commit is refused, and an approval is on both nodes.
func TestFeature_G10_BuiltInServer(t *testing.T) {
	r := newRing(t, 2).start()
	n, other := r.nodes[0], r.nodes[1]
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": oneWeb("one")})
	p := &people{&forge{t: t, app: oneWeb, Repository: repo}, t.TempDir()}
	p.key("ada")
	p.signers("ada")
	p.Write("keys/trust.yaml", "require: true\n")
	p.git("config", "gpg.format", "ssh")
	p.as("ada")
	p.Push("one")
	at := "http://" + n.address + ":30080/env" // the pod may be on the other node
	n.Eventually(60*time.Second, func() error { return n.answers(at, "GREETING=one") })
	p.Write("apps/web/web.cue", oneWeb("unsigned"))
	p.as("")
	if said := p.Push("unsigned"); !strings.Contains(said, "is not trusted (unsigned): is not signed") {
		t.Errorf("the pusher sees\n%s", said)
	}
	if err := n.answers(at, "GREETING=one"); err != nil {
		t.Error(err)
	}
	p.as("ada")
	if out, errs, code := n.ShoalIn(p.Dir, "", "approve", "dev", "HEAD~1"); code != 0 {
		t.Fatalf("approve: %d\n%s%s", code, out, errs)
	}
	want := "tag dev/" + strings.TrimSpace(p.git("rev-parse", "HEAD~1")) + "/ada"
	for _, node := range []*Node{n, other} {
		node.Eventually(soon, func() error {
			if got := approvals(t, filepath.Join(node.Data, "git")); got != want {
				return fmt.Errorf("%s: approvals %q, want %q", node.name, got, want)
			}
			return nil
		})
	}
	if out, errs, code := n.ShoalIn(p.Dir, "", "approve", "dev", "HEAD~1", "--withdraw"); code != 0 {
		t.Fatalf("withdraw: %d\n%s%s", code, out, errs)
	}
	for _, node := range []*Node{n, other} {
		node.Eventually(soon, func() error {
			if got := approvals(t, filepath.Join(node.Data, "git")); got != "" {
				return fmt.Errorf("%s: approvals %q", node.name, got)
			}
			return nil
		})
	}
	if a, _, _ := n.Shoal("ring", "key"); a == "" {
		t.Error("no key")
	} else if b, _, _ := other.Shoal("ring", "key"); a != b {
		t.Errorf("another key on another node: %s, %s", a, b)
	}
}
