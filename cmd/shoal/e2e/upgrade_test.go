//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Every agent is restarted, one after the other, under constant requests to each node: none fails, and no container is
// started again.
func TestFeature_R4_RollingRestart(t *testing.T) {
	newRing(t, 3).start().undisturbed(t, func(n *Node) {})
}

// Every agent is exchanged for one of the next engine version, one after the other, as in a rolling restart. The ring
// goes to the new version once all nodes know it, and not before; then the old binary says that it is too old, and its
// pods go on.
func TestFeature_R4_Upgrade(t *testing.T) {
	next := nextBinary(t)
	r := newRing(t, 3).start()
	before := r.nodes[0].engine()
	left := len(r.nodes)
	r.undisturbed(t, func(n *Node) {
		_, others := r.around(n.name)
		if now := others[0].engine(); now != before {
			t.Errorf("engine version %d while %d nodes knew only %d", now, left, before)
		}
		n.binary = next
		left--
	})
	for _, n := range r.nodes {
		n.Eventually(20*time.Second, func() error {
			if now := n.engine(); now != before+1 {
				return fmt.Errorf("engine version %d, want %d", now, before+1)
			}
			return nil
		})
	}
	last := r.nodes[2]
	last.Stop()
	last.binary = ""
	last.StartWithoutWaiting()
	last.Eventually(20*time.Second, func() error {
		if want := fmt.Sprintf("engine version %d, this binary knows %d", before+1, before); !strings.Contains(last.output.String(), want) {
			return fmt.Errorf("the old binary does not say %q", want)
		}
		return nil
	})
	if err := last.answers(page+"/env", "GREETING=one"); err != nil {
		t.Errorf("beside the binary that is too old: %v", err)
	}
	last.Kill()
	last.binary = next
	last.Start()
	last.Eventually(30*time.Second, func() error { return r.whole(3) })
}

// nextBinary builds shoal as it would be after a change of the engine's rules.
func nextBinary(t testing.TB) string { return tagged(t, "shoal_next") }

var binaries = map[string]string{} // of shoal that this run has built, by tag

// tagged builds shoal with a build tag, once a run.
func tagged(t testing.TB, tag string) string {
	t.Helper()
	if path, ok := binaries[tag]; ok {
		return path
	}
	dir, err := os.MkdirTemp("", "sh-e2e-shoal-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "shoal")
	binaries[tag] = path
	cmd := exec.Command("go", "build", "-tags", tag, "-ldflags", "-s -w", "-o", path, "github.com/shoal-dev/shoal/cmd/shoal")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if out, err := cmd.CombinedOutput(); err != nil {
		delete(binaries, tag)
		_ = os.RemoveAll(dir)
		t.Fatalf("build with tag %s: %v\n%s", tag, err, out)
	}
	return path
}

// undisturbed restarts all agents, one after the other, after change of each, while three pods serve requests to every node.
func (r *ring) undisturbed(t *testing.T, change func(n *Node)) {
	t.Helper()
	first := r.nodes[0]
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": replicated("one")}).Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	var loads []*load
	for _, n := range r.nodes {
		n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
		loads = append(loads, n.load(page+"/readyz", 4), n.load("http://"+n.address+":30080/readyz", 4)) // the pod here; those of all nodes
	}
	before := r.processes("serve")
	for _, n := range r.nodes {
		n.Stop()
		change(n)
		n.Start()
		n.Eventually(30*time.Second, func() error { return r.whole(len(r.nodes)) })
	}
	for _, l := range loads {
		l.end(t)
	}
	if after := r.processes("serve"); !slices.Equal(before, after) || len(before) != 3 {
		t.Errorf("processes before: %v, after: %v", before, after)
	}
}

// processes are the pids of the containers' processes with such an argument, on all machines.
func (r *ring) processes(arg string) (pids []int) {
	r.t.Helper()
	for _, n := range r.nodes {
		n.mark = n.instance()
		pids = append(pids, n.running(arg)...)
	}
	return pids
}

// running are the pids of the containers' processes with such an argument. The agent need not answer, if mark is set.
func (n *Node) running(arg string) (pids []int) {
	n.t.Helper()
	for _, dir := range n.runningOn(n.mark) {
		if cmdline, _ := os.ReadFile(dir + "/cmdline"); slices.Contains(strings.Split(string(cmdline), "\x00"), arg) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}
