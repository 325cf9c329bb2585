//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// realDisks puts the data of machines that were not started yet on an ext4 of its own each.
func (r *ring) realDisks() *ring {
	r.t.Helper()
	for _, n := range r.nodes {
		file := filepath.Join(r.t.TempDir(), "disk")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			r.t.Fatal(err)
		}
		if err := os.Truncate(file, 2<<30); err != nil {
			r.t.Fatal(err)
		}
		n.must("mkfs.ext4", "-q", "-F", file)
		n.must("mount", "-o", "loop", file, filepath.Dir(n.Data))
	}
	return r
}

// hang has a machine's disk take no write until it is let go.
func (n *Node) hang() (letGo func()) {
	n.t.Helper()
	disk := filepath.Dir(n.Data)
	n.must("fsfreeze", "--freeze", disk)
	held := true
	letGo = func() {
		if held {
			held = false
			n.must("fsfreeze", "--unfreeze", disk)
		}
	}
	n.t.Cleanup(letGo)
	return letGo
}

// The disk of the machine that leads hangs: another leads within seconds, what is asked of the ring meanwhile is done, what
// runs on the machine goes on, and with its disk back it follows.
func TestFault_L6(t *testing.T) {
	r := newRing(t, 3).realDisks().start()
	first := r.nodes[0]
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": replicated("one"), "apps/one/one.cue": beatingApp}).Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 4) })
	w := r.witness("one")
	for range rounds(1, 3) {
		hung, rest := r.around(r.leader())
		letGo := hung.hang()
		begun := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		_, err := rest[0].Client().CreateToken(ctx, time.Hour)
		cancel()
		took := time.Since(begun)
		t.Logf("with the leader's disk hanging an entry took %s", took.Round(time.Millisecond))
		if err != nil || took > 15*time.Second {
			t.Errorf("an entry took %s: %v", took, err)
		}
		if name, err := rest[0].leads(); err != nil || name == hung.name {
			t.Errorf("%s leads: %v", name, err)
		}
		if err := hung.answers(page+"/env", "GREETING=one"); err != nil {
			t.Errorf("beside the disk that hangs: %v", err)
		}
		time.Sleep(time.Until(begun.Add(5 * time.Second)))
		w.look()
		letGo()
		rest[0].Eventually(60*time.Second, func() error {
			if err := r.whole(3); err != nil {
				return err
			}
			for _, n := range rest {
				if err := n.readyOff("", "web-", 3); err != nil {
					return fmt.Errorf("after it: %w", err)
				}
			}
			return nil
		})
	}
	w.alone(t)
}
