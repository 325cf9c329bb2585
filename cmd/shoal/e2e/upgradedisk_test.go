//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// installed is what install puts below a root.
var installed = []string{"opt/bin/shoal", "opt/lib/shoal/proven", "opt/lib/shoal/trial.json", "etc/systemd/system/shoal.service", "etc/systemd/system/shoal-shutdown.service"}

// installs runs `shoal install` of a binary below a root, and kills it after a while if that is not 0.
func installs(t *testing.T, bin, root, flag string, kill time.Duration) (said string, err error) {
	t.Helper()
	cmd := exec.Command(bin, "install", "--root", root, "--prefix", "/opt", "--start=false", "--", "--node-name", flag)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if kill != 0 {
		time.Sleep(kill)
		_ = cmd.Process.Kill()
	}
	err = cmd.Wait()
	return out.String(), err
}

// wholeFiles checks that each file below a root is what one of the installs has written, whole, and tells what is there beside.
func wholeFiles(t *testing.T, root string, binaries [][]byte) (beside []string) {
	t.Helper()
	known := map[string]bool{}
	for _, name := range installed {
		known[name] = true
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		switch filepath.Ext(name) {
		case ".service":
			if !bytes.HasSuffix(b, []byte("[Install]\nWantedBy=multi-user.target\n")) || !bytes.HasPrefix(b, []byte("[Unit]\n")) {
				t.Errorf("%s is not whole:\n%s", name, b)
			}
		case ".json":
			if !bytes.HasPrefix(b, []byte("{")) || !bytes.HasSuffix(b, []byte("}\n")) {
				t.Errorf("%s is not whole: %s", name, b)
			}
		default:
			if !bytes.Equal(b, binaries[0]) && !bytes.Equal(b, binaries[1]) {
				t.Errorf("%s is no binary that was installed: %d bytes", name, len(b))
			}
		}
	}
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); err == nil && !d.IsDir() && !known[rel] {
			beside = append(beside, rel)
		}
		return nil
	})
	return beside
}

// The exchange of the binary is killed at any moment, and has no room: each file is as it was or as it is to be, and the next
// one takes it to its end and leaves nothing beside.
func TestFault_U5_InterruptedInstall(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	old := binary(t)
	content, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	newer := append(bytes.Clone(content), "newer"...)
	binaries := [][]byte{content, newer}
	next := filepath.Join(t.TempDir(), "shoal")
	if err := os.WriteFile(next, newer, 0o755); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", root).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	if said, err := installs(t, old, root, "old", 0); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	begun := time.Now()
	if said, err := installs(t, next, root, "new", 0); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	takes := time.Since(begun)
	parts := 0
	for i := range rounds(30, 100) {
		said, err := installs(t, []string{old, next}[i%2], root, fmt.Sprint("round", i), 1+time.Duration(rng.Int64N(int64(takes*5/4))))
		if beside := wholeFiles(t, root, binaries); len(beside) > 0 {
			parts++
		}
		if t.Failed() {
			t.Fatalf("round %d: %v: %s", i, err, said)
		}
	}
	t.Logf("an install takes %s; %d were killed while a file was written", takes.Round(time.Millisecond), parts)

	// A disk without room: for the binary, and then for not even a unit.
	filler := filepath.Join(root, "filler")
	room := func(mib int) {
		t.Helper()
		_, _ = exec.Command("dd", "if=/dev/zero", "of="+filler, "bs=64K").CombinedOutput() // until it is full
		if err := os.Truncate(filler, must(os.Stat(filler)).Size()-int64(mib)<<20); err != nil {
			t.Fatal(err)
		}
	}
	if said, err := installs(t, old, root, "old", 0); err != nil { // what was killed is taken to its end
		t.Fatalf("%v: %s", err, said)
	}
	if beside := wholeFiles(t, root, binaries); len(beside) > 0 {
		t.Errorf("left by what was killed: %q", beside)
	}
	for _, c := range []struct {
		room int
		bin  string
	}{{30, next}, {0, filepath.Join(root, "opt/bin/shoal")}} {
		room(c.room)
		said, err := installs(t, c.bin, root, "new", 0)
		if err == nil || !strings.Contains(said, "no space left on device") {
			t.Errorf("with room for %d MiB: %v: %s", c.room, err, said)
		}
		if beside := wholeFiles(t, root, binaries); len(beside) != 1 || beside[0] != "filler" {
			t.Errorf("with room for %d MiB: left beside: %q", c.room, beside)
		}
		if unit, _ := os.ReadFile(filepath.Join(root, installed[3])); !bytes.Contains(unit, []byte("--node-name old")) {
			t.Errorf("with room for %d MiB the unit is:\n%s", c.room, unit)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
	if said, err := installs(t, next, root, "new", 0); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	unit, _ := os.ReadFile(filepath.Join(root, installed[3]))
	if b, _ := os.ReadFile(filepath.Join(root, installed[0])); !bytes.Equal(b, newer) || !bytes.Contains(unit, []byte("--node-name new")) {
		t.Errorf("with room: a binary of %d bytes, and the unit\n%s", len(b), unit)
	}
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// A node is upgraded while its disk is full to the last byte: the new agent says so and ends, or goes on, what runs there goes on, and
// nothing of what was there is lost. Killed now and then while there is no room, and while it takes over with room again, it comes
// back as the node that it was; the ring goes over, by entries that it reads from the disk of the older one.
func TestFault_U5_UpgradeOnAFullDisk(t *testing.T) {
	next := nextBinary(t)
	r := newRing(t, 3).smallDisks().start()
	first, n := r.nodes[0], r.nodes[2]
	before := first.engine()
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": replicated("one")}).Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
	pods, id := len(r.processes("serve")), n.Status().NodeID
	filler := n.fill()
	n.Stop()
	n.binary = next
	for range rounds(3, 6) {
		n.StartWithoutWaiting()
		select {
		case <-n.exited:
			if !strings.Contains(n.output.String(), "no space left on device") {
				t.Error("the agent ended, and does not say why")
			}
		case <-time.After(time.Second):
		}
		n.Kill()
		if err := n.answers(page+"/env", "GREETING=one"); err != nil {
			t.Errorf("beside the full disk: %v", err)
		}
	}
	n.must("rm", filler)
	for _, after := range []time.Duration{30 * time.Millisecond, 120 * time.Millisecond} {
		n.StartWithoutWaiting()
		time.Sleep(after)
		n.Kill()
	}
	n.Start()
	r.settled(3)
	if now := n.Status().NodeID; now != id {
		t.Errorf("the node was %s, and is %s", id, now)
	}
	for _, o := range r.nodes[:2] {
		if now := n.engine(); now != before {
			t.Errorf("engine version %d, and not all are upgraded", now)
		}
		o.Stop()
		o.binary = next
		o.Start()
		o.Eventually(30*time.Second, func() error { return r.whole(3) })
	}
	n.Eventually(20*time.Second, func() error {
		if now := n.engine(); now != before+1 {
			return fmt.Errorf("engine version %d, want %d", now, before+1)
		}
		return nil
	})
	r.settled(pods)
	for _, o := range r.nodes {
		list, err := o.Client().Ring(context.Background(), false)
		if err != nil || len(list.Nodes) != 3 {
			t.Errorf("%s knows %d nodes: %v", o.name, len(list.Nodes), err)
		}
	}
}
