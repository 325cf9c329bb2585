//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// ended waits until a node's agent has ended by itself, and returns its exit status.
func (n *Node) ended() int {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(30 * time.Second):
		n.t.Fatalf("the agent goes on\n%s", n.output)
	}
	code := n.agent.ProcessState.ExitCode()
	n.agent = nil
	return code
}

// One after the other of two leaves: the voter hands over to the other, its pods move without a gap, its agent ends and does
// not start again, the machine joins anew, and the last node stays.
func TestFeature_R1_Leave(t *testing.T) {
	r := newRing(t, 2).start()
	first, second := r.nodes[0], r.nodes[1]
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": strings.Replace(replicated("one"), "replicas: 3", "replicas: 2", 1)}).Push("first")
	first.Eventually(60*time.Second, func() error {
		if on := podsOn(first.Status()); len(on) != 2 {
			return fmt.Errorf("%v", on)
		}
		return nil
	})
	load := second.load(page+"/env", 2)
	begun := time.Now()
	out, errs, code := first.Shoal("leave")
	if code != 0 || !strings.Contains(out, "n1 has left ring") {
		t.Fatalf("leave: exit %d\n%s%s\n%s\n--- n2 ---\n%s", code, out, errs, first.output, second.output)
	}
	t.Logf("it left within %s:\n%s", time.Since(begun).Round(time.Millisecond), out)
	load.end(t)
	if code := first.ended(); code != 4 {
		t.Errorf("its agent ended with %d\n%s", code, first.output)
	}
	list, err := second.Client().Ring(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Nodes) != 1 || !list.Nodes[0].Voter || !list.Nodes[0].Leader || !list.Nodes[0].Now.HoldsKey {
		t.Errorf("the ring is %+v", list.Nodes)
	}
	second.Eventually(30*time.Second, func() error { return ready(second.Status(), 2) })

	for range 2 { // as a supervisor does
		first.StartWithoutWaiting()
		if code := first.ended(); code != 4 || !strings.Contains(first.output.String(), "to join again, ask a node of the ring for a token") {
			t.Errorf("started again it ended with %d\n%s", code, first.output)
		}
	}
	if out, errs, code := second.Shoal("leave"); code != 1 || !strings.Contains(errs, "n2 is the only node of its ring") {
		t.Errorf("the last one leaves: exit %d\n%s%s", code, out, errs)
	}

	token, err := second.Client().CreateToken(context.Background(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	args := first.Args
	first.Args = append(args, "--join", token.Address, "--token", token.Text)
	first.Start()
	second.Eventually(30*time.Second, func() error {
		list, err := second.Client().Ring(context.Background(), true)
		if err != nil {
			return err
		}
		if len(list.Nodes) != 2 || list.Nodes[0].State != "Ready" || list.Nodes[0].Now == nil || list.Nodes[0].Now.Index != list.Nodes[1].Now.Index {
			return fmt.Errorf("%+v", list.Nodes)
		}
		return nil
	})
	// The same by hand, from another node: drained first, then removed.
	if out, errs, code := first.Shoal("drain", "n2"); code != 0 {
		t.Fatal(out, errs)
	}
	if _, errs, code := first.Shoal("remove", "n2"); code != 0 {
		t.Fatalf("remove: %s\n%s", errs, second.output)
	}
	if code := second.ended(); code != 4 {
		t.Errorf("the agent that was removed ended with %d\n%s", code, second.output)
	}
	first.Eventually(30*time.Second, func() error { return ready(first.Status(), 2) })
}
