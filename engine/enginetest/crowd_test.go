package enginetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/keep"
	"github.com/shoal-dev/shoal/engine/place"
)

// TestFault_N16 has 200 machines join within ten seconds and 100 of them vanish at once. Each that came is one entry and its
// report, each that went is two, the loss and the end of its lease; every pod that was lost has one substitute, none moves a
// second time, and no pod of a machine that stayed moves at all.
func TestFault_N16(t *testing.T) {
	const many = 200
	r := NewRing(t)
	r.Up(1)
	web := func(replicas int) string {
		return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main, image: web, resources: {requests: {cpu: 100m}}}]}}
`, replicas)
	}
	r.Commit("dev", web(30))
	r.Settle()
	k := keep.New(Node(1).ID)
	alive := map[place.NodeID]bool{Node(1).ID: true}
	gone := map[place.NodeID]int64{}
	heard := map[place.NodeID]int64{}
	looks := 0
	look := func() (inputs []cluster.Input) {
		looks++
		for id := range alive {
			if gone[id] == 0 {
				heard[id] = r.Now - Epoch - 90
			}
		}
		inputs, _ = k.Look(keep.Facts{
			State: r.State, Term: 3, Alive: alive, Heard: heard, Now: r.Now - Epoch, Wall: r.Now,
			Up: func() *cluster.NodeUp { return Node(1) },
		})
		for _, in := range inputs {
			r.Must(in)
			k.Taken(in)
		}
		return inputs
	}
	pods := func() map[control.PodID]place.NodeID {
		at := map[control.PodID]place.NodeID{}
		for _, p := range r.Pods() {
			if p.Active() {
				at[p.ID] = p.Node
			}
		}
		return at
	}
	before := pods()
	entries := len(r.Log)
	for n := 2; n <= many+1; n++ {
		r.Now += 50
		up := Node(n)
		token := cluster.Token{ID: fmt.Sprint("t", n), Hash: strings.Repeat("0", 64), Expires: r.Now + 60_000}
		r.Must(cluster.Input{Token: &token})
		r.Must(cluster.Input{Join: &cluster.Join{
			Token: token.ID, Node: up.ID, Name: up.Name, Key: strings.Repeat("A", 43) + "=", Address: up.Address, Peer: 7947, Gossip: 7946,
		}})
		r.Must(cluster.Input{NodeUp: up})
		alive[up.ID] = true
		for id := range alive {
			k.Received(id, 3, r.Now-Epoch)
		}
		look()
	}
	if got := len(r.Log) - entries; got > 3*many+2 {
		t.Errorf("%d entries for %d machines that joined", got, many)
	}
	for id, node := range pods() {
		if before[id] != node {
			t.Errorf("pod %s moved to %s as machines joined", id, node)
		}
	}
	r.Commit("dev", web(600))
	r.Settle()
	for range 30 { // they renew
		r.Now += 500
		for id := range alive {
			k.Received(id, 3, r.Now-Epoch)
		}
		look()
	}

	before, entries = pods(), len(r.Log)
	lost := map[control.PodID]bool{}
	for n := many/2 + 2; n <= many+1; n++ {
		gone[Node(n).ID] = r.Now + 1400 + int64(n%10)*130 // when the gossip knows
		for id, node := range before {
			if node == Node(n).ID {
				lost[id] = true
			}
		}
	}
	looks = 0
	for range 200 { // 20 s
		r.Now += 100
		for id, at := range gone {
			alive[id] = r.Now < at
		}
		for id := range alive {
			if gone[id] == 0 {
				k.Received(id, 3, r.Now-Epoch)
			}
		}
		look()
		r.settleOn(func(id place.NodeID) bool { return gone[id] == 0 })
		r.Advance(0)
	}
	said := len(r.Log) - entries
	made := 0
	for id, node := range pods() {
		switch was, there := before[id]; {
		case !there:
			made++
			if gone[node] != 0 {
				t.Errorf("a substitute is on %s, which is gone", node)
			}
		case was != node:
			t.Errorf("pod %s moved from %s to %s", id, was, node)
		}
	}
	if made != len(lost) || len(lost) == 0 {
		t.Errorf("%d pods were made for %d that were lost", made, len(lost))
	}
	down, ended, losses := 0, 0, 0
	for _, e := range r.Log[entries:] {
		if d := e.Input.NodeDown; d != nil && d.Fenced {
			ended++
		} else if d != nil {
			down += 1 + len(d.More)
			losses++
		}
	}
	if down != many/2 || ended != many/2 {
		t.Errorf("%d losses and %d ends of leases were said of %d machines", down, ended, many/2)
	}
	if most := many + 2*len(lost) + 100; said > most { // the losses, and a report or two of each substitute
		t.Errorf("%d entries, at most %d are wanted", said, most)
	}
	if losses > 3 {
		t.Errorf("the losses came as %d entries", losses)
	}
	t.Logf("%d pods of %d lost and made once; %d entries in 20 s, %d of them losses; %d looks", len(lost), len(before), said, losses, looks)
	Check(t, r)
}

// settleOn plays what Settle does, on the nodes that are there.
func (r *Ring) settleOn(there func(place.NodeID) bool) {
	r.T.Helper()
	for moved := true; moved; {
		moved = false
		for _, p := range r.Pods() {
			switch {
			case p.Node == "" || !there(p.Node):
			case p.Deleting != 0:
				r.Must(Gone(p))
				moved = true
			case p.Ready == 0 && p.Finished == 0:
				r.Must(Report(p, "Running", true))
				moved = true
			}
		}
	}
}
