//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// A preview stays awake as long as it is asked for at any node, and sleeps when it is not. A request to its node port at any node wakes it and is
// answered, also when many come at once, by way of 127.0.0.1, and after the agent was killed. When it is gone nobody listens.
func TestFeature_V5_AwakeOnRequest(t *testing.T) {
	r := newRing(t, 2).start()
	first, second := r.nodes[0], r.nodes[1]
	first.Image("probe:v1")
	repo := first.Repository(previewFiles("one", `{from: "preview/*", idle: "6s"}`))
	repo.Push("one")
	repo.git("checkout", "-q", "-b", "preview/a")
	repo.greet("asleep")
	repo.commit("branch")
	repo.git("push", "-q", "origin", "HEAD:preview/a")
	sum := sha256.Sum256([]byte("preview/a"))
	name := fmt.Sprintf("br-preview-a-%x", sum[:5])
	url := first.previewGreets(50*time.Second, name, "asleep")
	port := url[strings.LastIndex(url, ":"):]
	urls := map[*Node]string{first: url, second: "http://" + second.address + port}

	pods := func() (names string) {
		for _, p := range first.Status().Pods {
			if p.Environment == name {
				names += p.Name + " "
			}
		}
		return names
	}
	before := pods()
	for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(time.Second) {
		for _, n := range r.nodes[1:] { // the one that does not lead, mostly
			if err := n.answers(urls[n]+"/env", "GREETING=asleep"); err != nil {
				t.Fatalf("after %s under requests: %v", time.Since(begun).Round(time.Second), err)
			}
		}
		if p, err := first.preview(name); err != nil || p.Asleep {
			t.Fatalf("after %s under requests: asleep %t, %v", time.Since(begun).Round(time.Second), p.Asleep, err)
		}
	}
	if now := pods(); now != before || now == "" {
		t.Fatalf("under requests it slept: its pods were %q, and are %q", before, now)
	}

	asleep := func() {
		t.Helper()
		begun := time.Now()
		for _, n := range r.nodes {
			n.Eventually(60*time.Second, func() error {
				p, err := n.preview(name)
				if err != nil {
					return err
				}
				if !p.Asleep {
					return fmt.Errorf("%s is not asleep", name)
				}
				for _, p := range n.Status().Pods {
					if p.Environment == name {
						return fmt.Errorf("pod %s is there still", p.Name)
					}
				}
				if out := n.must("ss", "-Hltn"); !strings.Contains(out, port+" ") {
					return fmt.Errorf("nobody listens on %s:\n%s", port, out)
				}
				return nil
			})
		}
		t.Logf("it sleeps %s after the last request", time.Since(begun).Round(100*time.Millisecond))
	}
	wakes := func(what, url string, from *Node) {
		t.Helper()
		begun := time.Now()
		if err := from.answers(url+"/env", "GREETING=asleep"); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, from.describe())
		}
		t.Logf("%s is answered after %s", what, time.Since(begun).Round(time.Millisecond))
	}
	for _, n := range r.nodes {
		asleep()
		wakes("a request at "+n.name, urls[n], first)
	}
	asleep()
	wakes("a request at 127.0.0.1", "http://127.0.0.1"+port, second)

	asleep()
	begun := time.Now()
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			if err := first.answers(urls[r.nodes[i%2]]+"/env", "GREETING=asleep"); err != nil {
				t.Errorf("one of 40 at once: %v", err)
			}
		})
	}
	all.Wait()
	t.Logf("40 at once are answered after %s", time.Since(begun).Round(time.Millisecond))
	if n := strings.Count(first.output.String()+second.output.String(), "a preview was asked for and wakes"); n < 4 || n > 8 {
		t.Errorf("the ring was asked %d times for 5 sleeps", n)
	}

	asleep()
	second.Kill()
	second.Start()
	first.Eventually(60*time.Second, func() error { return r.whole(2) })
	asleep()
	wakes("a request at a node whose agent was killed", urls[second], first)

	asleep()
	repo.git("push", "-q", "origin", ":preview/a")
	for _, n := range r.nodes {
		n.Eventually(soon, func() error {
			if out, errs, code := n.Shoal("previews", "receipt", name); code != 0 {
				return fmt.Errorf("receipt: %s%s", out, errs)
			}
			if out := n.must("ss", "-Hltn"); strings.Contains(out, port+" ") {
				return fmt.Errorf("somebody listens on %s:\n%s", port, out)
			}
			return nil
		})
	}
}
