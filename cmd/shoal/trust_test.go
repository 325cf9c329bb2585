package main

import (
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// TestFeature_P3_WithdrawnElsewhere sees that an approval that another node has seen withdrawn is gone here too, and a branch is not.
func TestFeature_P3_WithdrawnElsewhere(t *testing.T) {
	ada, bob := trust.ApprovalRefs+"prod/c/ada", trust.ApprovalRefs+"prod/c/bob"
	stand := []source.Ref{{Name: "refs/heads/main", ID: "1"}, {Name: "refs/heads/old", ID: "2"}, {Name: ada, ID: "3"}, {Name: "refs/tags/v1", ID: "4"}}
	theirs := []source.Ref{{Name: "refs/heads/main", ID: "5"}, {Name: bob, ID: "6"}}
	got := ""
	for _, r := range merged(stand, theirs) {
		got += r.Name + " " + string(r.ID) + "\n"
	}
	if want := "refs/heads/main 5\nrefs/heads/old 2\n" + bob + " 6\nrefs/tags/v1 4\n"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
