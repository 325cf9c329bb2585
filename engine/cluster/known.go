package cluster

import "fmt"

// asOf is the input as a binary has it that knows the engine version and no later one. Such a binary drops what it does not
// know when it decodes an entry. One that knows it does the same until the ring runs that version: who steps the same entries
// comes to the same State, whoever has asked for what too early. early says so, in words, if nothing is left of the input.
//
// Whatever a version adds to the inputs stands here (and in testdata/ledger/fields.txt, which a test compares).
func (in Input) asOf(engine int) (known Input, early string) {
	drop := func(what string, since int) {
		early = fmt.Sprintf("%s engine version %d, the ring runs %d: every node must be upgraded first", what, since, engine)
	}
	if engine < TaintsSince {
		if in.Taint != nil {
			in.Taint = nil
			drop("taints want", TaintsSince)
		}
		if in.NodeUp != nil && in.NodeUp.Taints != nil {
			up := *in.NodeUp
			up.Taints = nil
			in.NodeUp = &up
		}
	}
	if engine < PressureSince && in.Pressure != nil {
		in.Pressure = nil
		drop("pressure wants", PressureSince)
	}
	if engine < RebalanceSince && in.Rebalance != nil {
		in.Rebalance = nil
		drop("rebalance wants", RebalanceSince)
	}
	if engine < ClockSince && in.Clock != nil {
		in.Clock = nil
		drop("clock wants", ClockSince)
	}
	if engine < TunnelSince && in.NodeUp != nil && in.NodeUp.Tunnel != (Tunnel{}) {
		up := *in.NodeUp
		up.Tunnel = Tunnel{}
		in.NodeUp = &up
	}
	if engine < TogetherSince && in.NodeDown != nil && in.NodeDown.More != nil {
		down := *in.NodeDown
		down.More = nil
		in.NodeDown = &down
	}
	if engine < PromotionSince {
		if in.Evidence != nil {
			in.Evidence = nil
			drop("evidence wants", PromotionSince)
		}
		if in.Preview != nil {
			in.Preview = nil
			drop("previews want", PromotionSince)
		}
		if in.Activate != nil && (in.Activate.Tree != "" || in.Activate.Policy != nil || in.Activate.Claim != nil || in.Activate.Verify != nil) {
			a := *in.Activate
			a.Tree, a.Policy, a.Claim, a.Verify = "", nil, nil, nil
			in.Activate = &a
		}
	}
	return in, early
}
