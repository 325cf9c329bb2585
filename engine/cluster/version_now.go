//go:build !shoal_next && !shoal_before

package cluster

const ahead = 0
