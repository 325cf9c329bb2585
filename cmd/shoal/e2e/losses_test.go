//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// A machine that loses its power, the one with what may run once, and with it the leader every other time: its stateless
// pods run elsewhere at once, what may run once only when its lease is over. With the power back all is well.
func TestFeature_R2_LostNode(t *testing.T) {
	var all losses
	for i := range rounds(1, 10) {
		t.Run(fmt.Sprint(i), func(t *testing.T) { all.ofTwo(t) })
	}
	t.Logf("stateless pods ready elsewhere: %s; once only: %s", all.stateless, all.fenced)
}

// losses is after which time pods of lost machines were ready elsewhere.
type losses struct{ stateless, fenced times }

// ofTwo has two machines of a ring lose their power, one after the other: a ring whose machines come and go more often does
// not rely on them.
func (l *losses) ofTwo(t *testing.T) {
	r, w := chaos(t)
	lost, rest := r.around(nodeOf(r.nodes[0].Status(), "one-"))
	l.of(t, r, w, lost, rest)
	lost.powerOn()
	r.settled(4)
	lost, rest = r.around(nodeOf(r.nodes[0].Status(), "one-"))
	r.lead(lost)
	l.of(t, r, w, lost, rest)
	w.ran(3)
	w.alone(t)
	lostForGood(t, r, lost, rest)
}

// of has one machine lose its power, the one with what may run once.
func (l *losses) of(t *testing.T, r *ring, w *witness, lost *Node, rest []*Node) {
	t.Helper()
	leads := r.leader() == lost.name
	w.look()
	lost.powerOff()
	begun := time.Now()
	r.nodes = append(rest[:2:2], lost)
	rest[0].Eventually(30*time.Second, func() error { return rest[0].readyOff(lost.name, "web-", 3) })
	stateless := time.Since(begun)
	rest[0].Eventually(60*time.Second, func() error { return rest[0].readyOff(lost.name, "one-", 1) })
	fenced := time.Since(begun)
	l.stateless, l.fenced = append(l.stateless, stateless), append(l.fenced, fenced)
	t.Logf("%s was lost (leader: %t): stateless %s, once only %s", lost.name, leads, stateless.Round(time.Millisecond), fenced.Round(time.Millisecond))
	if fenced < 7200*time.Millisecond {
		t.Errorf("it ran elsewhere before the lease of %s was over", lost.name)
	}
	for _, n := range rest {
		n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
	}
	w.look()
}

// lostForGood has another machine take the place of one, whichever was lost: those that are left can take it in.
func lostForGood(t *testing.T, r *ring, lost *Node, rest []*Node) {
	t.Helper()
	witness := rest[0]
	spare := NewNode(t)
	spare.name, spare.address = "n4", "192.168.77.4"
	r.nodes = append(r.nodes, spare)
	r.plug(spare)
	var token api.Token
	witness.Eventually(20*time.Second, func() (err error) {
		token, err = witness.Client().CreateToken(context.Background(), time.Hour)
		return err
	})
	spare.Args = append(spare.Args, "--join", token.Address, "--token", token.Text)
	spare.Start()
	if _, errs, code := witness.Shoal("remove", lost.name); code != 0 {
		t.Fatal(errs)
	}
	witness.Eventually(30*time.Second, func() error {
		list, err := witness.Client().Ring(context.Background(), false)
		if err != nil {
			return err
		}
		for _, n := range list.Nodes {
			if n.State != "Ready" || !n.Voter {
				return fmt.Errorf("%+v", list.Nodes)
			}
		}
		if len(list.Nodes) != 3 {
			return fmt.Errorf("%d nodes", len(list.Nodes))
		}
		return nil
	})
}
