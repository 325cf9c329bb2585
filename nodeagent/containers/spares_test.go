package containers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waiting gives the pids of the spare shims, once there are as many as wanted.
func (n *node) waiting(want int) []int {
	n.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var pids []int
		n.spares.mu.Lock()
		for _, s := range n.spares.ready {
			pids = append(pids, s.proc.PID)
		}
		n.spares.mu.Unlock()
		if len(pids) == want {
			return pids
		}
		if time.Now().After(end) {
			n.t.Fatalf("%d spares wait, want %d", len(pids), want)
		}
	}
}

func (n *node) spareDirs() int {
	n.t.Helper()
	entries, err := os.ReadDir(filepath.Join(n.o.RunDir, "pods"))
	if err != nil {
		n.t.Fatal(err)
	}
	count := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), sparePrefix) {
			count++
		}
	}
	return count
}

// TestSpares shows that a pod takes a shim that waits, that others take its place, and that none is left behind.
func TestSpares(t *testing.T) {
	n := newNode(t)
	first := n.waiting(spareShims)
	p := n.run(n.podOf("sleep", "1000"))
	h := n.pod(p.ID)
	if pid := h.shim.PID; pid != first[len(first)-1] {
		t.Errorf("the pod has shim %d, waiting were %d", pid, first)
	}
	if have, err := n.List(ctx(t)); err != nil || len(have) != 1 {
		t.Errorf("%d pods, %v: want the one", len(have), err)
	}

	// A spare that died is not given to a pod.
	n.waiting(spareShims)
	n.spares.mu.Lock()
	dead := n.spares.ready[spareShims-1].proc
	n.spares.mu.Unlock()
	if err := unix.Kill(dead.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-dead.Exited
	q := n.run(n.podOf("sleep", "1000"))
	if c := n.see(q, "main"); c.State != "running" {
		t.Errorf("got %+v", c)
	}

	// An agent that is killed leaves its spares to the next one, which ends them; the pods' shims go on.
	third := n.waiting(spareShims)
	shim := n.pod(q.ID).shim.PID
	n.spares.mu.Lock()
	n.spares.ready = nil // as if killed: Close finds nothing to end
	n.spares.mu.Unlock()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.open()
	for _, pid := range third {
		if err := unix.Kill(pid, 0); err == nil {
			t.Errorf("spare %d of before still runs", pid)
		}
	}
	if got := n.pod(q.ID).shim.PID; got != shim {
		t.Errorf("shim %d, before %d", got, shim)
	}

	last := n.waiting(spareShims)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range last {
		if err := unix.Kill(pid, 0); err == nil {
			t.Errorf("spare %d runs on without an agent", pid)
		}
	}
	if left := n.spareDirs(); left != 0 {
		t.Errorf("%d directories are left", left)
	}
	n.open()
}
