package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/place"
)

// TestFault_L11 loses two of three voters for good: the third goes on alone when it is told to, with all it has, and
// others join it.
func TestFault_L11(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot %t", snapshot), func(t *testing.T) {
			r := threeVoters(t, nil)
			for n := range 20 {
				mustAppend(t, r.node(three[n%3]), ref("a", old(n), fmt.Sprint(n)))
			}
			r.agree(three...)
			if snapshot {
				r.await("a snapshot", func() bool { return r.node("n3").Snapshot() == nil }) // none while members change
			}
			want := dump(r.node("n3"))
			for _, n := range three {
				r.kill(n)
			}
			dir := r.dir + "/n3"
			was, err := GoAlone(dir, "n3", nil)
			if err != nil {
				t.Fatal(err)
			}
			var knew []string
			for _, m := range was.Members {
				knew = append(knew, string(m.ID))
			}
			if strings.Join(knew, " ") != "n1 n2 n3" || was.Last == 0 || was.Committed == 0 || was.Committed > was.Last {
				t.Errorf("it was %+v", was)
			}
			if _, err := GoAlone(dir, "n3", nil); err == nil || !strings.Contains(err.Error(), "only member already") {
				t.Errorf("a second time: %v", err)
			}
			l := r.open("n3")
			if got := dump(l); got != want || members(l) != "n3*" || !l.Leading() {
				t.Errorf("%s, members %s, want %s", got, members(l), want)
			}
			mustAppend(t, l, ref("b", "", "1"))
			for _, n := range []place.NodeID{"n4", "n5"} {
				r.open(n)
				if err := l.AddMember(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			r.await("three voters", func() bool { return members(l) == "n3* n4* n5*" })
			mustAppend(t, r.node("n5"), ref("b", "1", "2"))
			r.agree("n3", "n4", "n5")
		})
	}
	if _, err := GoAlone(t.TempDir(), "n3", nil); err == nil {
		t.Error("went alone where nothing is")
	}
}

// All nodes end at once under load, and begin at once: all that was acknowledged is there.
func TestAllRestartAtOnce(t *testing.T) {
	r := threeVoters(t, often)
	c := r.clients(3, three...)
	for range 3 {
		c.progress()
		for _, n := range three {
			r.kill(n)
		}
		for _, n := range three {
			r.open(n)
		}
	}
	c.progress()
	c.end(three...)
}
