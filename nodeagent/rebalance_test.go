package nodeagent

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// movesShown are moves as text; a pod's name varies.
func movesShown(r api.Rebalance) string {
	var b strings.Builder
	for _, m := range r.Moves {
		fmt.Fprintf(&b, "%s: %s -> %s: %s\n", m.Workload, m.From, m.To, m.Why)
	}
	return fmt.Sprintf("%sgoing %t, moved %d", b.String(), r.Going, r.Moved)
}

// What a rebalance would do is shown before, and what it does while it goes on; then there is nothing to do.
func TestPlanRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := nodesOf(t, 3, 3, joined(replicas("web", 3), replicas("api", 6), onNode(deployment("disk"), "n1")))
		id := enginetest.Node(2).ID
		for _, in := range []cluster.Cordon{{ID: id, Drain: true}, {ID: id, Off: true}} {
			m.ring.Must(cluster.Input{Cordon: &in})
			m.ring.Settle()
		}
		hash := m.ring.State.Hash()
		shown := func(what, want string) {
			t.Helper()
			r, err := n.PlanRebalance(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			expect(t, what, movesShown(r), want)
		}
		shown("before", `Deployment dev/web: n1 -> n2: 1 other of its owner on its node, 0 there
Deployment dev/api: n1 -> n2: 2 others of its owner on its node, 0 there
Deployment dev/api: n3 -> n2: 2 others of its owner on its node, 1 there
going false, moved 0`)
		if m.ring.State.Hash() != hash {
			t.Error("a plan changed the ring")
		}
		if err := n.Rebalance(t.Context(), true); err == nil || !strings.Contains(err.Error(), "none goes on") {
			t.Error(err)
		}
		if err := n.Rebalance(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		shown("while it goes on", `Deployment dev/web: n1 -> n2: 1 other of its owner on its node, 0 there
Deployment dev/api: n1 -> n2: 2 others of its owner on its node, 0 there
going true, moved 2`)
		m.ring.Settle()
		shown("after", "going false, moved 0")
	})
}
