package main

import (
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// ring status says which keys there are, and when an exchange of them is not over.
func TestPrintKeys(t *testing.T) {
	node := func(name string, gossip, authorities string) api.Node {
		return api.Node{Name: name, Now: &api.NodeState{Keys: api.Keys{Gossip: strings.Fields(gossip), Authorities: strings.Fields(authorities)}}}
	}
	for _, tt := range []struct {
		name  string
		nodes []api.Node
		want  string
	}{
		{"at rest", []api.Node{node("n1", "aa", "0123456789abcdef"), node("n2", "aa", "0123456789abcdef"), {Name: "n3"}}, "gossip key aa\nauthority 0123456789ab\n"},
		{"on its way", []api.Node{node("n1", "bb aa", "x"), node("n2", "aa bb", "x"), node("n3", "aa", "x")}, `gossip key aa on n3
gossip key aa,bb on n2
gossip key bb,aa on n1
  an exchange is not over: shoal ring rotate keys goes on with it
authority x
`},
		{"not over on all", []api.Node{node("n1", "aa", "x y"), node("n2", "aa", "x y")}, `gossip key aa
authority x,y on n1, n2
  an exchange is not over: shoal ring rotate authority goes on with it
`},
	} {
		var b strings.Builder
		printKeys(&b, tt.nodes)
		if b.String() != tt.want {
			t.Errorf("%s:\n%s\nwant:\n%s", tt.name, b.String(), tt.want)
		}
	}
}

func TestPrintRotation(t *testing.T) {
	var b strings.Builder
	printRotation(&b, api.Rotation{What: rotateAuthority, From: "a", To: "b", Nodes: []string{"n1", "n2"}, Away: []string{"n3"}})
	if want := "the ring's authority was a and is b on n1, n2\naway, and to take it over: n3\n"; b.String() != want {
		t.Error(b.String())
	}
}
