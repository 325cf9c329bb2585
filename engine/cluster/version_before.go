//go:build shoal_before

package cluster

// ahead makes a binary that says it knows the engine version before, by which rings of two versions are tested.
const ahead = -1
