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

// A machine that loses its power, the one with what may run once, and with it the leader every other time: its stateless
// pods run elsewhere at once, what may run once only when its lease is over. With the power back all is well.
func TestFeature_R2_LostNode(t *testing.T) {
	r := newRing(t, 3).start()
	first := r.nodes[0]
	first.Image("probe:v1")
	first.Repository(map[string]string{
		"apps/web/web.cue": strings.Replace(webApp("probe:v1", "one"), "image:", "replicas: 3\n\timage:", 1),
		"apps/one/one.cue": beatingApp,
	}).Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 4) })
	w := r.witness("one")
	var stateless, fenced times
	var lost *Node
	var rest []*Node
	count := rounds(2, 20)
	for i := range count {
		if lost != nil {
			lost.powerOn()
			r.settled(4)
		}
		lost, rest = r.around(nodeOf(first.Status(), "one-"))
		leads := r.leader() == lost.name
		if i%2 == 1 && !leads {
			r.lead(lost)
			leads = true
		}
		w.look()
		lost.powerOff()
		begun := time.Now()
		r.nodes = append(rest[:2:2], lost)
		first = rest[0]
		first.Eventually(30*time.Second, func() error { return first.readyOff(lost.name, "web-", 3) })
		stateless = append(stateless, time.Since(begun))
		first.Eventually(60*time.Second, func() error { return first.readyOff(lost.name, "one-", 1) })
		took := time.Since(begun)
		fenced = append(fenced, took)
		t.Logf("%s was lost (leader: %t): stateless %s, once only %s", lost.name, leads, stateless[i].Round(time.Millisecond), took.Round(time.Millisecond))
		if took < 7200*time.Millisecond {
			t.Errorf("it ran elsewhere before the lease of %s was over", lost.name)
		}
		for _, n := range rest {
			n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
		}
		w.look()
	}
	t.Logf("stateless pods ready elsewhere: %s; once only: %s", stateless, fenced)
	w.ran(count + 1)
	w.alone(t)
	lostForGood(t, r, lost, rest)
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
