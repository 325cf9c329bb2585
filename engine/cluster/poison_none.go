//go:build !shoal_poison

package cluster

// planted is a bug in a rule: there is none.
func planted(Input) {}
