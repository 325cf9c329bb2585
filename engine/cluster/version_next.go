//go:build shoal_next

package cluster

// ahead makes a binary of the next engine version, by which upgrades are tested before there is one.
const ahead = 1
