//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answers tells whether a page has what is wanted.
func (n *Node) answers(url, want string) error {
	got, err := n.Get(url)
	if err != nil {
		return err
	}
	if !strings.Contains(got, want) {
		return fmt.Errorf("%s answers %q, want %q", url, got, want)
	}
	return nil
}

const (
	page = "http://127.0.0.1:30080"
	soon = 30 * time.Second
)

// timeLine looks at what a push said: each step of its pods in order, with the time since the push came in.
func timeLine(t *testing.T, said string) {
	t.Helper()
	steps := regexp.MustCompile(`(?s)rendered 1 apps, \d+ objects in \d+ ms.*activated after (\d+) ms.* created after (\d+) ms.* process started after (\d+) ms.*-\w+ ready after (\d+) ms.*all ready after (\d+) ms`)
	m := steps.FindStringSubmatch(said)
	if m == nil {
		t.Errorf("the push does not tell each step:\n%s", said)
		return
	}
	last := 0
	for _, text := range m[1:] {
		now, err := strconv.Atoi(text)
		if err != nil || now < last {
			t.Errorf("time goes backwards at %s ms:\n%s", text, said)
		}
		last = now
	}
}

// A push is rendered, activated, started, ready and reachable; the pusher sees each step. A changed value
// replaces the pod, and so does a changed image.
func TestFeature_G1_PushRuns(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")})
	out := repo.Push("first")
	timeLine(t, out)
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=one") })
	n.Eventually(soon, func() error { return n.answers("http://192.168.77.1:30080/env", "GREETING=one") })

	repo.Write("apps/web/web.cue", webApp("probe:v1", "two"))
	timeLine(t, repo.Push("second"))
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=two") })
	n.Eventually(soon, func() error {
		if s := n.Status(); len(s.Pods) != 1 {
			return fmt.Errorf("%d pods", len(s.Pods))
		}
		return nil
	})
	if s := n.Status(); s.Environments[0].Commit != repo.Head() || s.Environments[0].Subject != "second" {
		t.Errorf("status names another commit: %+v", s.Environments[0])
	}

	n.Image("probe:v2")
	repo.Write("apps/web/web.cue", webApp("probe:v2", "two"))
	timeLine(t, repo.Push("another image"))
	n.Eventually(soon, func() error { return n.answers(page+"/", "probe v2") })

	repo.Write("apps/web/web.cue", webApp("probe:v3", "two"))
	repo.pushInBackground("an image that comes later")
	n.Image("probe:v3")
	n.Eventually(60*time.Second, func() error { return n.answers(page+"/", "probe v3") })
	if out := repo.Push("nothing new"); !strings.Contains(out, "nothing differs") {
		t.Errorf("a push of nothing new says:\n%s", out)
	}
	n.Eventually(soon, func() error { return n.podsReady(1) })
	if s := n.Status(); s.Pods[0].Restarts != 0 {
		t.Errorf("the pod was touched: %+v", s.Pods)
	}
}

// A commit that is wrong is held, its error is precise, the old version serves on, and the next good commit goes
// through at once.
func TestFeature_G8_BadCommitIsHeld(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "good")})
	repo.Push("good")
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=good") })

	good := webApp("probe:v1", "good")
	for _, tt := range []struct{ name, text, want string }{
		{"a CUE error", strings.Replace(good, `ports: http: 8080`, `ports: http: "eighty"`, 1), "apps/web/web.cue:"},
		{"a missing ConfigMap", strings.Replace(good, `env: GREETING`, "envFromConfig: LEVEL: {name: \"levels\", key: \"level\"}\n\tenv: GREETING", 1), `levels`},
		{"a field that does not exist", strings.Replace(good, `ports: http`, "portz: http", 1), "portz"},
	} {
		repo.Write("apps/web/web.cue", tt.text)
		if out := repo.Push(tt.name); !strings.Contains(out, tt.want) {
			t.Errorf("%s: the push does not say %q:\n%s", tt.name, tt.want, out)
		}
		if err := n.answers(page+"/env", "GREETING=good"); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if stdout, _, _ := n.Shoal("status"); !strings.Contains(stdout, tt.want) {
			t.Errorf("%s: status does not say %q:\n%s", tt.name, tt.want, stdout)
		}
	}
	// What fails only when it runs: the old pod serves until the new one is ready.
	for _, tt := range []struct{ name, text, want string }{
		{"an image that does not exist", strings.Replace(good, "probe:v1", "nothing:v9", 1), "nothing:v9"},
		{"a pod that is never ready", strings.Replace(good, `["serve"]`, `["serve", "-ready=false"]`, 1), "0/1     Running"},
		{"a crash loop", strings.Replace(good, `["serve"]`, `["exit", "3"]`, 1), "3"},
	} {
		repo.Write("apps/web/web.cue", tt.text)
		repo.pushInBackground(tt.name)
		n.Eventually(soon, func() error {
			stdout, _, _ := n.Shoal("status")
			if !strings.Contains(stdout, tt.want) {
				return fmt.Errorf("%s: status does not say %q:\n%s", tt.name, tt.want, stdout)
			}
			return nil
		})
		if err := n.answers(page+"/env", "GREETING=good"); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	repo.Write("apps/web/web.cue", webApp("probe:v1", "mended"))
	repo.Push("mended")
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=mended") })
}
