//go:build shoal_poison

package cluster

// planted is a bug in a rule, in a binary by which it is tested what a ring does then: what is activated in an environment
// of this name panics.
func planted(in Input) {
	if in.Activate != nil && in.Activate.Environment == "poison" {
		panic("a planted bug")
	}
}
