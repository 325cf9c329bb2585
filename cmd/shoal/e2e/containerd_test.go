//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// foreignContainerd is a containerd on the node that is not Shoal's.
type foreignContainerd struct {
	n            *Node
	binary, dir  string
	socket, root string
	cmd          *exec.Cmd
}

// Containerd starts a containerd of somebody else's on the node, until the test ends.
func (n *Node) Containerd() *foreignContainerd {
	n.t.Helper()
	dir, err := os.MkdirTemp("/run", "sh-e2e-ctr-")
	if err != nil {
		n.t.Fatal(err)
	}
	c := &foreignContainerd{n: n, dir: dir, binary: filepath.Join(dir, "containerd"), socket: filepath.Join(dir, "sock"), root: filepath.Join(dir, "root")}
	n.t.Cleanup(func() {
		c.kill()
		if err := os.RemoveAll(dir); err != nil {
			n.t.Errorf("left behind: %v", err)
		}
	})
	build := exec.Command("go", "build", "-o", c.binary, ".")
	build.Dir = "../../../tools/floor"
	if out, err := build.CombinedOutput(); err != nil {
		n.t.Fatalf("build a containerd: %v\n%s", err, out)
	}
	c.start()
	return c
}

func (c *foreignContainerd) start() {
	c.n.t.Helper()
	c.cmd = c.n.command(context.Background(), c.binary, c.root, filepath.Join(c.dir, "state"), c.socket)
	c.cmd.Stdout, c.cmd.Stderr = c.n.output, c.n.output
	if err := c.cmd.Start(); err != nil {
		c.n.t.Fatal(err)
	}
	c.n.Eventually(soon, func() error { _, err := c.namespaces(); return err })
}

func (c *foreignContainerd) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

// ask calls it with a namespace of its.
func (c *foreignContainerd) ask(namespace string, f func(context.Context, *containerd.Client) error) error {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), namespace), 10*time.Second)
	defer cancel()
	client, err := containerd.New(c.socket, containerd.WithTimeout(time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	return f(ctx, client)
}

func (c *foreignContainerd) namespaces() (names []string, err error) {
	err = c.ask("default", func(ctx context.Context, client *containerd.Client) (err error) {
		names, err = client.NamespaceService().List(ctx)
		return err
	})
	return names, err
}

// images are the names of a namespace's images.
func (c *foreignContainerd) images(namespace string) string {
	c.n.t.Helper()
	var names []string
	err := c.ask(namespace, func(ctx context.Context, client *containerd.Client) error {
		all, err := client.ImageService().List(ctx)
		for _, image := range all {
			names = append(names, image.Name)
		}
		return err
	})
	if err != nil {
		c.n.t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// A node can use a containerd that is there: its images lie in a namespace of their own there, its pods outlive it, and
// a reset takes out what is ours and nothing else.
func TestContainerdAddress(t *testing.T) {
	n := NewNode(t)
	foreign := n.Containerd()
	err := foreign.ask("theirs", func(ctx context.Context, client *containerd.Client) error {
		return client.NamespaceService().Create(ctx, "theirs", nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Args = []string{"--containerd-address", foreign.socket}
	n.Start()
	if pid := n.containerd(); pid != 0 {
		t.Errorf("it started a containerd of its own: %d", pid)
	}
	ours := "shoal-" + n.instance()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.cue": webApp("probe:v1", "one")})
	repo.Push("one")
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=one") })
	if names := foreign.images(ours); !strings.Contains(names, "shoal.local/probe:v1") {
		t.Errorf("its images: %s", names)
	}

	l := n.load(page+"/", 2)
	foreign.kill()
	time.Sleep(time.Second)
	foreign.start()
	l.end(t)
	n.Image("probe:v2") // by a connection that was made again
	repo.Write("apps/web/web.cue", webApp("probe:v2", "two"))
	repo.Push("two")
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=two") })
	n.Eventually(soon, func() error { return n.answers(page+"/", "probe v2") })
	n.Kill()
	n.Start()
	if s := n.Status(); len(s.Pods) == 0 || s.Pods[0].Restarts != 0 {
		t.Errorf("after a restart of the agent: %+v", s.Pods)
	}

	instance := n.instance()
	n.Stop()
	_, stderr, code := n.Shoal("reset", "--yes", "--data-dir", n.Data, "--run-dir", n.Run, "--log-dir", n.Logs, "--containerd-address", foreign.socket)
	if code != 0 {
		t.Fatalf("reset: %s", stderr)
	}
	names, err := foreign.namespaces()
	if err != nil || slices.Contains(names, ours) || !slices.Contains(names, "theirs") {
		t.Errorf("namespaces after a reset: %v, %v", names, err)
	}
	left := slices.DeleteFunc(n.left(instance), func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("/proc/%d ", foreign.cmd.Process.Pid)) })
	if len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
