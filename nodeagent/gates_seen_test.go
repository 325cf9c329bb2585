package nodeagent

import "testing"

// Gates that were closed are asked again as soon as anything that they go by may have changed, and in any case after a time.
func TestSeen(t *testing.T) {
	s := seen{index: 7, leading: true, list: "01", tip: "02", approvals: 3, at: 1000, next: 5000}
	later := func(change func(*seen)) seen { n := s; n.at, n.next = 2000, 0; change(&n); return n }
	for _, c := range []struct {
		what  string
		now   seen
		still bool
	}{
		{"nothing", later(func(*seen) {}), true},
		{"an entry", later(func(n *seen) { n.index++ }), false},
		{"the lead", later(func(n *seen) { n.leading = false }), false},
		{"the declarations", later(func(n *seen) { n.list = "03" }), false},
		{"the branch", later(func(n *seen) { n.tip = "03" }), false},
		{"an approval", later(func(n *seen) { n.approvals++ }), false},
		{"the time of a gate", later(func(n *seen) { n.at = 5000 }), false},
		{"a clock that was set back", later(func(n *seen) { n.at = 999 }), false},
	} {
		if got := s.still(c.now); got != c.still {
			t.Errorf("%s: %t", c.what, got)
		}
	}
	s.next = 0
	if !s.still(later(func(n *seen) { n.at = 1000 + lookAgain - 1 })) || s.still(later(func(n *seen) { n.at = 1000 + lookAgain })) {
		t.Error("not after a time")
	}
	if (seen{}).still(later(func(*seen) {})) {
		t.Error("what was never seen has not changed")
	}
}
