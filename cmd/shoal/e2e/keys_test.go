//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// keysOf are the keys of each node that answers, as text.
func (r *ring) keysOf(asked *Node) (map[string]string, api.Ring, error) {
	list, err := asked.Client().Ring(context.Background(), true)
	all := map[string]string{}
	for _, n := range list.Nodes {
		if n.Now != nil {
			all[n.Name] = fmt.Sprint(n.Now.Keys.Gossip, n.Now.Keys.Authorities, n.Now.Keys.SignedBy, n.Now.Keys.Exchange)
		}
	}
	return all, list, err
}

// same tells whether all of so many nodes are ready and have the same keys.
func (r *ring) sameKeys(asked *Node, count int) error {
	keys, list, err := r.keysOf(asked)
	if err != nil {
		return err
	}
	kinds := map[string]bool{}
	for _, k := range keys {
		kinds[k] = true
	}
	for _, n := range list.Nodes {
		if n.State != "Ready" && n.State != "Unsteady" { // it came and went
			return fmt.Errorf("%s is %s", n.Name, n.State)
		}
	}
	if len(keys) != count || len(kinds) != 1 {
		return fmt.Errorf("keys: %v", keys)
	}
	return nil
}

// The gossip's key and the ring's authority are exchanged while one node is down and another is cut off for a while; all
// come back, restarts work, a machine joins by a new token, and a certificate of the old authority is worth nothing.
func TestFeature_R1_RotateKeys(t *testing.T) {
	r := newRing(t, 3).start()
	first, second, third := r.nodes[0], r.nodes[1], r.nodes[2]
	before, _, err := r.keysOf(first)
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(asked *Node, what string) {
		t.Helper()
		begun := time.Now()
		out, errs, code := asked.Shoal("ring", "rotate", what)
		if code != 0 {
			t.Fatalf("rotate %s: %s%s\n%s", what, out, errs, asked.output)
		}
		t.Logf("%s took %s: %s", what, time.Since(begun).Round(time.Millisecond), strings.TrimSpace(out))
	}
	// While all are there, asked of a node that does not lead as often as not.
	rotate(second, "keys")
	rotate(third, "authority")
	first.Eventually(20*time.Second, func() error { return r.sameKeys(first, 3) })
	now, _, err := r.keysOf(first)
	if err != nil {
		t.Fatal(err)
	}
	if now["n1"] == before["n1"] {
		t.Error("the keys are the same as before")
	}
	if out, _, _ := first.Shoal("ring", "status"); strings.Contains(out, "not over") || strings.Count(out, "\nauthority ") != 1 {
		t.Errorf("ring status:\n%s", out)
	}

	// While one is down.
	third.Kill()
	down := func() error {
		list, err := first.Client().Ring(context.Background(), false)
		if err != nil {
			return err
		}
		for _, n := range list.Nodes {
			if n.Name == "n3" && (n.State == "Ready" || n.State == "Unsteady") {
				return fmt.Errorf("n3 is ready")
			}
		}
		return nil
	}
	first.Eventually(20*time.Second, down)
	rotate(first, "keys")
	rotate(first, "authority")
	begun := time.Now()
	third.Start()
	first.Eventually(60*time.Second, func() error { return r.sameKeys(first, 3) })
	t.Logf("who was down is back after %s", time.Since(begun).Round(time.Millisecond))

	// While one is cut off, and goes on.
	r.cable(third, "down")
	first.Eventually(20*time.Second, down)
	rotate(first, "authority")
	rotate(second, "keys")
	rotate(second, "keys")
	r.cable(third, "up")
	begun = time.Now()
	first.Eventually(90*time.Second, func() error { return r.sameKeys(first, 3) })
	t.Logf("who was cut off is back after %s", time.Since(begun).Round(time.Millisecond))

	for _, n := range r.nodes {
		n.Stop()
		n.Start()
		first.Eventually(60*time.Second, func() error { return r.sameKeys(first, 3) })
	}
	fourth := NewNode(t)
	fourth.name, fourth.address = "n4", "192.168.77.4"
	r.nodes = append(r.nodes, fourth)
	r.plug(r.nodes[3])
	token, err := second.Client().CreateToken(context.Background(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	fourth.Args = append(fourth.Args, "--join", token.Address, "--token", token.Text)
	fourth.Start()
	first.Eventually(30*time.Second, func() error { return r.sameKeys(first, 4) })
}
