package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/ledger"
)

// Who asks to go on alone is refused as long as others answer, and told why.
func TestAloneIsRefusedWhileOthersAnswer(t *testing.T) {
	r := ringLeft{id: "0123456789abcdef0123456789abcdef"}
	for i := range 6 {
		id := place.NodeID(fmt.Sprint("id", i+1))
		r.nodes = append(r.nodes, &cluster.Node{Node: place.Node{ID: id, Name: fmt.Sprint("n", i+1)}})
		r.members = append(r.members, ledger.Member{ID: id, Voter: i < 5})
	}
	for _, tt := range []struct {
		name    string
		answers string // nodes, each with whom it follows after a colon
		want    string
	}{
		{"nobody", "", ""},
		{"one that follows another", "2: 3:id4", "n3 answers, and follows n4: the ring is alive, start this node's agent"},
		{"one that follows this one still", "2:id1", "n2 answer: of those that are left"},
		{"two of five voters, and no leader", "2: 3:", "n2, n3 answer, and with this node 3 of 5 voters are there: start its agent"},
		{"one of five voters", "2:", "n2 answer: of those that are left the one that is furthest"},
		{"one that does not vote", "6:", "n6 answer: of those that are left"},
	} {
		answers := map[place.NodeID]api.NodeState{}
		for word := range strings.FieldsSeq(tt.answers) {
			id, leader, _ := strings.Cut(word, ":")
			answers[place.NodeID("id"+id)] = api.NodeState{Leader: leader}
		}
		err := r.judge("id1", answers)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), "alive") && !strings.Contains(err.Error(), "--ring "+r.id) {
			t.Errorf("%s: %v does not say how to do it all the same", tt.name, err)
		}
	}
	r.nodes = r.nodes[1:]
	if err := r.judge("id1", nil); err == nil || !strings.Contains(err.Error(), "where node id1 is reached cannot be read here") {
		t.Errorf("a member without an address: %v", err)
	}
}
