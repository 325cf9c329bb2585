package containers

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

// holding are the files of a node that have a text in them, by their path below its directories.
func (n *node) holding(text string) (found []string) {
	n.t.Helper()
	for _, dir := range []string{n.o.RunDir, n.o.DataDir} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // what goes meanwhile is not there
			}
			b, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(b), text) {
				found = append(found, strings.TrimPrefix(strings.TrimPrefix(path, n.o.RunDir), n.o.DataDir))
			}
			return nil
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return found
}

// TestFault_A9_Environments: what a container has in its environment is in one file, in the directory that is never on a disk, as long as the
// instance is kept; also with commands that are run in it.
func TestFault_A9_Environments(t *testing.T) {
	n := newNode(t)
	const value = "swordfish-in-the-environment"
	p := n.podOf("sleep", "1000")
	if _, err := n.CreateSandbox(ctx(t), p); err != nil {
		t.Fatal(err)
	}
	start := func(attempt int) {
		t.Helper()
		l := n.launchOf(p, &p.Spec.Containers[0], attempt)
		l.Env = append(l.Env, "PASSWORD="+value)
		if err := n.Start(ctx(t), l); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, want ...string) {
		t.Helper()
		for i := range want {
			want[i] = "/private/" + string(p.ID) + "/" + want[i]
		}
		if got := n.holding(value); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: it is in %v, want %v", when, got, want)
		}
	}
	start(0)
	expect("started", "main.0.json")
	for range 3 {
		if code, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "exit", "0"}}); err != nil || code != 0 {
			t.Fatal(code, err)
		}
	}
	expect("after commands", "main.0.json")
	if err := n.Stop(ctx(t), p.ID, "main", 0); err != nil {
		t.Fatal(err)
	}
	n.exit(p, "main")
	start(1)
	expect("restarted", "main.0.json", "main.1.json")
	n.Close()
	n.open()
	if err := n.Remove(ctx(t), p.ID, "main", 0); err != nil {
		t.Fatal(err)
	}
	expect("the first instance removed", "main.1.json")
	other := n.podOf("sleep", "1000")
	other.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "b"}}
	n.run(other)
	if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
		t.Fatal(err)
	}
	expect("the pod removed")
	if got := n.holding("A=b"); len(got) > 1 {
		t.Errorf("of the other pod: %v", got)
	}
	if left := names(mustReadDir(t, n.o.Private)); len(left) != 1 || left[0] != string(other.ID) {
		t.Errorf("left are %v", left)
	}
}

// TestPrivateStartsAgain: a start that was cut short, by an agent that kept the file elsewhere, goes through.
func TestPrivateStartsAgain(t *testing.T) {
	n := newNode(t)
	p := n.podOf("sleep", "1000")
	if _, err := n.CreateSandbox(ctx(t), p); err != nil {
		t.Fatal(err)
	}
	in := n.newInstance(n.pod(p.ID), plan.Launch{Pod: p, Container: &p.Spec.Containers[0]}, &image{})
	if err := os.MkdirAll(in.dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(in.dir, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(ctx(t), n.launchOf(p, &p.Spec.Containers[0], 0)); err != nil {
		t.Fatal(err)
	}
}
