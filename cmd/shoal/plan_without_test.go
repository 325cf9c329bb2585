package main

import (
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func TestPrintLosses(t *testing.T) {
	quiet := api.Loss{Nodes: []string{"n3"}, Voters: 3, Lost: 1, Majority: true, Moved: 1, Pods: []api.Change{{Op: "move", Name: "Deployment dev/web", Why: "1 pod starts on n1"}}}
	bad := api.Loss{
		Nodes: []string{"n2"}, Voters: 3, Lost: 1, Majority: true, Moved: 2, Waiting: 1,
		Pods:     []api.Change{{Op: "wait", Name: "Deployment dev/disk", Why: "1 pod finds no node: 0/3 nodes: 1 down"}},
		Services: []api.Change{{Op: "down", Name: "Service dev/disk", Why: "nobody answers until a node is back"}, {Op: "gap", Name: "Service dev/redis", Why: "x"}},
	}
	none := api.Loss{Nodes: []string{"n1", "n2"}, Voters: 3, Lost: 2, Waiting: 4}
	for _, tt := range []struct {
		name   string
		losses []api.Loss
		want   string
	}{
		{"none asked", nil, ""},
		{"one", []api.Loss{quiet}, `without n3: 1 pod starts elsewhere, everything has a place; 2 of 3 voters are left
~ Deployment dev/web: 1 pod starts on n1
`},
		{"many", []api.Loss{none, bad, quiet}, `WITHOUT  MAJORITY      START ELSEWHERE  NO PLACE  SERVICES DOWN  AWAY FOR A TIME
n1,n2    NO (1 of 3)   0                4         -              -
n2       yes (2 of 3)  2                1         dev/disk       dev/redis
n3       yes (2 of 3)  1                0         -              -

without n1, n2: no majority is left, 1 of 3 voters: nothing is decided or started elsewhere

without n2: 2 pods start elsewhere, 1 finds no place; 2 of 3 voters are left
! Deployment dev/disk: 1 pod finds no node: 0/3 nodes: 1 down
! Service dev/disk: nobody answers until a node is back
~ Service dev/redis: x
`},
	} {
		var b strings.Builder
		printLosses(&b, tt.losses)
		if b.String() != tt.want {
			t.Errorf("%s:\n%s\nwant:\n%s", tt.name, b.String(), tt.want)
		}
	}
	if harms(quiet) || !harms(bad) || !harms(none) {
		t.Error("what harms")
	}
}
