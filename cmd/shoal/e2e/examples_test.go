//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

// Example makes a clone with the files of one of the examples.
func (n *Node) Example(name string) *Repository {
	n.t.Helper()
	r := n.Repository(nil)
	r.CopyExample(name, ".")
	return r
}

// CopyExample adds the files below a directory of an example to the work tree.
func (r *Repository) CopyExample(name, dir string) {
	r.n.t.Helper()
	example := os.DirFS("../../../examples/" + name)
	err := fs.WalkDir(example, dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(example, path)
		if err == nil {
			r.Write(path, string(text))
		}
		return err
	})
	if err != nil {
		r.n.t.Fatal(err)
	}
}

// echoes asks the echo example until each of its pods has answered, through the proxy before it.
func (n *Node) echoes(url string, pods int) error {
	seen := map[string]bool{}
	for range 20 * pods {
		text, err := n.Get(url + "/some/path?x=y")
		if err != nil {
			return err
		}
		var got struct {
			Pod, Path, Query string
			Headers          map[string][]string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			return fmt.Errorf("%s answers %q: %w", url, text, err)
		}
		if got.Path != "/some/path" || got.Query != "x=y" || len(got.Headers["X-Forwarded-For"]) != 1 {
			return fmt.Errorf("%s answers %q", url, text)
		}
		if seen[got.Pod] = true; len(seen) == pods {
			return nil
		}
	}
	return fmt.Errorf("%d pods answer, want %d", len(seen), pods)
}

// reported waits for a run of the guestbook's report and reads what it printed.
func (n *Node) reported() error {
	err := errors.New("no report was completed")
	for _, p := range n.Status().Pods {
		if p.Namespace == "dev" && strings.HasPrefix(p.Name, "report-") && p.Status == "Completed" {
			stdout, stderr, _ := n.Shoal("logs", "-n", "dev", p.Name)
			var line struct{ Today, Total int }
			if json.Unmarshal([]byte(stdout), &line) == nil && line.Total >= 3 && line.Today <= line.Total {
				return nil
			}
			err = fmt.Errorf("a report says %q %q", stdout, stderr) // one may have been written before the first visit
		}
	}
	return err
}

// Each example runs in each of its environments, beside each other on one node, and answers.
func TestExamplesRun(t *testing.T) {
	guestbook := []string{"guestbook:v1", "redis:v1", "report:v1"}
	echo := []string{"nginx:v1", "echo:v1"}
	for _, tt := range []struct {
		name       string
		images     []string
		production string // its branch
		dev, prod  func(n *Node) error
	}{
		{
			"guestbook", guestbook, "env/production",
			func(n *Node) error { return n.counts("http://127.0.0.1:30080") },
			func(n *Node) error { return n.counts("http://127.0.0.1:30180") },
		},
		{
			"guestbook-objects", guestbook, "env/production",
			func(n *Node) error { return n.counts("http://127.0.0.1:30080") },
			func(n *Node) error { return n.counts("http://127.0.0.1:30180") },
		},
		{
			"echo", echo, "env/production",
			func(n *Node) error { return n.echoes("http://127.0.0.1:30081", 3) },
			func(n *Node) error { return n.echoes("http://127.0.0.1:30181", 5) },
		},
		{"echo-yaml", echo, "", func(n *Node) error { return n.echoes("http://127.0.0.1:30081", 3) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := NewNode(t).Start()
			for _, image := range tt.images {
				n.Image(image)
			}
			repo := n.Example(tt.name)
			repo.Push("dev")
			n.Eventually(soon, func() error { return tt.dev(n) })
			if tt.prod != nil {
				repo.git("push", "origin", "HEAD:"+tt.production)
				n.Eventually(soon, func() error { return tt.prod(n) })
				if err := tt.dev(n); err != nil { // still, and apart
					t.Error(err)
				}
			}
			if tt.name == "guestbook" {
				n.Eventually(90*time.Second, n.reported)
			}
			for _, p := range n.Status().Pods {
				if p.Restarts != 0 || p.Message != "" {
					t.Errorf("%s/%s: %d restarts, %q", p.Namespace, p.Name, p.Restarts, p.Message)
				}
			}
		})
	}
}
